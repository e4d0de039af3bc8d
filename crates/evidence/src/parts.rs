//! The files of a bundle: what they are called, and those that follow from the events.
//!
//! A verifier makes the derived ones again and compares bytes, so nothing in them can differ from
//! what the events say.

use std::collections::BTreeMap;

use cofferdam_contract::approval::Approval;
use cofferdam_contract::budget::{Budget, Spent};
use cofferdam_contract::check::{RiskLevel, Verdict};
use cofferdam_contract::digest::{Digest, ObjectId};
use cofferdam_contract::events::Event;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::proposal::Proposal;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::error::EvidenceError;
use crate::facts::Facts;
use crate::record::record_of;
use crate::sarif::sarif;
use crate::spans::spans_of;

pub(crate) const ATTESTATION: &str = "attestation.intoto.jsonl";
pub(crate) const KEY: &str = "key.pem";
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const EVENTS: &str = "events.jsonl";
pub(crate) const RECORDS: &str = "records.jsonl";
pub(crate) const TRACE: &str = "trace.jsonl";
pub(crate) const CAPABILITIES: &str = "capabilities.json";
pub(crate) const POLICY: &str = "policy.json";
pub(crate) const PATCH: &str = "patch.diff";
pub(crate) const PATCH_DIGEST: &str = "patch.sha256";
pub(crate) const HEAD: &str = "head.json";
pub(crate) const SARIF: &str = "checks.sarif";
pub(crate) const ATTACKS: &str = "attacks.json";
/// The only directory in a bundle.
pub(crate) const CHECKS: &str = "checks";
const REPORT: &str = "checks/report.json";

/// Every name in a bundle but those of outputs.
pub(crate) const FIXED: [&str; 14] = [
    ATTESTATION,
    KEY,
    MANIFEST,
    EVENTS,
    RECORDS,
    TRACE,
    CAPABILITIES,
    POLICY,
    PATCH,
    PATCH_DIGEST,
    HEAD,
    SARIF,
    ATTACKS,
    REPORT,
];

/// The type of our statement's predicate.
pub const PREDICATE_TYPE: &str = "https://cofferdam.dev/attestation/run/v1";

/// A bundle in memory: names in it and bytes.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The name of the file that holds a check's output.
pub(crate) fn output_name(digest: &Digest) -> String {
    format!("{CHECKS}/output-{}.txt", digest.hex())
}

/// The files that follow from the events.
pub(crate) fn derived(facts: &Facts) -> Result<Files, EvidenceError> {
    let mut files = Files::new();
    let mut records = Vec::new();
    for (event, digest) in &facts.events {
        let record = record_of(event, *digest, facts.admitted.as_ref());
        records.append(&mut json_line(&record)?);
    }
    files.insert(RECORDS.to_owned(), records);
    let events: Vec<&Event> = facts.events.iter().map(|(event, _)| event).collect();
    let spans = spans_of(&events);
    let spans: Result<Vec<_>, _> = spans.iter().map(json_line).collect();
    files.insert(TRACE.to_owned(), spans?.concat());
    files.insert(CAPABILITIES.to_owned(), json_line(&facts.sessions)?);
    if let Some(checked) = &facts.checked {
        files.insert(REPORT.to_owned(), json_line(&checked.report)?);
        files.insert(SARIF.to_owned(), json_line(&Sorted(&sarif(&checked.report)))?);
    }
    Ok(files)
}

/// The digest of every file but the attestation and the manifest itself.
pub(crate) fn manifest(files: &Files) -> Result<Vec<u8>, EvidenceError> {
    let listed = |name: &&String| !matches!(name.as_str(), ATTESTATION | MANIFEST);
    let digests: BTreeMap<&String, Digest> = files
        .iter()
        .filter(|(name, _)| listed(name))
        .map(|(name, bytes)| (name, Digest::of(bytes)))
        .collect();
    json_line(&digests)
}

/// JSON on one line.
pub(crate) fn json_line(value: &impl Serialize) -> Result<Vec<u8>, EvidenceError> {
    let mut bytes = serde_json::to_vec(value).map_err(EvidenceError::Json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes the names of every object in order: how a [`Value`] keeps them depends on the features
/// that other crates of a build ask for, and two builds must write the same bytes.
struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let sorted: BTreeMap<_, _> =
                    fields.iter().map(|(name, value)| (name, Sorted(value))).collect();
                sorted.serialize(serializer)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
            other => other.serialize(serializer),
        }
    }
}

/// What is attested of a run.
#[derive(Serialize)]
struct Predicate<'a> {
    run: &'a RunId,
    events: EventsHead<'a>,
    state: &'a str,
    task_type: Option<String>,
    driver: Option<&'a str>,
    policy_version: Option<Digest>,
    base: Option<&'a ObjectId>,
    proposal: Option<&'a Proposal>,
    proposal_digest: Option<Digest>,
    verdict: Option<Verdict>,
    risk_level: Option<RiskLevel>,
    checks: Vec<Value>,
    approvals: &'a [Approval],
    branches: &'a BTreeMap<String, Option<ObjectId>>,
    denials: u64,
    denials_lost: u64,
    events_incomplete: bool,
    budget: Option<&'a Budget>,
    spent: &'a Spent,
}

#[derive(Serialize)]
struct EventsHead<'a> {
    count: usize,
    head: &'a Digest,
}

/// The in-toto Statement v1 (<https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>)
/// about a run and its bundle.
pub(crate) fn statement(facts: &Facts, manifest: &[u8]) -> Result<Vec<u8>, EvidenceError> {
    let checked = facts.checked.as_ref();
    let admitted = facts.admitted.as_ref();
    let checks = checked.map_or(&[][..], |checked| &checked.report.checks);
    let predicate = Predicate {
        run: &facts.run,
        events: EventsHead { count: facts.events.len(), head: &facts.head },
        state: &facts.last,
        task_type: admitted.map(|it| format!("{:?}", it.task_type).to_ascii_lowercase()),
        driver: admitted.map(|it| it.driver.as_str()),
        policy_version: admitted.map(|it| it.policy_version),
        base: checked.map(|it| &it.proposal.base).or(admitted.map(|it| &it.base.commit)),
        proposal: checked.map(|it| &it.proposal),
        proposal_digest: checked.map(|it| it.digest),
        verdict: checked.map(|it| it.report.verdict),
        risk_level: checked.map(|it| it.report.risk_level),
        checks: checks
            .iter()
            .map(|it| json!({ "name": it.name, "status": it.status, "required": it.required }))
            .collect(),
        approvals: &facts.approvals,
        branches: &facts.branches,
        denials: facts.refusals.denials(),
        denials_lost: facts.refusals.lost(),
        events_incomplete: facts.refusals.is_incomplete(),
        budget: admitted.map(|it| &it.budget),
        spent: &facts.spent,
    };
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects(facts, manifest),
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    });
    serde_json::to_vec(&Sorted(&statement)).map_err(EvidenceError::Json)
}

fn subjects(facts: &Facts, manifest: &[u8]) -> Vec<Value> {
    let mut subjects =
        vec![json!({ "name": MANIFEST, "digest": { "sha256": Digest::of(manifest).hex() } })];
    if let Some(checked) = &facts.checked {
        let proposal = &checked.proposal;
        subjects.push(json!({ "name": PATCH, "digest": { "sha256": proposal.patch.hex() } }));
        subjects.push(json!({ "name": "tree", "digest": { "gitTree": proposal.tree } }));
    }
    for (branch, commit) in &facts.branches {
        if let Some(commit) = commit {
            subjects.push(json!({ "name": branch, "digest": { "gitCommit": commit } }));
        }
    }
    subjects
}
