//! What happens to a session: its opening with the boundary as it really is, its end, and the
//! refusals in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::capability::CapabilityReport;
use crate::denial::Denial;
use crate::ids::SessionId;

/// A session is ready.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The session.
    pub session: SessionId,
    /// What it is for: `work`, or `check` with the check's name.
    pub purpose: String,
    /// The boundary.
    pub report: CapabilityReport,
}

/// A session is gone, and every process of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// The session.
    pub session: SessionId,
    /// Denials that were seen, coalesced ones counted each.
    pub denials: u64,
    /// Denials that could not be recorded.
    pub denials_lost: u64,
}

/// Records that were lost on the way to the journal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// Where.
    pub source: String,
}

events! {
    /// To a session.
    SessionEvent {
        /// See [`Opened`].
        Opened(Opened) = "session.opened",
        /// See [`Closed`].
        Closed(Closed) = "session.closed",
    }
}

events! {
    /// A refusal, or the loss of some.
    DenialEvent {
        /// See [`Denial`].
        Recorded(Denial) = "denial.recorded",
        /// See [`Lost`].
        Lost(Lost) = "denial.lost",
    }
}
