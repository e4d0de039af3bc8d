//! One whole run, from admission to an applied branch.

use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_contract::approval::Approval;
use cofferdam_contract::budget::{Budget, BudgetKind};
use cofferdam_contract::capability::{CapabilityReport, WorkspaceKind};
use cofferdam_contract::chain::{event_link, run_genesis};
use cofferdam_contract::check::{
    CheckResult, CheckStatus, Finding, GateReport, RiskLevel, Severity, Verdict,
};
use cofferdam_contract::denial::{Attribution, Denial, DenialSource, DeniedProcess, Operation};
use cofferdam_contract::digest::{Digest, ObjectId, hex};
use cofferdam_contract::events::{
    Admitted, ApprovalEvent, BaseCommit, BudgetEvent, Checked, Clearance, DenialEvent, EffectEvent,
    EffectIntent, EffectOutcome, Event, EventBody, Opened, RunEvent, SessionEvent, Settled, Worked,
};
use cofferdam_contract::ids::{OperationKey, RunId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::proposal::Proposal;
use cofferdam_contract::request::{RepositorySource, TaskType};
use cofferdam_contract::time::UtcTime;
use cofferdam_contract::trace::Correlation;
use cofferdam_evidence::{ExportInput, Patch, Signer, VerifyReport, export, verify};
use ed25519_dalek::{Signer as _, SigningKey};

pub(crate) const PATCH: &[u8] = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-one\n+two\n";
pub(crate) const POLICY: &[u8] =
    b"{\"profile\":\"assist\",\"session\":{\"boundary\":\"native\",\"carry\":[\"target\"],\"debug\":false}}";
const OUTPUT: &[u8] = b"1 test passed\n";

pub(crate) struct TestSigner(pub(crate) SigningKey);

impl TestSigner {
    pub(crate) fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    pub(crate) fn key_id(&self) -> String {
        Digest::of(&self.public_key()).to_string()
    }
}

impl Signer for TestSigner {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Problem> {
        Ok(self.0.sign(message).to_bytes())
    }
}

pub(crate) fn id<T: std::str::FromStr>(prefix: &str, number: usize) -> T
where
    T::Err: std::fmt::Debug,
{
    format!("{prefix}_01jd{number:022}").parse().unwrap()
}

pub(crate) fn object(digit: char) -> ObjectId {
    digit.to_string().repeat(40).parse().unwrap()
}

pub(crate) fn run_id() -> RunId {
    id("run", 7)
}

fn finding() -> Finding {
    Finding {
        check: "protected_paths".to_owned(),
        code: "protected_path".to_owned(),
        severity: Severity::Warning,
        path: Some(RepoPath::new(b"docs/a b\xff%.md".to_vec()).unwrap()),
        line: Some(3),
        message: "a protected path was changed".to_owned(),
        hint: "ask its owner".to_owned(),
    }
}

pub(crate) fn report() -> GateReport {
    let check = |name: &str, output, findings| CheckResult {
        name: name.to_owned(),
        status: CheckStatus::Passed,
        required: true,
        summary: "fine".to_owned(),
        findings,
        output,
        duration_ms: 12,
    };
    GateReport {
        checks: vec![
            check("protected_paths", None, vec![finding()]),
            check("tests", Some(Digest::of(OUTPUT)), Vec::new()),
        ],
        verdict: Verdict::Pass,
        risk_level: RiskLevel::Low,
    }
}

pub(crate) fn proposal() -> Proposal {
    Proposal {
        base: object('a'),
        tree: object('b'),
        patch: Digest::of(PATCH),
        policy_version: Digest::of(POLICY),
        checks: report().digest(),
    }
}

pub(crate) fn checked() -> Checked {
    let digest = proposal().digest();
    Checked { proposal: proposal(), digest, report: report(), files_changed: 1 }
}

pub(crate) fn approval() -> Approval {
    Approval {
        contract_version: "1.0.0".to_owned(),
        approval_id: id("apr", 1),
        run: run_id(),
        approver: "local:dev".parse().unwrap(),
        authority: "local-owner".to_owned(),
        action: "apply".to_owned(),
        resource: "refs/heads/cofferdam/r".to_owned(),
        proposal: proposal().digest(),
        approved_at_utc: UtcTime::from_unix_ms(5),
        expires_at_utc: None,
        conditions: Vec::new(),
    }
}

pub(crate) fn clearance(signer: &TestSigner) -> Clearance {
    let (proposal, verdict, approvals) =
        (proposal().digest(), Verdict::Pass, vec![approval().approval_id]);
    let statement = Clearance::statement(&proposal, verdict, &approvals);
    Clearance {
        proposal,
        verdict,
        approvals,
        at: UtcTime::from_unix_ms(6),
        key_id: signer.key_id(),
        signature: hex(&signer.sign(&statement).unwrap()),
    }
}

pub(crate) fn apply_key() -> OperationKey {
    OperationKey::new(&run_id(), "apply", "branch")
}

pub(crate) fn apply() -> EffectIntent {
    EffectIntent::Apply {
        key: apply_key(),
        branch: "refs/heads/cofferdam/r".to_owned(),
        base: object('a'),
        tree: object('b'),
        message: "change\n".to_owned(),
        author: "local:dev".parse().unwrap(),
        at: UtcTime::from_unix_ms(7),
    }
}

pub(crate) fn applied() -> EffectOutcome {
    EffectOutcome { key: apply_key(), before: None, after: Some(object('c')) }
}

fn admitted() -> Admitted {
    Admitted {
        request: Digest::of(b"request"),
        policy: Digest::of(POLICY),
        policy_version: Digest::of(POLICY),
        task_type: TaskType::Assist,
        driver: "command".to_owned(),
        repository: RepositorySource::Path("/repository".to_owned()),
        base: BaseCommit { commit: object('a'), tree: object('d'), branch: None },
        budget: Budget { wall_ms: 60_000, tool_ms: 50_000, attempts: 1 },
        tenant: None,
        data_classification: None,
        retention: None,
    }
}

fn opened() -> Opened {
    Opened {
        session: id("ses", 1),
        purpose: "work".to_owned(),
        report: CapabilityReport {
            backend: "native".to_owned(),
            rootless: true,
            kernel: "6.18".to_owned(),
            landlock_abi: 7,
            workspace: WorkspaceKind::Overlay,
            walls: Vec::new(),
            event_sources: Vec::new(),
            limits: Limits::default(),
        },
    }
}

fn denial() -> Denial {
    Denial {
        id: id("den", 1),
        run: Some(run_id()),
        session: id("ses", 1),
        call: Some(id("call", 1)),
        attribution: Attribution::Exact,
        at: UtcTime::from_unix_ms(3),
        source: DenialSource::Seccomp,
        operation: Operation::Mount,
        target: "mount".to_owned(),
        rule: "seccomp.mount".to_owned(),
        reason_code: "mount_forbidden".to_owned(),
        process: DeniedProcess { pid: Some(4), exe: None, argv0: None },
        count: 3,
        hint: "work without it".to_owned(),
    }
}

/// The whole run, as its events say it.
pub(crate) fn bodies(signer: &TestSigner) -> Vec<EventBody> {
    let settled = Settled { reservation: id("rsv", 1), kind: BudgetKind::ToolMs, spent: 900 };
    let worked = Worked {
        tree: object('b'),
        left_out: Vec::new(),
        exit_code: Some(0),
        events_incomplete: false,
    };
    vec![
        EventBody::Run(RunEvent::Admitted(admitted())),
        EventBody::Session(SessionEvent::Opened(opened())),
        EventBody::Denial(DenialEvent::Recorded(denial())),
        EventBody::Budget(BudgetEvent::Settled(settled)),
        EventBody::Run(RunEvent::Worked(worked)),
        EventBody::Run(RunEvent::Checked(checked())),
        EventBody::Approval(ApprovalEvent::Granted(approval())),
        EventBody::Approval(ApprovalEvent::Cleared(clearance(signer))),
        EventBody::Effect(EffectEvent::Intended(apply())),
        EventBody::Effect(EffectEvent::Completed(applied())),
    ]
}

pub(crate) fn store(bodies: &[EventBody]) -> Vec<Vec<u8>> {
    let correlation = Correlation {
        trace: "1".repeat(32).try_into().unwrap(),
        request: id("req", 1),
        correlation: id("cor", 1),
    };
    let event = |(sequence, body): (usize, &EventBody)| Event {
        version: 1,
        id: id("evt", sequence),
        run: run_id(),
        sequence: sequence as u64,
        epoch: 1,
        at: UtcTime::from_unix_ms(sequence as u64),
        actor: "local:dev".parse().unwrap(),
        correlation: correlation.clone(),
        cause: None,
        body: body.clone(),
    };
    bodies.iter().enumerate().map(|it| serde_json::to_vec(&event(it)).unwrap()).collect()
}

pub(crate) fn head_of(events: &[Vec<u8>]) -> Digest {
    let link = |head: Digest, (sequence, bytes): (usize, &Vec<u8>)| {
        event_link(&head, sequence as u64, bytes)
    };
    events.iter().enumerate().fold(run_genesis(&run_id()), link)
}

/// A bundle in a directory of its own.
pub(crate) struct Made {
    pub(crate) tmp: tempfile::TempDir,
}

impl Made {
    pub(crate) fn honest() -> Self {
        Self::of(&bodies(&TestSigner::new(1)), Some(Patch::Full(PATCH)))
    }

    /// With these records of attacks at hand.
    pub(crate) fn attacked(records: &[Vec<u8>]) -> Self {
        let (made, signer) = (Self { tmp: tempfile::tempdir().unwrap() }, TestSigner::new(1));
        export_with(&made.dir(), &bodies(&signer), Some(Patch::Full(PATCH)), &signer, records);
        made
    }

    /// Whatever a signer who lies lets the events say.
    pub(crate) fn of(bodies: &[EventBody], patch: Option<Patch<'_>>) -> Self {
        let made = Self { tmp: tempfile::tempdir().unwrap() };
        export_to(&made.dir(), bodies, patch, &TestSigner::new(1));
        made
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.tmp.path().join("bundle")
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }

    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.read(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        fs::write(self.at(name), text.replacen(from, to, 1)).unwrap();
    }

    /// What an attacker without the key can still put right.
    pub(crate) fn fix_manifest(&self) {
        let mut listed = std::collections::BTreeMap::new();
        for (prefix, dir) in [("", self.dir()), ("checks/", self.at("checks"))] {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_file()
                    && !matches!(name.as_str(), "manifest.json" | "attestation.intoto.jsonl")
                {
                    listed.insert(name, Digest::of(&fs::read(entry.path()).unwrap()));
                }
            }
        }
        let text = serde_json::to_string(&listed).unwrap() + "\n";
        fs::write(self.at("manifest.json"), text).unwrap();
    }

    pub(crate) fn verify(&self) -> VerifyReport {
        verify(&self.dir(), None).unwrap()
    }

    /// The names of the checks that fail.
    pub(crate) fn failing(&self) -> Vec<&'static str> {
        let report = self.verify();
        let failing: Vec<_> = report.checks.iter().filter(|it| !it.ok).map(|it| it.name).collect();
        assert_eq!(report.ok, failing.is_empty());
        failing
    }
}

pub(crate) fn export_to(
    dir: &Path,
    bodies: &[EventBody],
    patch: Option<Patch<'_>>,
    signer: &TestSigner,
) {
    export_with(dir, bodies, patch, signer, &[]);
}

pub(crate) fn export_with(
    dir: &Path,
    bodies: &[EventBody],
    patch: Option<Patch<'_>>,
    signer: &TestSigner,
    attacks: &[Vec<u8>],
) {
    let events = store(bodies);
    let input = ExportInput {
        run: &run_id(),
        events: &events,
        head: head_of(&events),
        head_statement: Some(b"{\"type\":\"head\"}"),
        patch,
        policy: POLICY,
        check_outputs: &[(Digest::of(OUTPUT), OUTPUT.to_vec())],
        attacks,
        signer,
    };
    export(&input, dir).unwrap();
}
