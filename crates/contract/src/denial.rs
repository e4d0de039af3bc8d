//! A recorded no, made by the place that enforced it.
//!
//! One shape for every source, so that an agent can plan with it and a person can search it.
//! Targets are as the session knows them: a denial never carries a host path.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CallId, DenialId, RunId, SessionId};
use crate::time::UtcTime;

/// Where a denial was enforced and seen.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DenialSource {
    /// The tool door refused the call before it started.
    ToolPolicy,
    /// A system call was refused by user notification.
    Seccomp,
    /// A decoy was opened. The open itself succeeded: the canary is what it read.
    Decoy,
    /// A limit ended or refused something.
    Limit,
    /// Landlock refused it and the kernel's audit said so.
    Landlock,
    /// The network door.
    Egress,
    /// The model door.
    Gateway,
    /// The gate refused a change.
    Gate,
}

/// What was attempted, as a class that a table can have a row for.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Starting a program through the tool door.
    Execute,
    /// Opening or reading a file.
    Read,
    /// Creating, changing or removing a file.
    Write,
    /// Connecting or sending to an address.
    Connect,
    /// Making a socket of a family that a session has no use for.
    Socket,
    /// Making or entering a namespace.
    Namespace,
    /// Mounting, unmounting or moving mounts.
    Mount,
    /// Looking into or steering another process.
    Trace,
    /// Loading code into, or asking privileged service of, the kernel.
    Kernel,
    /// Using kernel key rings.
    Keyring,
    /// Changing identity, capabilities or file ownership.
    Privilege,
    /// Pushing input into a terminal.
    Terminal,
    /// Using more of something than its limit.
    Resource,
    /// Asking for a grant that was not given.
    Grant,
}

/// The process that tried, as seen at the moment of refusal. Names are what the session claims.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeniedProcess {
    /// Process id inside the session; absent when the source cannot know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Path of the executable inside the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// First argument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv0: Option<String>,
}

/// How sure it is which call a denial belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Attribution {
    /// The enforcement point knew the call.
    Exact,
    /// Derived from what ran at the time.
    Inferred,
}

/// One refusal, or several equal ones coalesced into one record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// This record.
    pub id: DenialId,
    /// The run; absent in a session that no run holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The session it happened in.
    pub session: SessionId,
    /// The call it belongs to, where one was under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    /// How the call was found.
    pub attribution: Attribution,
    /// First time it was seen.
    pub at: UtcTime,
    /// Which enforcement point.
    pub source: DenialSource,
    /// What was attempted.
    pub operation: Operation,
    /// On what: a path inside the session, an address, a system call, a limit. Escaped text.
    pub target: String,
    /// The rule that refused it; stable, such as `seccomp.mount` or `limit.time`.
    pub rule: String,
    /// Why, as a stable code such as `namespace_forbidden`.
    pub reason_code: String,
    /// Who tried.
    pub process: DeniedProcess,
    /// How many times, one after another, within one call.
    pub count: u64,
    /// What may be done instead.
    pub hint: String,
}
