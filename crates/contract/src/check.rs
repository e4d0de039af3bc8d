//! What the gate says about a change: findings, check results, verdict and risk level.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::path::RepoPath;

/// How much a finding weighs.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// A person should look at it.
    Warning,
    /// The change cannot be applied as it is.
    Error,
}

/// One thing a check has to say, with its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The check that found it.
    pub check: String,
    /// Stable code, such as `protected_path`.
    pub code: String,
    /// Weight.
    pub severity: Severity,
    /// Where; absent for a finding about the change as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RepoPath>,
    /// Line in the result, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What was found, escaped, without secrets.
    pub message: String,
    /// What may be done about it.
    pub hint: String,
}

/// How one check ended.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Nothing against the change.
    Passed,
    /// The change is at fault.
    Failed,
    /// It fails on the base as well: not this change's doing, shown all the same.
    FailedBefore,
    /// It could not be done; a required check that errs fails the gate.
    Errored,
    /// It has nothing to look at in this change; the reason is in the summary.
    NotApplicable,
}

/// The result of one check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    /// Name in the registry or of the declared command.
    pub name: String,
    /// How it ended.
    pub status: CheckStatus,
    /// Whether the gate needs it.
    pub required: bool,
    /// One line for people.
    pub summary: String,
    /// What it found.
    pub findings: Vec<Finding>,
    /// Digest of the full output, kept as a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Digest>,
    /// How long it took. Not part of the proposal's digest.
    pub duration_ms: u64,
}

/// What the gate decides.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// May be applied once a person has approved it.
    Pass,
    /// May be applied once a person with more authority has approved it.
    Escalate,
    /// May not be applied.
    Fail,
}

/// How much care a change needs.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RiskLevel {
    /// Small and ordinary.
    Low,
    /// Larger, or with warnings.
    Medium,
    /// Touches what is protected, or dependencies, or could not be checked in full.
    High,
}

/// The gate's whole answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateReport {
    /// Every check, in registry order.
    pub checks: Vec<CheckResult>,
    /// The decision.
    pub verdict: Verdict,
    /// The risk.
    pub risk_level: RiskLevel,
}

impl GateReport {
    /// The digest that a proposal carries: names, statuses and findings, without durations, so
    /// that checking the same thing twice gives the same proposal.
    pub fn digest(&self) -> Digest {
        let mut steady = self.clone();
        for check in &mut steady.checks {
            check.duration_ms = 0;
            check.output = None;
        }
        let bytes = serde_json::to_vec(&steady).unwrap_or_default();
        Digest::of_parts(&[b"cofferdam gate report v1", &bytes])
    }
}
