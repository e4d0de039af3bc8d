//! A person's answer to one proposal: the other half of the third contract.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{ApprovalId, PrincipalId, RunId};
use crate::time::UtcTime;

/// Binds an approver to exactly one proposal. It authorises nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approval {
    /// Version of this contract.
    pub contract_version: String,
    /// This approval.
    pub approval_id: ApprovalId,
    /// The run whose proposal it is.
    pub run: RunId,
    /// Who approved.
    pub approver: PrincipalId,
    /// By what right, such as `local-owner`.
    pub authority: String,
    /// What may be done: `apply`.
    pub action: String,
    /// To what: the branch that will be written.
    pub resource: String,
    /// The proposal.
    pub proposal: Digest,
    /// When.
    pub approved_at_utc: UtcTime,
    /// Until when it may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_utc: Option<UtcTime>,
    /// Remarks of the approver, escaped.
    pub conditions: Vec<String>,
}
