//! A person's answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::approval::Approval;
use crate::digest::Digest;
use crate::ids::PrincipalId;

/// A person said no.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// Who.
    pub rejecter: PrincipalId,
    /// To which proposal.
    pub proposal: Digest,
    /// Why, escaped.
    pub reason: String,
}

events! {
    /// A person's answer.
    ApprovalEvent {
        /// See [`Approval`].
        Granted(Approval) = "approval.granted",
        /// See [`Rejection`].
        Rejected(Rejection) = "approval.rejected",
    }
}
