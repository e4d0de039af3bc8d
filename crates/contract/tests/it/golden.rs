//! One golden document per contract: it parses, and is written again byte for byte. A field that
//! is renamed, dropped or becomes required shows here before a user meets it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use cofferdam_contract::approval::Approval;
use cofferdam_contract::check::GateReport;
use cofferdam_contract::decision::PolicyDecision;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::Event;
use cofferdam_contract::evidence::EvidenceRecord;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::proposal::Proposal;
use cofferdam_contract::request::RuntimeRequest;
use cofferdam_contract::schema::published;
use cofferdam_contract::tool::ToolContract;
use cofferdam_contract::trace::TraceSpan;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[track_caller]
fn assert_golden<T: Serialize + DeserializeOwned + Debug>(name: &str) -> T {
    let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    let value: T = serde_json::from_str(&text).unwrap();
    assert_eq!(format!("{}\n", serde_json::to_string_pretty(&value).unwrap()), text, "{name}");
    // The control: the same document with a field that is not in the contract.
    let surprise = text.replacen('{', "{\"surprise\":1,", 1);
    assert!(serde_json::from_str::<T>(&surprise).is_err(), "{name} takes unknown fields");
    value
}

#[test]
fn every_contract_reads_and_writes_its_golden_document() {
    let request: RuntimeRequest = assert_golden("runtime-request");
    request.validate().unwrap();
    assert_golden::<ToolContract>("tool-contract");
    assert_golden::<PolicyDecision>("policy-decision");
    assert_golden::<Approval>("approval");
    assert_golden::<EvidenceRecord>("evidence-record");
    assert_golden::<TraceSpan>("trace-span");
    assert_golden::<Event>("event");
    assert_golden::<Problem>("problem");
}

#[test]
fn every_contract_has_a_golden_document() {
    let files: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    let names: BTreeSet<_> = published().iter().map(|it| format!("{}.json", it.name)).collect();
    assert_eq!(files, names);
}

fn proposal() -> Proposal {
    Proposal {
        base: "a".repeat(40).parse().unwrap(),
        tree: "b".repeat(40).parse().unwrap(),
        patch: Digest::of(b"patch"),
        policy_version: Digest::of(b"policy"),
        checks: Digest::of(b"checks"),
    }
}

/// Invariant 5: whatever differs makes another proposal.
#[test]
fn each_of_the_five_things_changes_the_proposal() {
    let base = proposal();
    assert_eq!(base.digest(), proposal().digest(), "the control");
    insta::assert_snapshot!(base.digest().to_string());
    let others = [
        Proposal { base: "c".repeat(40).parse().unwrap(), ..base.clone() },
        Proposal { tree: "c".repeat(40).parse().unwrap(), ..base.clone() },
        Proposal { patch: Digest::of(b"other"), ..base.clone() },
        Proposal { policy_version: Digest::of(b"other"), ..base.clone() },
        Proposal { checks: Digest::of(b"other"), ..base.clone() },
        // Two that trade places.
        Proposal { base: base.tree.clone(), tree: base.base.clone(), ..base.clone() },
        Proposal { patch: base.checks, checks: base.patch, ..base.clone() },
    ];
    let digests: BTreeSet<_> = others.iter().map(Proposal::digest).chain([base.digest()]).collect();
    assert_eq!(digests.len(), others.len() + 1);
}

#[test]
fn checking_the_same_twice_gives_the_same_proposal() {
    let report: GateReport = serde_json::from_value(serde_json::json!({
        "checks": [{"name": "test", "status": "passed", "required": true, "summary": "ok",
                    "findings": [], "duration_ms": 10}],
        "verdict": "pass", "risk_level": "low",
    }))
    .unwrap();
    let mut later = report.clone();
    later.checks[0].duration_ms = 99;
    later.checks[0].output = Some(Digest::of(b"took 99 ms"));
    assert_eq!(report.digest(), later.digest());
    later.checks[0].summary = "ok?".to_owned();
    assert_ne!(report.digest(), later.digest());
}
