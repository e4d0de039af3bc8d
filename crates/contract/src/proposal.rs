//! What a person approves: one exact change, and the digest that stands for it.
//!
//! Invariant 5: the digest covers base commit, result tree, patch, policy version and check
//! results. Whatever of them differs makes another proposal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, ObjectId};

/// The five things that an approval is bound to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// Starting commit.
    pub base: ObjectId,
    /// Result tree.
    pub tree: ObjectId,
    /// SHA-256 of the patch as it is shown.
    pub patch: Digest,
    /// SHA-256 of the compiled policy.
    pub policy_version: Digest,
    /// SHA-256 of the check results.
    pub checks: Digest,
}

impl Proposal {
    /// The digest that `approve --digest` names.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(&[
            b"cofferdam proposal v1",
            self.base.as_str().as_bytes(),
            self.tree.as_str().as_bytes(),
            self.patch.as_bytes(),
            self.policy_version.as_bytes(),
            self.checks.as_bytes(),
        ])
    }
}
