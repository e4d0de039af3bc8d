//! Which grants may be given, as a table, and attacks on who says so.

use std::fmt::Write as _;

use cofferdam_contract::grant::GrantKind;
use cofferdam_policy::{ExecutableClass, PolicyError};

use crate::support::compiled;

const OPERATOR: &str = "[grants]\nkinds = [\"read\", \"debug\", \"exec\"]\nfor_ms_max = 1000\n\
                        uses_max = 3\nauto = [\"read:/srv/data/**\", \"exec:make\"]";

fn kind(text: &str) -> GrantKind {
    text.parse().unwrap()
}

#[test]
fn what_may_be_granted() {
    let policy = compiled(OPERATOR, None).unwrap();
    let mut table = String::new();
    for (text, for_ms, uses) in [
        ("read:/srv/data/a", 1000, 3),
        ("read:/srv/data", 1000, 3),
        ("read:/srv/datax", 1, 1),
        ("read:/srv/data/a", 1001, 1),
        ("read:/srv/data/a", 0, 1),
        ("read:/srv/data/a", 1, 4),
        ("read:/srv/data/a", 1, 0),
        ("write:/srv/data/a", 1, 1),
        ("debug", 1, 1),
        ("exec:make", 1, 1),
        ("exec:maker", 1, 1),
    ] {
        let ruling = policy.decide_grant(&kind(text), for_ms, uses);
        let itself = policy.grants_by_itself(&kind(text)).unwrap_or("a person");
        let _ = writeln!(
            table,
            "{text:20} {for_ms:4} ms {uses} uses -> {:?} {} {}; by {itself}",
            ruling.decision, ruling.reason_code, ruling.rule
        );
    }
    insta::assert_snapshot!(table);
}

/// Invariant 9: what is given without a person is not the repository's to say, nor how much.
#[test]
fn a_repository_gives_itself_nothing() {
    let attack = compiled(OPERATOR, Some("[grants]\nauto = [\"**\"]"));
    assert!(matches!(attack, Err(PolicyError::WouldWiden { field, .. }) if field == "grants.auto"));
    let control = compiled("[grants]\nauto = [\"debug\"]", None).unwrap();
    assert_eq!(control.grants_by_itself(&kind("debug")), Some("debug"));

    let more = "[grants]\nkinds = [\"write\", \"read\"]\nfor_ms_max = 9999\nuses_max = 9999";
    let policy = compiled(OPERATOR, Some(more)).unwrap();
    assert!(policy.decide_grant(&kind("read:/srv"), 1, 1).is_allowed(), "the control");
    assert!(!policy.decide_grant(&kind("write:/srv"), 1, 1).is_allowed());
    assert!(!policy.decide_grant(&kind("debug"), 1, 1).is_allowed(), "it narrows");
    assert!(!policy.decide_grant(&kind("read:/srv"), 1001, 1).is_allowed());
    assert!(!policy.decide_grant(&kind("read:/srv"), 1, 4).is_allowed());
}

/// A policy that was stored before there were grants is read as one that gives none.
#[test]
fn an_older_policy_grants_nothing() {
    let none = "[grants]\nkinds = []\nfor_ms_max = 0\nuses_max = 0";
    let policy = compiled(none, None).unwrap();
    let bytes = policy.to_bytes();
    assert!(!String::from_utf8(bytes.clone()).unwrap().contains("grants"));
    let read = cofferdam_policy::Policy::from_bytes(&bytes).unwrap();
    assert!(!read.decide_grant(&kind("debug"), 1, 1).is_allowed());
}

#[test]
fn a_class_lets_its_own_through_and_nothing_else() {
    let class = ExecutableClass::new("curl").unwrap();
    assert!(class.lets("curl") && class.lets("/usr/bin/curl"));
    for other in ["wget", "curl2", "/tmp/curl/sh", "curl/../sh", "/usr/bin/../bin/curl", ""] {
        assert!(!class.lets(other), "{other}");
    }
    let class = ExecutableClass::new("/usr/bin/curl").unwrap();
    assert!(class.lets("/usr/bin/curl") && !class.lets("curl") && !class.lets("/tmp/curl"));
    assert!(ExecutableClass::new("[").is_err());
}
