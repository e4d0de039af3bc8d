//! Refusals and failures as the edge shows them: RFC 9457 problem details with stable codes.
//!
//! Each code has a page in `docs/reference/errors.md`. A problem says the cause and the remedy;
//! it never holds a secret or session text that was not escaped.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($name:ident, $text:literal, $outcome:ident, $hint:literal;)*) => {
        /// A stable error code.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $(
                #[doc = $hint]
                $name,
            )*
        }

        impl Code {
            /// Every code, for the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Which exit code it leads to.
            pub fn outcome(self) -> Outcome {
                match self { $(Self::$name => Outcome::$outcome,)* }
            }

            /// What to do about it, in general.
            pub fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
}

/// How a command ended, and its exit code.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done; awaiting approval is done.
    Done = 0,
    /// Something of ours is at fault.
    Internal = 1,
    /// The command line or the input is not right.
    Usage = 2,
    /// Policy says no.
    Refused = 3,
    /// The gate says no.
    GateFailed = 4,
    /// A budget or a time ran out.
    Exhausted = 5,
    /// The boundary cannot be had here.
    BoundaryUnavailable = 6,
    /// The world is not as the command assumed.
    Conflict = 7,
    /// Somebody stopped the run.
    Stopped = 9,
    /// What was to run or to hold did not: the driver failed, or evidence is not what was signed.
    Failed = 10,
}

impl Outcome {
    /// Every outcome, for the reference page.
    pub const ALL: &'static [Self] = &[
        Self::Done,
        Self::Internal,
        Self::Usage,
        Self::Refused,
        Self::GateFailed,
        Self::Exhausted,
        Self::BoundaryUnavailable,
        Self::Conflict,
        Self::Stopped,
        Self::Failed,
    ];

    /// The process exit code.
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

codes! {
    Stopped, "stopped", Stopped, "start a new run, or look at what was done with cofferdam show";
    Internal, "internal", Internal, "this is a defect: please report it with the output of cofferdam doctor --json";
    StorageFailed, "storage_failed", Internal, "see that the directories of state, cache and repository are writable and have room, then run the command again";
    JournalCorrupt, "journal_corrupt", Internal, "run cofferdam journal verify to see where the chain breaks, and restore the state directory from a copy";
    RequestInvalid, "request_invalid", Usage, "correct the named field";
    VersionUnsupported, "version_unsupported", Usage, "use a client of the same major version";
    ConfigurationInvalid, "configuration_invalid", Usage, "correct the named file; cofferdam config check shows the line";
    NotARepository, "not_a_repository", Usage, "name a git repository with --repo";
    RepositoryUnsupported, "repository_unsupported", Usage, "see docs/reference/errors.md for what is supported and how to get there";
    RevisionUnknown, "revision_unknown", Usage, "name a branch, tag or commit that git log finds in the repository";
    UnbornBranch, "unborn_branch", Usage, "make a first commit, then run the command again";
    RunUnknown, "run_unknown", Usage, "cofferdam list shows the runs";
    SessionUnknown, "session_unknown", Usage, "cofferdam session list shows the sessions";
    PolicyDenied, "policy_denied", Refused, "ask the operator to widen the profile, or stay within it";
    ExecutableUnavailable, "executable_unavailable", Usage, "name an executable that exists in the session: see what it sees with cofferdam exec -- ls /usr/bin";
    ExecutableDenied, "executable_denied", Refused, "use an executable that the profile allows";
    GrantUnsupported, "grant_unsupported", Refused, "ask for read:PATH, write:PATH, debug or exec:CLASS: doors for net, secret and budget are not there yet";
    GrantRefused, "grant_refused", Refused, "name less: a path without credentials that is neither the repository nor above or beneath what runs need";
    GrantUnknown, "grant_unknown", Usage, "cofferdam grants shows the grants and the requests";
    GateFailed, "gate_failed", GateFailed, "read the findings with cofferdam review and start again with a corrected change";
    DriverFailed, "driver_failed", Failed, "read the driver's output with cofferdam show --output";
    BudgetExhausted, "budget_exhausted", Exhausted, "give a larger budget within the profile, or a smaller task";
    TimedOut, "timed_out", Exhausted, "give more time with --timeout, within the profile";
    DeadlinePassed, "deadline_passed", Exhausted, "send a new request with a later deadline";
    BoundaryUnavailable, "boundary_unavailable", BoundaryUnavailable, "run cofferdam doctor: it names what is missing and how to get it";
    SessionLost, "session_lost", BoundaryUnavailable, "start the run again; the cause is in the run's events";
    StaleDigest, "stale_digest", Conflict, "the proposal changed: review it again and approve the digest shown there";
    BaseMoved, "base_moved", Conflict, "run cofferdam recheck, review the new proposal and approve that";
    NotInState, "not_in_state", Conflict, "cofferdam show tells the state of the run and what is possible in it";
    BranchMoved, "branch_moved", Conflict, "someone else wrote the branch; decide by hand what should be kept";
    BranchCheckedOut, "branch_checked_out", Conflict, "merge it where it is checked out: the message shows the command";
    MergeConflict, "merge_conflict", Conflict, "rebase the change: start a new run from the target branch";
    BranchProtected, "branch_protected", Refused, "name a branch that the profile does not protect, or ask the operator";
    RunHeld, "run_held", Conflict, "another process holds the run; it has been told, wait for it or stop the run";
    IdempotencyMismatch, "idempotency_mismatch", Conflict, "the key was used for another request; take a new key";
    EvidenceInvalid, "evidence_invalid", Failed, "the bundle is not what was signed: get it again from its source";
}

/// An RFC 9457 problem.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// `urn:cofferdam:error:CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Stable code.
    pub code: Code,
    /// The cause, one sentence in lower case without a full stop.
    pub detail: String,
    /// The remedy.
    pub hint: String,
    /// The field at fault, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether an effect may have happened that is not recorded.
    pub effect_unknown: bool,
}

impl Problem {
    /// A problem with the code's own hint, not retryable, with no unknown effect.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:cofferdam:error:{}", code.as_str()),
            code,
            detail: detail.into(),
            hint: code.hint().to_owned(),
            field: None,
            retryable: false,
            effect_unknown: false,
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn at(mut self, field: Option<String>) -> Self {
        self.field = field;
        self
    }

    /// A remedy more exact than the code's own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}
