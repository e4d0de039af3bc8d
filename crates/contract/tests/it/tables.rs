//! Tables that people read: codes, outcomes, ids.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cofferdam_contract::problem::{Code, Outcome, Problem};

#[test]
fn every_code_with_its_outcome_and_remedy() {
    let mut table = String::new();
    for code in Code::ALL {
        let json = serde_json::to_value(code).unwrap();
        assert_eq!(json, code.as_str(), "one spelling");
        let exit = code.outcome().exit_code();
        writeln!(table, "{:24} {exit} {:?}: {}", code.as_str(), code.outcome(), code.hint())
            .unwrap();
    }
    insta::assert_snapshot!(table);
}

#[test]
fn codes_and_exit_codes_are_told_apart() {
    let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), Code::ALL.len());
    let exits: BTreeSet<_> = Outcome::ALL.iter().map(|it| it.exit_code()).collect();
    assert_eq!(exits.len(), Outcome::ALL.len());
    for outcome in Outcome::ALL.iter().filter(|it| **it != Outcome::Done) {
        assert!(Code::ALL.iter().any(|code| code.outcome() == *outcome), "{outcome:?} is unused");
    }
}

#[test]
fn a_problem_reads_well() {
    for code in Code::ALL {
        let problem = Problem::new(*code, "cause");
        assert_eq!(problem.kind, format!("urn:cofferdam:error:{}", code.as_str()));
        assert!(!problem.hint.is_empty() && !problem.hint.ends_with('.'), "{}", problem.hint);
        assert!(problem.hint.starts_with(|c: char| c.is_lowercase()), "{}", problem.hint);
    }
}
