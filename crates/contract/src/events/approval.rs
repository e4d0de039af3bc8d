//! A person's answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::approval::Approval;
use crate::check::Verdict;
use crate::digest::Digest;
use crate::ids::{ApprovalId, PrincipalId};
use crate::time::UtcTime;

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

/// The gate's signed permission to apply one proposal: verdict and approvals together suffice.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clearance {
    /// Which proposal.
    pub proposal: Digest,
    /// What the gate had decided.
    pub verdict: Verdict,
    /// The approvals that it rests on.
    pub approvals: Vec<ApprovalId>,
    /// When.
    pub at: UtcTime,
    /// Which key signed it.
    pub key_id: String,
    /// Ed25519 over [`Clearance::statement`], hexadecimal.
    pub signature: String,
}

impl Clearance {
    /// The bytes that are signed.
    pub fn statement(proposal: &Digest, verdict: Verdict, approvals: &[ApprovalId]) -> Vec<u8> {
        let mut text = format!("cofferdam clearance v1\n{proposal}\n{verdict:?}\n");
        for approval in approvals {
            text.push_str(approval.as_str());
            text.push('\n');
        }
        text.into_bytes()
    }
}

events! {
    /// A person's answer.
    ApprovalEvent {
        /// See [`Approval`].
        Granted(Approval) = "approval.granted",
        /// See [`Rejection`].
        Rejected(Rejection) = "approval.rejected",
        /// See [`Clearance`].
        Cleared(Clearance) = "approval.cleared",
    }
}
