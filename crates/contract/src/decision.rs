//! Policy decisions: half of the third contract. The other half is `approval`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{DecisionId, RequestId};
use crate::time::UtcTime;

/// What policy can answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// Go ahead.
    Allow,
    /// No.
    Deny,
    /// Do this safer thing instead.
    Transform,
    /// Ask a person.
    RequireApproval,
    /// Ask a person with more authority.
    Escalate,
}

/// One answer of the policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyDecision {
    /// Version of this contract.
    pub contract_version: String,
    /// Name of the rule set.
    pub policy_id: String,
    /// Digest of the compiled policy.
    pub policy_version: Digest,
    /// This decision.
    pub decision_id: DecisionId,
    /// The request it belongs to.
    pub request_id: RequestId,
    /// When.
    pub evaluated_at_utc: UtcTime,
    /// What it is about, such as `call:exec`.
    pub scope: String,
    /// What it was decided from: names and digests, not payloads.
    pub inputs: Vec<String>,
    /// The answer.
    pub decision: DecisionKind,
    /// Why, as stable codes.
    pub reason_codes: Vec<String>,
    /// How many approvals it takes.
    pub required_approvals: u32,
    /// Who may give them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_authority: Option<String>,
    /// Until when it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_utc: Option<UtcTime>,
    /// The command with which it can be reviewed.
    pub review_path: String,
}
