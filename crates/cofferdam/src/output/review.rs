//! What a person reads before they answer: what changed, what the gate found, what was refused,
//! and the question with the commands that answer it.

use std::fmt::Write as _;

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::check::{CheckResult, CheckStatus, Finding, RiskLevel, Severity, Verdict};
use cofferdam_contract::request::RepositorySource;
use cofferdam_contract::text::{counted, escape_bytes};
use cofferdam_engine::{Diff, GrantState, RunView};

use super::{Screen, Tone, painted_diff};

/// One run in a few lines.
pub(crate) fn summary(screen: &Screen, view: &RunView) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<10} {value}");
    };
    line("run", screen.tone(Tone::Strong, view.run.as_str()));
    line("state", state(screen, view));
    if let Some(repository) = &view.repository {
        line("repository", source(repository));
    }
    if let Some(base) = &view.base {
        line("base", base.short().to_owned());
    }
    if let Some(code) = view.driver_exit_code.filter(|code| *code != 0) {
        let more = format!("see cofferdam show {} --output", view.run);
        line("driver", screen.tone(Tone::Careful, &format!("ended with {code}; {more}")));
    }
    if view.workspace == Some(WorkspaceKind::Copy) {
        line("workspace", "a copy of the base, not an overlay".to_owned());
    }
    if view.digest.is_some() {
        line("changed", counted(view.files_changed, "file"));
    }
    if let (Some(verdict), Some(risk)) = (view.verdict, view.risk_level) {
        line("gate", format!("{}, {}", verdict_text(screen, verdict), risk_text(screen, risk)));
    }
    if view.denials > 0 || view.events_incomplete {
        let more = match (view.events_incomplete, view.denials_lost) {
            (false, _) => String::new(),
            (true, 0) => ", and some may be missing (events incomplete)".to_owned(),
            (true, lost) => format!(", and {lost} more were not recorded (events incomplete)"),
        };
        line("denials", format!("{}{more}", view.denials));
    }
    if !view.grants.is_empty() {
        let of = |state| view.grants.iter().filter(|it| it.state == state).count();
        let (live, asked) = (of(GrantState::Live), of(GrantState::Pending));
        let all = view.grants.iter().filter(|it| it.grant.is_some()).count();
        line(
            "grants",
            format!("{all}, {live} live, {asked} asked for: cofferdam grants {}", view.run),
        );
    }
    if let Some(branch) = &view.branch {
        let commit = view.commit.as_ref().map_or("not yet written", |commit| commit.short());
        line("branch", format!("{} ({commit})", escape_bytes(branch.as_bytes())));
    }
    line("cost", format!("{} ms, tools {} ms", view.cost.wall_ms, view.cost.tool_ms));
    if let Some(problem) = &view.problem {
        line("problem", screen.tone(Tone::Bad, &escape_bytes(problem.detail.as_bytes())));
        line("", escape_bytes(problem.hint.as_bytes()));
    }
    out
}

/// The same, and what can be done with the run.
pub(crate) fn shown(screen: &Screen, view: &RunView) -> String {
    let mut out = summary(screen, view);
    if let Some(next) = next(&view.state, view.run.as_str()) {
        let _ = writeln!(out, "{:<10} {next}", "next");
    }
    out
}

/// What can be done with a run in this state; nothing with one that is over.
fn next(state: &str, run: &str) -> Option<String> {
    Some(match state {
        "awaiting_approval" => format!("cofferdam review {run}"),
        "applied" => {
            format!("cofferdam merge {run} --into BRANCH, or cofferdam rollback {run}")
        }
        "merged" => format!("cofferdam rollback {run}"),
        "preparing" | "working" | "checking" | "applying" | "merging" | "rolling_back" => {
            format!("cofferdam resume {run}, or cofferdam stop {run}")
        }
        _ => return None,
    })
}

/// Everything that an answer should rest on.
pub(crate) fn review(screen: &Screen, view: &RunView, diff: &Diff) -> String {
    let mut out = painted_diff(screen, &diff.patch);
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(&summary(screen, view));
    out.push_str(&checks(screen, &view.checks));
    for left_out in &view.left_out {
        let text = escape_bytes(left_out.as_bytes());
        let _ = writeln!(out, "{} {text}", screen.tone(Tone::Careful, "left out"));
    }
    out.push_str(&question(screen, view));
    out
}

/// The checks and their findings, each with its place.
fn checks(screen: &Screen, checks: &[CheckResult]) -> String {
    let mut out = String::new();
    if !checks.is_empty() {
        let _ = writeln!(out, "\n{}", screen.tone(Tone::Strong, "checks"));
    }
    for check in checks {
        let name = escape_bytes(check.name.as_bytes());
        let summary = escape_bytes(check.summary.as_bytes());
        let _ = writeln!(out, "  {} {name}: {summary}", status_text(screen, check));
        for finding in &check.findings {
            out.push_str(&finding_text(screen, finding));
        }
    }
    out
}

fn finding_text(screen: &Screen, finding: &Finding) -> String {
    let place = match (&finding.path, finding.line) {
        (Some(path), Some(line)) => format!("{path}:{line}: "),
        (Some(path), None) => format!("{path}: "),
        (None, _) => String::new(),
    };
    let tone = match finding.severity {
        Severity::Note => Tone::Faint,
        Severity::Warning => Tone::Careful,
        Severity::Error => Tone::Bad,
    };
    let text = |text: &str| escape_bytes(text.as_bytes());
    format!(
        "    {}{} {}\n      {}\n",
        screen.tone(Tone::Place, &place),
        screen.tone(tone, &text(&finding.code)),
        text(&finding.message),
        text(&finding.hint),
    )
}

/// What is asked of the reader, and how to answer.
fn question(screen: &Screen, view: &RunView) -> String {
    let (Some(digest), "awaiting_approval") = (&view.digest, view.state.as_str()) else {
        return String::new();
    };
    let run = &view.run;
    let mut out = String::new();
    let asked = "Shall exactly this proposal be applied to a branch of its own?";
    let _ = writeln!(out, "\n{}", screen.tone(Tone::Strong, asked));
    let _ = writeln!(out, "  yes     cofferdam approve {run} --digest {digest}");
    let _ = writeln!(out, "  no      cofferdam reject {run} --reason REASON");
    let _ = writeln!(out, "  again   cofferdam recheck {run}");
    out
}

fn state(screen: &Screen, view: &RunView) -> String {
    let tone = match view.state.as_str() {
        "applied" | "merged" => Tone::Good,
        "awaiting_approval" | "rolled_back" => Tone::Careful,
        "failed" | "refused" | "out_of_budget" | "expired" | "interrupted" => Tone::Bad,
        _ => Tone::Strong,
    };
    screen.tone(tone, &view.state.replace('_', " "))
}

/// A repository as people know it.
pub(crate) fn source(source: &RepositorySource) -> String {
    match source {
        RepositorySource::Path(text) | RepositorySource::Url(text) => escape_bytes(text.as_bytes()),
    }
}

fn verdict_text(screen: &Screen, verdict: Verdict) -> String {
    match verdict {
        Verdict::Pass => screen.tone(Tone::Good, "pass"),
        Verdict::Escalate => screen.tone(Tone::Careful, "escalate: needs a closer look"),
        Verdict::Fail => screen.tone(Tone::Bad, "fail"),
    }
}

fn risk_text(screen: &Screen, risk: RiskLevel) -> String {
    match risk {
        RiskLevel::Low => "low risk".to_owned(),
        RiskLevel::Medium => screen.tone(Tone::Careful, "medium risk"),
        RiskLevel::High => screen.tone(Tone::Bad, "high risk"),
    }
}

fn status_text(screen: &Screen, check: &CheckResult) -> String {
    let (tone, text) = match check.status {
        CheckStatus::Passed => (Tone::Good, "passed        "),
        CheckStatus::Failed => (Tone::Bad, "failed        "),
        CheckStatus::FailedBefore => (Tone::Careful, "failed before "),
        CheckStatus::Errored => (Tone::Bad, "errored       "),
        CheckStatus::NotApplicable => (Tone::Faint, "not applicable"),
    };
    screen.tone(tone, text)
}

/// A repository as lists have it.
pub(crate) fn plain_source(source: &RepositorySource) -> String {
    match source {
        RepositorySource::Path(text) | RepositorySource::Url(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use cofferdam_contract::events::EndState;

    use super::super::words;
    use super::next;

    #[test]
    fn nothing_is_said_to_be_possible_with_what_is_over() {
        for state in [
            EndState::Refused,
            EndState::Failed,
            EndState::Cancelled,
            EndState::OutOfBudget,
            EndState::Expired,
            EndState::Interrupted,
            EndState::Rejected,
            EndState::Unchanged,
            EndState::Closed,
        ] {
            assert_eq!(next(&words(&state).replace(' ', "_"), "run_1"), None, "{state:?}");
        }
        assert_eq!(next("awaiting_approval", "run_1").unwrap(), "cofferdam review run_1");
        assert!(next("working", "run_1").unwrap().contains("stop run_1"));
    }
}
