//! The two rules that turn check results into a decision: the verdict and the risk level.

use cofferdam_contract::change::Changeset;
use cofferdam_contract::check::{CheckResult, CheckStatus, Finding, RiskLevel, Severity, Verdict};

use crate::codes::{FindingCode, escalates};

/// Changes with more paths than this are of medium risk at least.
pub const SMALL_FILES_MAX: usize = 10;
/// Changes with more lines than this are of medium risk at least.
pub const SMALL_LINES_MAX: u64 = 300;

fn findings(checks: &[CheckResult]) -> impl Iterator<Item = &Finding> {
    checks.iter().flat_map(|it| &it.findings)
}

/// Fail if a required check failed or could not be done, or if any finding is an error; escalate if
/// any finding does; else pass.
pub fn verdict(checks: &[CheckResult]) -> Verdict {
    let stands_in_the_way = |it: &CheckResult| {
        it.required && matches!(it.status, CheckStatus::Failed | CheckStatus::Errored)
    };
    if checks.iter().any(stands_in_the_way)
        || findings(checks).any(|it| it.severity == Severity::Error)
    {
        return Verdict::Fail;
    }
    if findings(checks).any(|it| escalates(&it.code)) {
        return Verdict::Escalate;
    }
    Verdict::Pass
}

/// High if it did not pass, touches dependencies or could not be checked in full; medium if it is
/// not small, has warnings, or a check failed that is not required or failed before; else low.
pub fn risk_level(checks: &[CheckResult], verdict: Verdict, changeset: &Changeset) -> RiskLevel {
    let depends = FindingCode::DependencyAdded.as_str();
    let unsure = checks.iter().any(|it| it.status == CheckStatus::Errored);
    if verdict != Verdict::Pass || unsure || findings(checks).any(|it| it.code == depends) {
        return RiskLevel::High;
    }
    let lines: u64 = changeset.files.iter().map(crate::text::lines_changed).sum();
    let large = changeset.files.len() > SMALL_FILES_MAX || lines > SMALL_LINES_MAX;
    let failed =
        |it: &CheckResult| matches!(it.status, CheckStatus::Failed | CheckStatus::FailedBefore);
    let warned = findings(checks).any(|it| it.severity >= Severity::Warning);
    if large || warned || checks.iter().any(failed) { RiskLevel::Medium } else { RiskLevel::Low }
}
