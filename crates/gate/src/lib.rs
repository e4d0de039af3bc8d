//! The gate: looks at a change and says pass, escalate or fail, with findings that have a place.
//!
//! Every check is one file in `checks/` and one line in [`registry::CHECKS`]. Contents come through
//! [`Contents`], commands run through [`Runner`], so this crate must never know: files, git,
//! processes, sandboxes or the journal. Everything that it parses is hostile text on the host: each
//! parser is strict, bounded and tested never to panic. Giving clearance to apply is not its part.

mod cache;
pub mod checks;
pub mod codes;
pub mod findings;
pub mod formats;
pub mod ports;
pub mod registry;
pub mod text;
pub mod verdict;

use cofferdam_contract::change::Changeset;
use cofferdam_contract::check::{CheckResult, CheckStatus, GateReport, Severity};
use cofferdam_contract::ports::Clock;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::refusals::Refusals;
use cofferdam_policy::Policy;

pub use codes::FindingCode;
pub use findings::{FINDINGS_MAX, Findings};
pub use ports::{CommandOutcome, Contents, Runner, SCAN_BYTES_MAX, Side};
pub use registry::{CHECKS, Check, Run};

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
    /// What was refused while the change was made, as the run's events tell.
    pub refusals: &'a Refusals,
    /// For durations.
    pub clock: &'a dyn Clock,
}

/// Runs every check in registry order and decides. `progress` is told of each as it ends.
pub fn check(input: &GateInput<'_>, progress: &dyn Fn(&CheckResult)) -> GateReport {
    let contents = cache::Cached::new(input.contents);
    let input = &GateInput { contents: &contents, ..*input };
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
    At(usize, Findings),
}

fn concluded(name: &'static str, looked: Result<Looked, Problem>) -> CheckResult {
    let (status, summary, findings) = match looked {
        Err(problem) => (CheckStatus::Errored, format!("could not be done: {problem}"), Vec::new()),
        Ok(Looked::NotApplicable(why)) => (CheckStatus::NotApplicable, why.to_owned(), Vec::new()),
        Ok(Looked::At(count, findings)) => {
            let failed = findings.count(Severity::Error) > 0;
            let status = if failed { CheckStatus::Failed } else { CheckStatus::Passed };
            (status, findings.summary(count), findings.into_kept())
        }
    };
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
