//! A record of the attacks that ship, in a bundle: only where it is about the run's own boundary.

use serde_json::{Value, json};

use crate::fixture::Made;

fn record() -> Value {
    json!({
        "version": "0.1.0",
        "binary": format!("sha256:{}", "b".repeat(64)),
        "backend": "native",
        "rootless": true,
        "kernel": "6.18",
        "session": { "boundary": "native", "debug": false, "carry": [] },
        "probes": [{ "name": "a", "outcome": "held" }, { "name": "b", "outcome": "escaped" }],
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut record = record();
    change(&mut record);
    serde_json::to_vec(&record).unwrap()
}

#[test]
fn the_record_about_the_runs_boundary_is_carried_and_says_what_came_of_it() {
    let fits = with(|_| ());
    let other = with(|it| it["kernel"] = json!("6.1"));
    let made = Made::attacked(&[other, fits.clone()]);
    assert_eq!(made.read("attacks.json"), fits);
    let report = made.verify();
    assert!(report.ok, "{report:?}");
    let check = report.checks.iter().find(|it| it.name == "attacks").unwrap();
    assert!(check.detail.contains("2 attacks") && check.detail.contains("1 escaped"), "{check:?}");
}

#[test]
fn a_record_about_another_boundary_is_not() {
    for other in [
        with(|it| it["kernel"] = json!("6.1")),
        with(|it| it["backend"] = json!("flat")),
        with(|it| it["rootless"] = json!(false)),
        with(|it| it["session"]["debug"] = json!(true)),
        with(|it| it["session"] = Value::Null),
        with(|it| it["binary"] = json!("unknown")),
        b"{}".to_vec(),
    ] {
        let made = Made::attacked(std::slice::from_ref(&other));
        assert!(!made.at("attacks.json").exists(), "{}", String::from_utf8(other).unwrap());
        assert!(made.verify().ok);
    }
}

#[test]
fn an_edited_or_replaced_record_shows() {
    let made = Made::attacked(&[with(|_| ())]);
    assert!(made.failing().is_empty());
    made.edit("attacks.json", "escaped", "held");
    assert_eq!(made.failing(), ["manifest"]);
    made.fix_manifest();
    assert_eq!(made.failing(), ["statement"]);
    std::fs::write(made.at("attacks.json"), with(|it| it["kernel"] = json!("6.1"))).unwrap();
    made.fix_manifest();
    assert_eq!(made.failing(), ["statement", "attacks"]);
}
