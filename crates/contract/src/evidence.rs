//! The evidence record: the fourth contract. One reviewable line per event, metadata and digests
//! only, made from the journal when a bundle is exported.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, ObjectId};
use crate::ids::{
    ApprovalId, CallId, CorrelationId, DecisionId, EventId, OperationKey, PrincipalId, RequestId,
};
use crate::time::UtcTime;
use crate::trace::TraceId;

/// The version that this build writes.
pub const EVIDENCE_VERSION: &str = "1.1.0";

/// One event as a reviewer gets it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceRecord {
    /// Version of this contract.
    pub evidence_version: String,
    /// The event.
    pub event_id: EventId,
    /// The request.
    pub request_id: RequestId,
    /// Across systems.
    pub correlation_id: CorrelationId,
    /// The trace.
    pub trace_id: TraceId,
    /// Position in the run, from 0.
    pub sequence: u64,
    /// When.
    pub occurred_at_utc: UtcTime,
    /// What, such as `effect.completed`.
    pub event_type: String,
    /// Who.
    pub actor_ref: PrincipalId,
    /// Whose.
    pub tenant_ref: String,
    /// The event that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause_ref: Option<EventId>,
    /// Versions of the contracts that it was recorded under, by name.
    pub contract_versions: BTreeMap<String, String>,
    /// Calls it is about.
    pub tool_invocations: Vec<CallId>,
    /// Decisions it is about.
    pub policy_decisions: Vec<DecisionId>,
    /// Approvals that it gives or rests on.
    pub approvals: Vec<ApprovalId>,
    /// Effects outside the workspace that it intends or tells the outcome of, by operation key.
    pub side_effects: Vec<OperationKey>,
    /// Repository, branch or paths that it changed.
    pub changed_resources: Vec<String>,
    /// What went wrong or was refused, as codes.
    pub failures: Vec<String>,
    /// What was done to recover: a new holder, a rollback.
    pub recovery_steps: Vec<String>,
    /// Checks with their results, as `NAME: RESULT`.
    pub evaluation_results: Vec<String>,
    /// What came out: a tree or a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_output_ref: Option<ObjectId>,
    /// Digest of the stored event, which the chain covers.
    pub event_digest: Digest,
    /// What was left out and why: `none`, `payload_digest_only`.
    pub redaction: String,
    /// How long it is kept.
    pub retention_policy: String,
}
