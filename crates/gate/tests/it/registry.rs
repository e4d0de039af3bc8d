//! The registry and the catalogue of codes, as a reviewer reads them.

use std::fmt::Write as _;

use cofferdam_gate::{CHECKS, FindingCode};
use cofferdam_policy::profile::RESERVED_NAMES;

#[test]
fn the_registry() {
    let mut shown = String::new();
    for check in CHECKS {
        let _ = writeln!(shown, "{:14} {}", check.name, check.about);
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn the_catalogue_of_codes() {
    let mut shown = String::new();
    for code in FindingCode::ALL {
        let escalates = if code.escalates() { "escalates" } else { "" };
        let severity = format!("{:?}", code.severity());
        let _ = writeln!(shown, "{:26} {severity:8} {escalates:10} {}", code.as_str(), code.hint());
    }
    insta::assert_snapshot!(shown);
}

/// A declared command must not take the name of a check.
#[test]
fn the_names_of_checks_are_reserved() {
    for check in CHECKS {
        assert!(RESERVED_NAMES.contains(&check.name), "{}", check.name);
    }
    for name in RESERVED_NAMES {
        assert!(*name == "detect" || CHECKS.iter().any(|it| it.name == *name), "{name}");
    }
}
