//! The rules of verdict and risk, and a report that is the same each time.

use std::fmt::Write as _;

use cofferdam_contract::check::{CheckResult, CheckStatus};
use cofferdam_gate::verdict::{risk_level, verdict};
use cofferdam_gate::{FINDINGS_MAX, FindingCode};

use crate::support::Change;

fn result(status: CheckStatus, required: bool, code: Option<FindingCode>) -> CheckResult {
    CheckResult {
        name: "it".to_owned(),
        status,
        required,
        summary: String::new(),
        findings: code.iter().map(|it| it.at("it", None, None, "")).collect(),
        output: None,
        duration_ms: 0,
    }
}

#[test]
fn the_whole_table() {
    const STATUSES: &[CheckStatus] = &[
        CheckStatus::Passed,
        CheckStatus::Failed,
        CheckStatus::FailedBefore,
        CheckStatus::Errored,
        CheckStatus::NotApplicable,
    ];
    let codes = [
        None,
        Some(FindingCode::ScannerNote),
        Some(FindingCode::ExecutableAdded),
        Some(FindingCode::DependencyAdded),
        Some(FindingCode::ProtectedPath),
        Some(FindingCode::SecretAdded),
    ];
    let none = Change::new().changeset();
    let mut shown = String::new();
    for required in [true, false] {
        for status in STATUSES {
            for code in codes {
                let checks = [result(*status, required, code)];
                let verdict = verdict(&checks);
                let risk = risk_level(&checks, verdict, &none);
                let name = code.map_or("-", FindingCode::as_str);
                let _ = writeln!(
                    shown,
                    "{:8} {:13} {name:16} -> {verdict:?}, risk {risk:?}",
                    if required { "required" } else { "optional" },
                    format!("{status:?}"),
                );
            }
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn an_unknown_code_escalates() {
    let mut check = result(CheckStatus::Passed, true, Some(FindingCode::ScannerNote));
    check.findings[0].code = "made_up".to_owned();
    assert_eq!(verdict(&[check]), cofferdam_contract::check::Verdict::Escalate);
}

#[test]
fn a_large_change_is_of_medium_risk() {
    let files = |count: u32| (0..count).fold(Change::new(), |it, n| it.gets(format!("f{n}"), "x"));
    let risk = |change: Change| format!("{:?}", change.report().risk_level);
    assert_eq!((risk(files(10)), risk(files(11))), ("Low".to_owned(), "Medium".to_owned()));
    assert_eq!(risk(Change::new().gets("a", "\n".repeat(290))), "Low");
    assert_eq!(risk(Change::new().gets("a", "\n".repeat(310))), "Medium");
}

#[test]
fn the_same_change_has_the_same_digest() {
    let change = || Change::new().gets("b", "x\0").gets("a", "\u{200b}").gets("A", "y");
    assert_eq!(change().report().digest(), change().report().digest());
    assert_ne!(change().report().digest(), change().gets("c", "\0").report().digest());
}

/// Bounding keeps what weighs most: many warnings must not push an error out.
#[test]
fn findings_are_bounded_by_weight() {
    let noise: String = (0..500).map(|n| format!("l{n}\u{200b}\n")).collect();
    let change = Change::new().gets("a.rs", format!("{noise}\u{202e}\n"));
    let report = change.report();
    let unicode = report.checks.iter().find(|it| it.name == "unicode").unwrap();
    assert_eq!(unicode.findings.len(), FINDINGS_MAX);
    assert!(unicode.findings.iter().any(|it| it.code == "bidirectional_control"));
    assert!(unicode.summary.contains("301 findings not shown"), "{}", unicode.summary);
}
