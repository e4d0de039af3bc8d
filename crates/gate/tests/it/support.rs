//! A change between two trees in memory, commands that come out as told, and a clock that stands.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use cofferdam_contract::change::{Changeset, FileChange, FileKind, FileVersion};
use cofferdam_contract::check::GateReport;
use cofferdam_contract::digest::{Digest, ObjectId};
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::ports::Clock;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::refusals::Refusals;
use cofferdam_contract::time::UtcTime;
use cofferdam_gate::{CommandOutcome, Contents, GateInput, Runner, SCAN_BYTES_MAX, Side, check};
use cofferdam_policy::{CheckCommand, Policy, Profile, compile};

pub(crate) type Tree = BTreeMap<RepoPath, (FileKind, Vec<u8>)>;

/// A change to be checked.
pub(crate) struct Change {
    pub(crate) base: Tree,
    pub(crate) result: Tree,
    pub(crate) profile: String,
    pub(crate) left_out: Vec<String>,
    pub(crate) refusals: Refusals,
    pub(crate) outcomes: BTreeMap<(Side, String), Vec<CommandOutcome>>,
    pub(crate) unreadable: bool,
}

pub(crate) fn path(text: impl AsRef<[u8]>) -> RepoPath {
    RepoPath::new(text.as_ref()).unwrap()
}

impl Change {
    /// No change, under a profile that runs no commands.
    pub(crate) fn new() -> Self {
        Self {
            base: Tree::new(),
            result: Tree::new(),
            profile: "[gate]\ndetect = false".to_owned(),
            left_out: Vec::new(),
            refusals: Refusals::default(),
            outcomes: BTreeMap::new(),
            unreadable: false,
        }
    }

    pub(crate) fn profile(mut self, text: &str) -> Self {
        text.clone_into(&mut self.profile);
        self
    }

    /// A file that is the same on both sides.
    pub(crate) fn has(mut self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let entry = (FileKind::File, content.as_ref().to_vec());
        self.base.insert(path(&name), entry.clone());
        self.result.insert(path(name), entry);
        self
    }

    /// A file of the base alone, unless the result is given too.
    pub(crate) fn had(mut self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.base.insert(path(name), (FileKind::File, content.as_ref().to_vec()));
        self
    }

    /// A submodule of the base.
    pub(crate) fn had_submodule(mut self, name: impl AsRef<[u8]>) -> Self {
        self.base.insert(path(name), (FileKind::Submodule, vec![]));
        self
    }

    /// A file of the result.
    pub(crate) fn gets(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.becomes(name, FileKind::File, content)
    }

    pub(crate) fn becomes(
        mut self,
        name: impl AsRef<[u8]>,
        kind: FileKind,
        content: impl AsRef<[u8]>,
    ) -> Self {
        self.result.insert(path(name), (kind, content.as_ref().to_vec()));
        self
    }

    pub(crate) fn outcome(mut self, side: Side, name: &str, outcome: CommandOutcome) -> Self {
        self.outcomes.entry((side, name.to_owned())).or_default().push(outcome);
        self
    }

    pub(crate) fn changeset(&self) -> Changeset {
        let paths: std::collections::BTreeSet<&RepoPath> =
            self.base.keys().chain(self.result.keys()).collect();
        let differ = paths.into_iter().filter(|it| self.base.get(it) != self.result.get(it));
        let files = differ.map(|it| self.change_of(it)).collect();
        Changeset { base_tree: object(b"base"), tree: object(b"result"), files }
    }

    fn change_of(&self, path: &RepoPath) -> FileChange {
        let (before, after) = (self.base.get(path), self.result.get(path));
        let lines = |side: Option<&(FileKind, Vec<u8>)>| {
            side.map_or(0, |(_, it)| it.split(|b| *b == b'\n').count() as u64)
        };
        FileChange {
            path: path.clone(),
            before: before.map(version),
            after: after.map(version),
            lines_added: Some(lines(after)),
            lines_removed: Some(lines(before)),
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        let request = serde_json::from_value(serde_json::json!({
            "contractVersion": "1.0.0", "requestId": "req_01jd0000000000000000000000",
            "correlationId": "cor_01jd0000000000000000000000",
            "timestampUtc": "2026-11-21T00:00:00.000Z", "actor": "local:owner", "tenant": "local",
            "taskType": "assist", "task": "", "profile": "assist",
            "repository": {"source": {"path": "/r"}, "base": "HEAD"},
            "driver": {"command": {"argv": ["true"]}},
            "dataClassification": "internal", "retention": "run",
        }));
        let operator = Profile::parse(&self.profile).unwrap();
        compile(&operator, None, &request.unwrap()).unwrap()
    }

    pub(crate) fn report(&self) -> GateReport {
        self.report_of(&self.changeset())
    }

    pub(crate) fn report_of(&self, changeset: &Changeset) -> GateReport {
        let runner = Told(RefCell::new(self.outcomes.clone()));
        let input = GateInput {
            policy: &self.policy(),
            changeset,
            contents: self,
            runner: &runner,
            left_out: &self.left_out,
            refusals: &self.refusals,
            clock: &Stands,
        };
        check(&input, &|_| {})
    }

    /// The verdict, and everything but what passed without a word.
    pub(crate) fn shown(&self) -> String {
        shown(&self.report())
    }
}

pub(crate) fn shown(report: &GateReport) -> String {
    let mut out = format!("{:?}, risk {:?}\n", report.verdict, report.risk_level);
    for check in &report.checks {
        let quiet = matches!(
            check.status,
            cofferdam_contract::check::CheckStatus::Passed
                | cofferdam_contract::check::CheckStatus::NotApplicable
        );
        let builtin = cofferdam_gate::CHECKS.iter().any(|it| it.name == check.name);
        if quiet && builtin && check.findings.is_empty() {
            continue;
        }
        let required = if check.required { "" } else { " (not required)" };
        let _ = writeln!(out, "  {} {:?}{required}: {}", check.name, check.status, check.summary);
        for it in &check.findings {
            let place = it.path.as_ref().map(ToString::to_string).unwrap_or_default();
            let line = it.line.map(|it| format!(":{it}")).unwrap_or_default();
            let _ =
                writeln!(out, "    {:?} {} {place}{line}: {}", it.severity, it.code, it.message);
        }
    }
    out
}

fn object(bytes: &[u8]) -> ObjectId {
    Digest::of(bytes).hex().parse().unwrap()
}

fn version((kind, content): &(FileKind, Vec<u8>)) -> FileVersion {
    FileVersion { kind: *kind, blob: object(content), size_bytes: content.len() as u64 }
}

impl Contents for Change {
    fn before(&self, change: &FileChange) -> Result<Vec<u8>, Problem> {
        Ok(self.base[&change.path].1.clone())
    }

    fn after(&self, change: &FileChange) -> Result<Vec<u8>, Problem> {
        assert!(change.after.as_ref().unwrap().size_bytes <= SCAN_BYTES_MAX);
        if self.unreadable {
            return Err(Problem::new(Code::StorageFailed, "the store is gone"));
        }
        Ok(self.result[&change.path].1.clone())
    }

    fn file(&self, side: Side, path: &RepoPath) -> Result<Option<Vec<u8>>, Problem> {
        let tree = if side == Side::Base { &self.base } else { &self.result };
        Ok(tree.get(path).map(|(_, it)| it.clone()))
    }

    fn paths(&self, side: Side, visit: &mut dyn FnMut(&RepoPath)) -> Result<(), Problem> {
        let tree = if side == Side::Base { &self.base } else { &self.result };
        tree.keys().for_each(visit);
        Ok(())
    }
}

/// Gives each command its outcomes in turn, and an error where it was told none.
struct Told(RefCell<BTreeMap<(Side, String), Vec<CommandOutcome>>>);

impl Runner for Told {
    fn run(&self, side: Side, command: &CheckCommand) -> Result<CommandOutcome, Problem> {
        let mut outcomes = self.0.borrow_mut();
        let told = outcomes.entry((side, command.name.clone())).or_default();
        if told.is_empty() {
            return Err(Problem::new(Code::BoundaryUnavailable, "no session could be had"));
        }
        Ok(told.remove(0))
    }
}

struct Stands;

impl Clock for Stands {
    fn now(&self) -> UtcTime {
        UtcTime::from_unix_ms(0)
    }
}

pub(crate) fn exits(code: i32) -> CommandOutcome {
    ended(CallEnd::Exited, Some(code))
}

pub(crate) fn ended(end: CallEnd, exit_code: Option<i32>) -> CommandOutcome {
    CommandOutcome {
        end,
        exit_code,
        stdout: Vec::new(),
        truncated: false,
        output: None,
        duration_ms: 1,
    }
}

pub(crate) fn prints(stdout: &str) -> CommandOutcome {
    CommandOutcome { stdout: stdout.as_bytes().to_vec(), ..exits(1) }
}

/// Shows each change under its title, the bad ones beside their harmless twins.
pub(crate) fn table(rows: Vec<(&str, Change)>) -> String {
    rows.into_iter().map(|(title, change)| format!("{title}\n  => {}", change.shown())).collect()
}
