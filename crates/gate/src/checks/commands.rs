//! Formatter, linter, tests and scanners, declared by the policy or detected on the base, run on
//! the result and, where that says no, on the base: so that "broken by this change" and "already
//! failing" differ.

use std::collections::HashMap;

use cofferdam_contract::capability::Boundary;
use cofferdam_contract::check::{CheckResult, CheckStatus, Finding};
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_policy::profile::WorkspacePath;
use cofferdam_policy::{CheckCommand, CommandKind};

use crate::checks::detect::detect;
use crate::formats::sarif::{self, Level, Reported};
use crate::ports::{CommandOutcome, Side};
use crate::{FindingCode, Findings, GateInput};

/// What one command came to, less its time.
struct Concluded {
    status: CheckStatus,
    summary: String,
    findings: Vec<Finding>,
}

/// Runs every command and tells of each as it ends.
pub fn run(input: &GateInput<'_>, emit: &mut dyn FnMut(CheckResult)) {
    if input.changeset.is_empty() {
        return;
    }
    let gate = &input.policy.tables().gate;
    let detected = if gate.detect { detect(input) } else { Ok(Vec::new()) };
    let known = detected.as_deref().unwrap_or_default();
    for command in gate.commands.iter().chain(known) {
        emit(OneCommand { input, command, output: None, duration_ms: 0 }.result());
    }
    if let Err(problem) = &detected {
        emit(CheckResult {
            name: "detect".to_owned(),
            status: CheckStatus::Errored,
            required: true,
            summary: format!("could not be done: {problem}"),
            findings: Vec::new(),
            output: None,
            duration_ms: 0,
        });
    }
}

/// One command on its way through the gate.
struct OneCommand<'a> {
    input: &'a GateInput<'a>,
    command: &'a CheckCommand,
    /// Of the last run on the result.
    output: Option<Digest>,
    /// Summed over runs.
    duration_ms: u64,
}

impl OneCommand<'_> {
    fn result(mut self) -> CheckResult {
        let concluded = match self.command.kind {
            CommandKind::Scanner => self.scan(),
            CommandKind::Formatter | CommandKind::Linter | CommandKind::Test => self.compare(),
        };
        let Concluded { status, summary, findings } = concluded
            .unwrap_or_else(|problem| self.errored(format!("could not be run: {problem}")));
        CheckResult {
            name: self.command.name.clone(),
            status,
            required: self.command.required,
            summary,
            findings: Findings::from(findings).into_kept(),
            output: self.output,
            duration_ms: self.duration_ms,
        }
    }

    fn run_on(&mut self, side: Side) -> Result<CommandOutcome, Problem> {
        let outcome = self.input.runner.run(side, self.command)?;
        self.duration_ms = self.duration_ms.saturating_add(outcome.duration_ms);
        if side == Side::Result {
            self.output = outcome.output;
        }
        Ok(outcome)
    }

    fn finding(&self, code: FindingCode, message: impl AsRef<str>) -> Finding {
        code.at(&self.command.name, None, None, message)
    }

    /// A command that is not required does not stop the gate: it is then said, and escalates.
    fn errored(&self, summary: String) -> Concluded {
        let findings = vec![self.finding(FindingCode::CommandNotRun, &summary)];
        Concluded { status: CheckStatus::Errored, summary, findings }
    }

    fn compare(&mut self) -> Result<Concluded, Problem> {
        let on_result = self.run_on(Side::Result)?;
        if on_result.succeeded() {
            let summary = "passes on the result".to_owned();
            return Ok(Concluded { status: CheckStatus::Passed, summary, findings: Vec::new() });
        }
        if on_result.end == CallEnd::NotStarted {
            return self.not_started();
        }
        if !on_result.failed() {
            return Ok(self.errored(format!("{} on the result", words(&on_result))));
        }
        let on_base = self.run_on(Side::Base)?;
        if on_base.failed() {
            let summary =
                format!("{} on the result, {} on the base", words(&on_result), words(&on_base));
            let findings = vec![self.finding(FindingCode::CommandFailedBefore, &summary)];
            return Ok(Concluded { status: CheckStatus::FailedBefore, summary, findings });
        }
        if self.command.kind == CommandKind::Test && self.run_on(Side::Result)?.succeeded() {
            let summary = "failed once and passed once on the result".to_owned();
            let findings = vec![self.finding(FindingCode::TestFlaky, &summary)];
            return Ok(Concluded { status: CheckStatus::Passed, summary, findings });
        }
        let summary =
            format!("{} on the result, {} on the base", words(&on_result), words(&on_base));
        let code = match self.command.required {
            true => FindingCode::CommandFailed,
            false => FindingCode::CommandFailedOptional,
        };
        let findings = vec![self.finding(code, &summary)];
        Ok(Concluded { status: CheckStatus::Failed, summary, findings })
    }

    /// A program that starts on the base and not on the result is the change's doing; one that
    /// starts on neither is not there.
    fn not_started(&mut self) -> Result<Concluded, Problem> {
        let on_base = self.run_on(Side::Base)?;
        if on_base.end == CallEnd::NotStarted {
            return Ok(self.errored("the program cannot be started in the session".to_owned()));
        }
        let summary = "can be started on the base and not on the result".to_owned();
        let code = match self.command.required {
            true => FindingCode::CommandFailed,
            false => FindingCode::CommandFailedOptional,
        };
        let findings = vec![self.finding(code, &summary)];
        Ok(Concluded { status: CheckStatus::Failed, summary, findings })
    }

    /// Takes what the scanner says of the result and not of the base. Its exit code does not count:
    /// scanners differ in what they mean by it.
    fn scan(&mut self) -> Result<Concluded, Problem> {
        let on_result = self.run_on(Side::Result)?;
        let now = match reported(self.input, &on_result) {
            Ok(now) => now,
            Err(why) => return Ok(self.unreadable(format!("on the result: {why}"))),
        };
        if now.is_empty() {
            let summary = "reports nothing on the result".to_owned();
            return Ok(Concluded { status: CheckStatus::Passed, summary, findings: Vec::new() });
        }
        let on_base = self.run_on(Side::Base)?;
        let before = match reported(self.input, &on_base) {
            Ok(before) => before,
            Err(why) => return Ok(self.unreadable(format!("on the base: {why}"))),
        };
        let total = now.len();
        let findings: Vec<Finding> =
            added(&before, &now).iter().filter_map(|it| self.scanned(it)).collect();
        let stops = findings.iter().any(|it| it.code == FindingCode::ScannerError.as_str());
        let status = if stops { CheckStatus::Failed } else { CheckStatus::Passed };
        let summary = format!("{} new of {total} reported on the result", findings.len());
        Ok(Concluded { status, summary, findings })
    }

    fn unreadable(&self, summary: String) -> Concluded {
        let findings = vec![self.finding(FindingCode::ScannerUnreadable, &summary)];
        Concluded { status: CheckStatus::Errored, summary, findings }
    }

    fn scanned(&self, reported: &Reported) -> Option<Finding> {
        let code = match (reported.level, self.command.required) {
            (Level::None, _) => return None,
            (Level::Note, _) => FindingCode::ScannerNote,
            (Level::Error, true) => FindingCode::ScannerError,
            (Level::Warning | Level::Error, _) => FindingCode::ScannerWarning,
        };
        let message = format!("{}: {}", reported.rule, reported.message);
        Some(code.at(&self.command.name, reported.path.as_ref(), reported.line, message))
    }
}

/// How a run ended, in words that are the same each time.
fn words(outcome: &CommandOutcome) -> String {
    match (outcome.end, outcome.exit_code) {
        (CallEnd::Exited, Some(code)) => format!("exits with {code}"),
        (CallEnd::Exited, None) => "exits".to_owned(),
        (CallEnd::Signaled, _) => "dies by a signal".to_owned(),
        (CallEnd::TimedOut, _) => "runs out of time".to_owned(),
        (CallEnd::Stopped, _) => "was stopped".to_owned(),
        (CallEnd::NotStarted, _) => "cannot be started".to_owned(),
        (CallEnd::SessionLost, _) => "lost its session".to_owned(),
    }
}

fn reported(input: &GateInput<'_>, outcome: &CommandOutcome) -> Result<Vec<Reported>, String> {
    if outcome.end != CallEnd::Exited {
        return Err(words(outcome));
    }
    if outcome.truncated {
        return Err("its output is larger than the limit".to_owned());
    }
    let session = &input.policy.tables().session;
    let root = match (session.boundary, session.workspace_path) {
        (Boundary::Native, WorkspacePath::Fixed) => "/workspace",
        // Scanners give relative locations; an absolute one then has no place in the report.
        _ => "",
    };
    sarif::parse(&outcome.stdout, root).map_err(|error| error.to_string())
}

/// What `now` has more often than `before`, by fingerprint.
fn added(before: &[Reported], now: &[Reported]) -> Vec<Reported> {
    let mut known: HashMap<(&str, Option<&RepoPath>, &str), u64> = HashMap::new();
    for it in before {
        *known.entry(it.fingerprint()).or_default() += 1;
    }
    let mut new = Vec::new();
    for (index, it) in now.iter().enumerate() {
        match known.get_mut(&it.fingerprint()) {
            Some(count) if *count > 0 => *count -= 1,
            _ => new.push(index),
        }
    }
    new.into_iter().map(|index| now[index].clone()).collect()
}
