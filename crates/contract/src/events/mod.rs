//! Everything that can happen, an enum per noun, and the envelope that every event travels in.
//!
//! Events hold metadata and digests. Session text (arguments, output, patches, task text) goes to
//! blobs, so that deleting it leaves the chain whole. A new field is optional with a default; a
//! changed meaning is a new event type and an upcaster.

/// Declares an enum of events with their type names.
macro_rules! events {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident($data:ty) = $kind:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(tag = "type", content = "data", deny_unknown_fields)]
        #[allow(clippy::large_enum_variant, reason = "the larger one is the usual one")]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $kind)] $variant($data),)*
        }

        impl $name {
            /// The event type.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)* }
            }
        }
    };
}

mod approval;
mod budget;
mod call;
mod effect;
mod grant;
mod run;
mod session;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

pub use approval::{ApprovalEvent, Clearance, Rejection};
pub use budget::{BudgetEvent, Exhausted, Reserved, Settled};
pub use call::{CallEnd, CallEvent, CallOutcome, Decided, Started};
pub use effect::{EffectEvent, EffectFailure, EffectIntent, EffectOutcome};
pub use grant::{
    GrantEnd, GrantEvent, GrantExpired, GrantRefused, GrantRequested, GrantRevoked, GrantUsed,
    Granted,
};
pub use run::{
    Admitted, Attested, BaseCommit, Checked, Checkpointed, End, EndState, Prepared, Rechecking,
    Resumed, RunEvent, Worked,
};
pub use session::{Closed, DenialEvent, Lost, Opened, SessionEvent};

use crate::ids::{EventId, PrincipalId, RunId};
use crate::time::UtcTime;
use crate::trace::Correlation;

/// Version of the envelope and of the event types that this build writes.
pub const EVENT_VERSION: u32 = 1;

/// What happened. In JSON: `{"type": "run.admitted", "data": {…}}`.
#[derive(Clone, PartialEq, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EventBody {
    /// To the run as a whole.
    Run(RunEvent),
    /// To its session.
    Session(SessionEvent),
    /// To a call.
    Call(CallEvent),
    /// A refusal.
    Denial(DenialEvent),
    /// A person's answer.
    Approval(ApprovalEvent),
    /// Outside the workspace.
    Effect(EffectEvent),
    /// To the budget.
    Budget(BudgetEvent),
    /// To a grant.
    Grant(GrantEvent),
}

impl<'de> Deserialize<'de> for EventBody {
    /// Dispatches on the noun, so that an error is about the right enum.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let kind = value.get("type").and_then(serde_json::Value::as_str).unwrap_or_default();
        let noun = kind.split('.').next().unwrap_or_default().to_owned();
        let body = match noun.as_str() {
            "run" => serde_json::from_value(value).map(Self::Run),
            "session" => serde_json::from_value(value).map(Self::Session),
            "call" => serde_json::from_value(value).map(Self::Call),
            "denial" => serde_json::from_value(value).map(Self::Denial),
            "approval" => serde_json::from_value(value).map(Self::Approval),
            "effect" => serde_json::from_value(value).map(Self::Effect),
            "budget" => serde_json::from_value(value).map(Self::Budget),
            "grant" => serde_json::from_value(value).map(Self::Grant),
            _ => return Err(D::Error::custom("unknown event type")),
        };
        body.map_err(D::Error::custom)
    }
}

impl EventBody {
    /// The event type, such as `run.admitted`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Run(event) => event.kind(),
            Self::Session(event) => event.kind(),
            Self::Call(event) => event.kind(),
            Self::Denial(event) => event.kind(),
            Self::Approval(event) => event.kind(),
            Self::Effect(event) => event.kind(),
            Self::Budget(event) => event.kind(),
            Self::Grant(event) => event.kind(),
        }
    }
}

/// One record of a run's journal, as it is stored and hashed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// [`EVENT_VERSION`] of the writer.
    pub version: u32,
    /// This event.
    pub id: EventId,
    /// The run.
    pub run: RunId,
    /// Position in the run, from 0, without gaps.
    pub sequence: u64,
    /// Which holder of the run wrote it; grows with every take-over.
    pub epoch: u64,
    /// When.
    pub at: UtcTime,
    /// Who.
    pub actor: PrincipalId,
    /// Trace, request and correlation ids.
    pub correlation: Correlation,
    /// The event that led to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<EventId>,
    /// What happened.
    pub body: EventBody,
}
