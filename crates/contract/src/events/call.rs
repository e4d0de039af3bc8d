//! What happens to a call: decided, started, ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decision::PolicyDecision;
use crate::digest::Digest;
use crate::ids::{CallId, SessionId};

/// Policy answered about a call.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The call.
    pub call: CallId,
    /// The answer.
    pub decision: PolicyDecision,
}

/// A call is about to start: its intent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The call.
    pub call: CallId,
    /// Where.
    pub session: SessionId,
    /// The tool's name.
    pub tool: String,
    /// The executable as it was asked for, escaped; absent for tools that run none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Blob of the whole input, redacted.
    pub input: Digest,
}

/// How a call came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// It exited.
    Exited,
    /// A signal ended it.
    Signaled,
    /// Its time ran out.
    TimedOut,
    /// It was stopped.
    Stopped,
    /// It could not be started.
    NotStarted,
    /// The session died.
    SessionLost,
}

/// What came of a call.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallOutcome {
    /// The call.
    pub call: CallId,
    /// How it ended.
    pub end: CallEnd,
    /// Exit code, where it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal, where one ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Blob of standard output, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Digest>,
    /// Blob of standard error, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Digest>,
    /// Output was cut at its limit.
    pub truncated: bool,
    /// How long it took.
    pub duration_ms: u64,
    /// Refusals during it.
    pub denials: u64,
}

events! {
    /// To a call.
    CallEvent {
        /// See [`Decided`]; recorded when the answer is not a plain allow.
        Decided(Decided) = "call.decided",
        /// See [`Started`].
        Started(Started) = "call.started",
        /// See [`CallOutcome`].
        Ended(CallOutcome) = "call.ended",
    }
}
