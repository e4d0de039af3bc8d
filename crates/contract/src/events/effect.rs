//! Effects outside the workspace: intent before, outcome after, each under one operation key.
//!
//! Invariant 6. The intent holds everything that the effect depends on, time and author included,
//! so that doing it again after a crash yields the same objects.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::ObjectId;
use crate::ids::{OperationKey, PrincipalId};
use crate::problem::Problem;
use crate::time::UtcTime;

/// What is about to be done to a repository.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EffectIntent {
    /// Write the approved tree as one commit on a branch of its own.
    Apply {
        /// Names the effect.
        key: OperationKey,
        /// The branch, in full: `refs/heads/cofferdam/…`.
        branch: String,
        /// Parent of the commit.
        base: ObjectId,
        /// Tree of the commit.
        tree: ObjectId,
        /// Message of the commit, trailers included.
        message: String,
        /// Author and committer.
        author: PrincipalId,
        /// Author and committer time.
        at: UtcTime,
    },
    /// Move a target branch to the applied commit, or to a merge with it.
    Merge {
        /// Names the effect.
        key: OperationKey,
        /// The branch, in full.
        branch: String,
        /// Where it must still be.
        expected: ObjectId,
        /// Where it will be.
        commit: ObjectId,
    },
    /// Take back what was applied or merged.
    Rollback {
        /// Names the effect.
        key: OperationKey,
        /// The branch, in full.
        branch: String,
        /// Where it must still be.
        expected: ObjectId,
        /// Where it was before; absent if it was not there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restore: Option<ObjectId>,
    },
}

impl EffectIntent {
    /// The key.
    pub fn key(&self) -> &OperationKey {
        match self {
            Self::Apply { key, .. } | Self::Merge { key, .. } | Self::Rollback { key, .. } => key,
        }
    }

    /// The branch, in full.
    pub fn branch(&self) -> &str {
        match self {
            Self::Apply { branch, .. }
            | Self::Merge { branch, .. }
            | Self::Rollback { branch, .. } => branch,
        }
    }
}

/// What came of an effect.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectOutcome {
    /// Names the effect.
    pub key: OperationKey,
    /// Where the branch was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<ObjectId>,
    /// Where it is now; absent if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ObjectId>,
}

/// An effect that did not happen.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectFailure {
    /// Names the effect.
    pub key: OperationKey,
    /// Why. Nothing was written.
    pub problem: Problem,
}

events! {
    /// Outside the workspace.
    EffectEvent {
        /// See [`EffectIntent`].
        Intended(EffectIntent) = "effect.intended",
        /// See [`EffectOutcome`].
        Completed(EffectOutcome) = "effect.completed",
        /// See [`EffectFailure`].
        Failed(EffectFailure) = "effect.failed",
    }
}
