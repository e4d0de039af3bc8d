//! What may be asked of a run: a closed set. A command that is illegal in a state is refused by
//! name before anything is written.
//!
//! Whoever holds a run carries commands out. Others put them into its inbox with an operation key
//! and ring its bell.

use cofferdam_contract::digest::Digest;
use cofferdam_contract::grant::{GrantKind, GrantRef};
use cofferdam_contract::ids::{GrantId, GrantRequestId, PrincipalId};
use serde::{Deserialize, Serialize};

/// A command for an existing run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Apply exactly the proposal with this digest.
    Approve {
        /// The digest that was reviewed.
        digest: Digest,
    },
    /// End the run without a branch.
    Reject {
        /// Why.
        reason: String,
    },
    /// Check once more, on the base branch as it is now.
    Recheck {},
    /// Go on with a run whose holder was lost.
    Resume {},
    /// End the run at once.
    Stop {},
    /// Move a branch of the repository to what was applied.
    Merge {
        /// The branch's short name.
        into: String,
    },
    /// Take back what was applied or merged.
    Rollback {},
    /// Give the working session one thing more.
    Grant {
        /// The grant's id, chosen by whoever gives it.
        grant: GrantId,
        /// What is widened; the request's where absent.
        kind: Option<GrantKind>,
        /// The session's request that it answers.
        request: Option<GrantRequestId>,
        /// For how many milliseconds.
        for_ms: Option<u64>,
        /// How many calls may use it.
        uses: Option<u64>,
        /// Why.
        reason: String,
    },
    /// Take a grant back, or refuse a request.
    Revoke {
        /// Which.
        what: GrantRef,
        /// Why.
        reason: String,
    },
}

/// The kinds of command, for tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CommandKind {
    /// See [`Command::Approve`].
    Approve,
    /// See [`Command::Reject`].
    Reject,
    /// See [`Command::Recheck`].
    Recheck,
    /// See [`Command::Resume`].
    Resume,
    /// See [`Command::Stop`].
    Stop,
    /// See [`Command::Merge`].
    Merge,
    /// See [`Command::Rollback`].
    Rollback,
    /// See [`Command::Grant`].
    Grant,
    /// See [`Command::Revoke`].
    Revoke,
}

impl CommandKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Approve,
        Self::Reject,
        Self::Recheck,
        Self::Resume,
        Self::Stop,
        Self::Merge,
        Self::Rollback,
        Self::Grant,
        Self::Revoke,
    ];

    /// The command's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Recheck => "recheck",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Merge => "merge",
            Self::Rollback => "rollback",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
        }
    }
}

impl Command {
    /// Which kind it is.
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::Approve { .. } => CommandKind::Approve,
            Self::Reject { .. } => CommandKind::Reject,
            Self::Recheck {} => CommandKind::Recheck,
            Self::Resume {} => CommandKind::Resume,
            Self::Stop {} => CommandKind::Stop,
            Self::Merge { .. } => CommandKind::Merge,
            Self::Rollback {} => CommandKind::Rollback,
            Self::Grant { .. } => CommandKind::Grant,
            Self::Revoke { .. } => CommandKind::Revoke,
        }
    }
}

/// A command and who gives it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// Who, as the edge authenticated them.
    pub by: PrincipalId,
    /// What.
    pub command: Command,
}
