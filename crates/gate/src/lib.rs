//! The gate: looks at a change and says pass, escalate or fail, with findings that have a place.
//!
//! Every check is one file in `checks/` and one line in [`registry::CHECKS`]. Contents come through
//! [`Contents`], commands run through [`Runner`], so this crate must never know: files, git,
//! processes, sandboxes or the journal. Everything that it parses is hostile text on the host: each
//! parser is strict, bounded and tested never to panic. Giving clearance to apply is not its part.

pub mod checks;
pub mod codes;
pub mod formats;
pub mod ports;
pub mod registry;
pub mod text;
pub mod verdict;

use cofferdam_contract::change::Changeset;
use cofferdam_contract::check::{CheckResult, CheckStatus, Finding, GateReport, Severity};
use cofferdam_contract::ports::Clock;
use cofferdam_contract::problem::Problem;
use cofferdam_policy::Policy;

pub use codes::FindingCode;
pub use ports::{CommandOutcome, Contents, Runner, SCAN_BYTES_MAX, Side};
pub use registry::{CHECKS, Check, Run};

/// Most findings that one check reports; the rest is counted in its summary.
pub const FINDINGS_MAX: usize = 200;

/// What the gate looks at.
pub struct GateInput<'a> {
    /// The compiled policy of the run.
    pub policy: &'a Policy,
    /// What differs between base and result.
    pub changeset: &'a Changeset,
    /// The bytes on both sides.
    pub contents: &'a dyn Contents,
    /// Runs commands in fresh sessions.
    pub runner: &'a dyn Runner,
    /// Paths that the session left and the result does not hold, escaped.
    pub left_out: &'a [String],
    /// For durations.
    pub clock: &'a dyn Clock,
}

/// Runs every check in registry order and decides. `progress` is told of each as it ends.
pub fn check(input: &GateInput<'_>, progress: &dyn Fn(&CheckResult)) -> GateReport {
    let mut checks = Vec::new();
    for it in CHECKS {
        match it.run {
            Run::Findings(look) => {
                let started = input.clock.now();
                let mut result = concluded(it.name, look(input));
                result.duration_ms = input.clock.now().ms_since(started);
                progress(&result);
                checks.push(result);
            }
            Run::Results(run) => run(input, &mut |result: CheckResult| {
                progress(&result);
                checks.push(result);
            }),
        }
    }
    let verdict = verdict::verdict(&checks);
    let risk_level = verdict::risk_level(&checks, verdict, input.changeset);
    GateReport { checks, verdict, risk_level }
}

/// What a check over the changeset came to.
pub enum Looked {
    /// There was nothing in this change that it looks at, and why.
    NotApplicable(&'static str),
    /// It looked at this many things and found these.
    At(usize, Vec<Finding>),
}

fn concluded(name: &'static str, looked: Result<Looked, Problem>) -> CheckResult {
    let (status, summary, findings) = match looked {
        Err(problem) => (CheckStatus::Errored, format!("could not be done: {problem}"), Vec::new()),
        Ok(Looked::NotApplicable(why)) => (CheckStatus::NotApplicable, why.to_owned(), Vec::new()),
        Ok(Looked::At(count, findings)) => {
            let failed = findings.iter().any(|it| it.severity == Severity::Error);
            let status = if failed { CheckStatus::Failed } else { CheckStatus::Passed };
            (status, summary(count, &findings), findings)
        }
    };
    let findings = bounded(findings);
    CheckResult {
        name: name.to_owned(),
        status,
        required: true,
        summary,
        findings,
        output: None,
        duration_ms: 0,
    }
}

fn summary(count: usize, findings: &[Finding]) -> String {
    let of = |severity| findings.iter().filter(|it| it.severity == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let cut = findings.len().saturating_sub(FINDINGS_MAX);
    let more = if cut > 0 { format!(", {cut} findings not shown") } else { String::new() };
    format!("looked at {count}: {errors} errors, {warnings} warnings{more}")
}

/// The weightiest findings, at most [`FINDINGS_MAX`], in the order in which they were found.
pub(crate) fn bounded(mut findings: Vec<Finding>) -> Vec<Finding> {
    if findings.len() > FINDINGS_MAX {
        findings.sort_by_key(|it| std::cmp::Reverse((it.severity, codes::escalates(&it.code))));
        findings.truncate(FINDINGS_MAX);
    }
    findings
}
