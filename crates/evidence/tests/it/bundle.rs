//! An honest bundle: what is in it, and that it verifies.

use std::fs;

use base64::Engine as _;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_evidence::{EvidenceError, ExportInput, Patch, export, verify};

use crate::fixture::{Made, PATCH, POLICY, TestSigner, bodies, head_of, run_id, store};

#[test]
fn it_verifies_and_says_who_is_not_known() {
    let made = Made::honest();
    let report = made.verify();
    assert!(report.ok, "{report:#?}");
    assert!(!report.signer_known);
    let signer = report.checks.iter().find(|check| check.name == "signer").unwrap();
    assert!(signer.detail.contains("unknown"));
}

#[test]
fn the_trusted_key_is_told_by_pem_or_by_id() {
    let made = Made::honest();
    let pem = String::from_utf8(made.read("key.pem")).unwrap();
    let key_id = TestSigner::new(1).key_id();
    for trusted in [&pem, &key_id] {
        let report = verify(&made.dir(), Some(trusted)).unwrap();
        assert!(report.ok && report.signer_known);
        assert_eq!(report.key_id.as_ref(), Some(&key_id));
    }
    let other = verify(&made.dir(), Some(&TestSigner::new(2).key_id())).unwrap();
    assert!(!other.ok && !other.signer_known);
    assert!(matches!(verify(&made.dir(), Some("me")), Err(EvidenceError::TrustedKey)));
}

#[test]
fn equal_input_gives_equal_bytes() {
    let (one, other) = (Made::honest(), Made::honest());
    let names = |made: &Made| -> Vec<_> {
        let top = fs::read_dir(made.dir()).unwrap().chain(fs::read_dir(made.at("checks")).unwrap());
        let mut paths: Vec<_> = top
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| path.strip_prefix(made.dir()).unwrap().to_path_buf())
            .collect();
        paths.sort();
        paths
    };
    assert_eq!(names(&one), names(&other));
    assert_eq!(names(&one).len(), 13);
    for name in names(&one) {
        let name = name.to_str().unwrap();
        assert_eq!(one.read(name), other.read(name), "{name}");
    }
}

#[test]
fn derived_files_are_as_published() {
    let made = Made::honest();
    let pretty = |bytes: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        serde_json::to_string_pretty(&value).unwrap()
    };
    let envelope: serde_json::Value =
        serde_json::from_slice(&made.read("attestation.intoto.jsonl")).unwrap();
    let payload = base64::engine::general_purpose::STANDARD
        .decode(envelope["payload"].as_str().unwrap())
        .unwrap();
    insta::assert_snapshot!("statement", pretty(&payload));
    insta::assert_snapshot!("sarif", pretty(&made.read("checks.sarif")));
    let records = String::from_utf8(made.read("records.jsonl")).unwrap();
    insta::assert_snapshot!("records", records);
}

#[test]
fn where_the_secrets_check_fired_only_the_digest_is_there() {
    let signer = TestSigner::new(1);
    let patch = Some(Patch::DigestOnly(Digest::of(PATCH)));
    let made = Made::of(&bodies(&signer), patch);
    assert!(made.verify().ok);
    assert!(!made.at("patch.diff").exists());
    let missing = Made::of(&bodies(&signer), None);
    assert_eq!(missing.failing(), ["proposal"]);
}

#[test]
fn a_run_that_came_to_nothing_has_a_bundle_too() {
    let made = Made::of(&bodies(&TestSigner::new(1))[..5], None);
    assert!(made.verify().ok);
    assert!(!made.at("checks.sarif").exists());
}

#[test]
fn a_bundle_is_there_whole_or_not_at_all() {
    let signer = TestSigner::new(1);
    let events = store(&bodies(&signer));
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("bundle");
    let mut input = ExportInput {
        run: &run_id(),
        events: &events,
        head: head_of(&events[1..]),
        head_statement: None,
        patch: Some(Patch::Full(PATCH)),
        policy: POLICY,
        check_outputs: &[],
        attacks: &[],
        signer: &signer,
    };
    assert!(matches!(export(&input, &dir), Err(EvidenceError::Events(_))));
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
    input.head = head_of(&events);
    export(&input, &dir).unwrap();
    let again = export(&input, &dir).unwrap_err();
    assert!(matches!(again, EvidenceError::Exists(_)));
    assert_eq!(Problem::from(again).code, Code::RequestInvalid);
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1);
}
