//! Admission is strict: what is refused, with which code, naming which field.

use std::fmt::Write as _;

use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::{REQUEST_BYTES_MAX, RuntimeRequest};
use cofferdam_contract::text::is_shown;
use proptest::prelude::*;
use serde_json::{Value, json};

fn good() -> Value {
    serde_json::from_str(include_str!("../golden/runtime-request.json")).unwrap()
}

fn parse(value: &Value) -> Result<RuntimeRequest, Problem> {
    RuntimeRequest::parse(&serde_json::to_vec(value).unwrap())
}

/// A good request with one thing changed.
fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut value = good();
    change(&mut value);
    value
}

fn set(pointer: &'static str, to: Value) -> Value {
    changed(|it| *it.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = to)
}

fn without(field: &'static str) -> Value {
    changed(|it| drop(it.as_object_mut().unwrap().remove(field).unwrap()))
}

fn with(object: &'static str, field: &'static str) -> Value {
    changed(|it| it.pointer_mut(object).unwrap()[field] = json!("x"))
}

fn attempts() -> Vec<(&'static str, Value)> {
    vec![
        ("an unknown field", with("", "surprise")),
        ("an unknown field deeper", with("/repository", "surprise")),
        ("an unknown field in the driver", with("/driver/command", "surprise")),
        ("an unknown field in the budget", with("/budget", "tokens")),
        ("no version", without("contractVersion")),
        ("major version 2", set("/contractVersion", json!("2.0.0"))),
        ("major version 0", set("/contractVersion", json!("0.9.0"))),
        ("a version of two parts", set("/contractVersion", json!("1.0"))),
        ("a version with a suffix", set("/contractVersion", json!("1.0.0-beta"))),
        ("a version that is a number", set("/contractVersion", json!(1))),
        ("no actor", without("actor")),
        ("an empty actor", set("/actor", json!(""))),
        ("an actor with a space", set("/actor", json!("local:a b"))),
        ("no tenant", without("tenant")),
        ("a tenant that is a path", set("/tenant", json!("../other"))),
        ("no timestamp", without("timestampUtc")),
        ("a time with an offset", set("/timestampUtc", json!("2026-01-31T12:00:00+02:00"))),
        ("a time without a zone", set("/timestampUtc", json!("2026-01-31T12:00:00"))),
        ("a deadline before the request", set("/deadlineUtc", json!("2026-01-31T11:00:00Z"))),
        ("no request id", without("requestId")),
        ("an id of another kind", set("/requestId", json!("run_01arz3ndektsv4rrffq69g5fav"))),
        ("an empty idempotency key", set("/idempotencyKey", json!(""))),
        ("an unknown task type", set("/taskType", json!("whatever"))),
        ("no profile", without("profile")),
        ("a profile that is a path", set("/profile", json!("../../etc/profile"))),
        ("a profile that is an option", set("/profile", json!("-p"))),
        ("a base that is an option", set("/repository/base", json!("--upload-pack=x"))),
        ("an empty base", set("/repository/base", json!(""))),
        ("a base with a newline", set("/repository/base", json!("main\nmain"))),
        ("two sources", set("/repository/source", json!({"path": "/a", "url": "b"}))),
        ("an unknown driver", set("/driver", json!({"telepathy": {}}))),
        ("no executable", set("/driver", json!({"command": {"argv": []}}))),
        ("an empty executable", set("/driver", json!({"command": {"argv": [""]}}))),
        ("a nul in an argument", set("/driver", json!({"command": {"argv": ["a", "b\0"]}}))),
        ("a shell string", set("/driver", json!({"command": {"argv": "rm -rf /"}}))),
        ("a patch from an option", set("/driver", json!({"patch": {"from": {"revision": "-x"}}}))),
        ("a negative budget", set("/budget/wallMs", json!(-1))),
        ("a long task", set("/task", json!("x".repeat(65_537)))),
        ("an unknown classification", set("/dataClassification", json!("secret"))),
        ("no retention", without("retention")),
        ("not an object", json!([])),
        ("null", json!(null)),
    ]
}

#[test]
fn what_is_refused_and_why() {
    parse(&good()).expect("the control");
    let mut table = String::new();
    for (name, request) in attempts() {
        let problem = parse(&request).err().unwrap_or_else(|| panic!("{name} was let in"));
        let field = problem.field.as_deref().unwrap_or("-");
        writeln!(table, "{name}\n    {} at {field}: {problem}", problem.code.as_str()).unwrap();
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_later_minor_version_is_let_in() {
    parse(&set("/contractVersion", json!("1.7.3"))).unwrap();
}

#[test]
fn a_request_has_a_bound_and_is_one_object() {
    let mut bytes = serde_json::to_vec(&good()).unwrap();
    bytes.resize(REQUEST_BYTES_MAX, b' ');
    RuntimeRequest::parse(&bytes).unwrap();
    bytes.push(b' ');
    assert!(RuntimeRequest::parse(&bytes).is_err());
    for bytes in [&b""[..], b"{", b"\xff\xfe", b"{}{}", b"nonsense"] {
        assert!(RuntimeRequest::parse(bytes).is_err());
    }
    let twice = good().to_string().replacen('{', "{\"actor\":\"local:other\",", 1);
    assert!(RuntimeRequest::parse(twice.as_bytes()).is_err(), "one field twice");
    let deep = "[".repeat(100_000);
    assert!(RuntimeRequest::parse(deep.as_bytes()).is_err());
}

#[test]
fn a_refusal_quotes_nothing_that_steers_a_terminal_and_is_short() {
    let hostile = "\u{1b}[2J\u{202e}`".repeat(10_000);
    let requests = [
        changed(|it| it[&hostile] = json!(1)),
        set("/taskType", json!(hostile)),
        set("/driver", json!({ hostile.as_str(): {} })),
    ];
    for request in requests {
        let problem = parse(&request).unwrap_err();
        let field = problem.field.unwrap();
        assert!(problem.detail.chars().chain(field.chars()).all(is_shown));
        assert!(problem.detail.len() <= 600 && field.len() < 1_000);
    }
}

#[test]
fn the_field_is_found_on_any_line() {
    let text = serde_json::to_string_pretty(&set("/budget/toolMs", json!("x"))).unwrap();
    let problem = RuntimeRequest::parse(text.as_bytes()).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("budget.toolMs"));
    let text = text.replacen("\"actor\"", "\"act\\\"or\"", 1);
    let problem = RuntimeRequest::parse(text.as_bytes()).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("act\"or"), "{problem}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = RuntimeRequest::parse(&bytes);
    }

    #[test]
    fn a_damaged_request_is_refused_or_still_strict(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = serde_json::to_vec(&good()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(request) = RuntimeRequest::parse(&bytes) {
            prop_assert!(request.validate().is_ok());
            let again = serde_json::to_vec(&request).unwrap();
            prop_assert_eq!(RuntimeRequest::parse(&again).unwrap(), request);
        }
    }
}
