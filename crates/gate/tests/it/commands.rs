//! Commands on base and on result: every pair of outcomes, scanners, detection.

use cofferdam_contract::events::CallEnd;
use cofferdam_gate::{CommandOutcome, Side};

use crate::support::{Change, ended, exits, prints, table};

fn command(kind: &str, required: bool) -> String {
    format!(
        "[gate]\ndetect = false\ncommands = [{{ name = \"it\", argv = [\"x\"], \
         required = {required}, kind = \"{kind}\", timeout_ms = 1000 }}]"
    )
}

/// A change under one command, with what it gives on the result, in turn, and on the base.
fn change(profile: &str, on_result: Vec<CommandOutcome>, on_base: Vec<CommandOutcome>) -> Change {
    let mut change = Change::new().profile(profile).gets("a", "x");
    for outcome in on_result {
        change = change.outcome(Side::Result, "it", outcome);
    }
    for outcome in on_base {
        change = change.outcome(Side::Base, "it", outcome);
    }
    change
}

#[test]
fn every_pair_of_outcomes() {
    let required = command("linter", true);
    let optional = command("linter", false);
    let test = command("test", true);
    let timed_out = || ended(CallEnd::TimedOut, None);
    let killed = || ended(CallEnd::Signaled, None);
    let absent = || ended(CallEnd::NotStarted, None);
    let shown = table(vec![
        ("passes", change(&required, vec![exits(0)], vec![])),
        ("fails, passed before", change(&required, vec![exits(2)], vec![exits(0)])),
        ("fails, failed before", change(&required, vec![exits(2)], vec![exits(1)])),
        ("fails, base runs out of time", change(&required, vec![exits(2)], vec![timed_out()])),
        ("dies, passed before", change(&required, vec![killed()], vec![exits(0)])),
        ("runs out of time", change(&required, vec![timed_out()], vec![])),
        ("runs out of time, optional", change(&optional, vec![timed_out()], vec![])),
        ("was stopped", change(&required, vec![ended(CallEnd::Stopped, None)], vec![])),
        ("lost its session", change(&required, vec![ended(CallEnd::SessionLost, None)], vec![])),
        ("is not there", change(&required, vec![absent()], vec![absent()])),
        ("is not there, optional", change(&optional, vec![absent()], vec![absent()])),
        ("was there before", change(&required, vec![absent()], vec![exits(0)])),
        ("no session", change(&required, vec![], vec![])),
        ("optional fails, passed before", change(&optional, vec![exits(1)], vec![exits(0)])),
        ("test fails twice", change(&test, vec![exits(1), exits(1)], vec![exits(0)])),
        ("test fails once", change(&test, vec![exits(1), exits(0)], vec![exits(0)])),
        ("test failed before", change(&test, vec![exits(1)], vec![exits(1)])),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn nothing_runs_where_nothing_changed() {
    let unchanged = Change::new().profile(&command("test", true)).has("a", "x");
    let report = unchanged.report();
    assert!(report.checks.iter().all(|it| it.name != "it"));
    // The control: with a change it does run, and has no outcome to give.
    assert!(
        change(&command("test", true), vec![], vec![])
            .report()
            .checks
            .iter()
            .any(|it| it.name == "it")
    );
}

fn sarif(results: &str) -> CommandOutcome {
    prints(&format!(
        "{{\"version\": \"2.1.0\", \"runs\": [{{\"tool\": {{\"driver\": {{\"name\": \"s\", \"rules\": \
         [{{\"id\": \"R2\", \"defaultConfiguration\": {{\"level\": \"error\"}}}}]}}}}, \
         \"results\": [{results}]}}]}}"
    ))
}

fn result(rule: &str, level: &str, uri: &str, line: u32, text: &str) -> String {
    let level = if level.is_empty() { String::new() } else { format!("\"level\": \"{level}\", ") };
    format!(
        "{{\"ruleId\": \"{rule}\", {level}\"message\": {{\"text\": \"{text}\"}}, \"locations\": \
         [{{\"physicalLocation\": {{\"artifactLocation\": {{\"uri\": \"{uri}\"}}, \"region\": \
         {{\"startLine\": {line}}}}}}}]}}"
    )
}

#[test]
fn scanners() {
    let required = command("scanner", true);
    let optional = command("scanner", false);
    let old = result("R1", "error", "a.py", 3, "bad");
    let moved = result("R1", "error", "a.py", 9, "bad");
    let new = result("R1", "error", "/workspace/b.py", 1, "bad");
    let cut = CommandOutcome { truncated: true, ..sarif("") };
    let suppressed = new.replacen('{', "{\"suppressions\": [{\"kind\": \"inSource\"}], ", 1);
    let failed = prints(
        "{\"version\": \"2.1.0\", \"runs\": [{\"tool\": {\"driver\": {\"name\": \"s\"}}, \
         \"invocations\": [{\"executionSuccessful\": false}], \"results\": []}]}",
    );
    let shown = table(vec![
        ("nothing", change(&required, vec![sarif("")], vec![])),
        ("new", change(&required, vec![sarif(&new)], vec![sarif("")])),
        ("new, optional", change(&optional, vec![sarif(&new)], vec![sarif("")])),
        ("moved", change(&required, vec![sarif(&moved)], vec![sarif(&old)])),
        (
            "once more of the same",
            change(&required, vec![sarif(&format!("{old}, {moved}"))], vec![sarif(&old)]),
        ),
        ("gone", change(&required, vec![sarif("")], vec![sarif(&old)])),
        (
            "the rule's level",
            change(&required, vec![sarif(&result("R2", "", "a", 1, "x"))], vec![sarif("")]),
        ),
        (
            "a note",
            change(&required, vec![sarif(&result("R1", "note", "a", 1, "x"))], vec![sarif("")]),
        ),
        (
            "out of the tree, and hostile text",
            change(
                &required,
                vec![sarif(&result("R1", "warning", "../../etc/passwd", 1, "\\u001b[2J\\u202e"))],
                vec![sarif("")],
            ),
        ),
        ("suppressed by the scanner", change(&required, vec![sarif(&suppressed)], vec![])),
        ("not sarif", change(&required, vec![prints("all good")], vec![])),
        ("not sarif on the base", change(&required, vec![sarif(&new)], vec![prints("")])),
        (
            "another version",
            change(&required, vec![prints("{\"version\": \"1.0\", \"runs\": []}")], vec![]),
        ),
        ("did not finish", change(&required, vec![failed], vec![])),
        ("cut", change(&required, vec![cut], vec![])),
        ("out of time", change(&required, vec![ended(CallEnd::TimedOut, None)], vec![])),
        ("not sarif, optional", change(&optional, vec![prints("")], vec![])),
    ]);
    insta::assert_snapshot!(shown);
}

/// What would run: each command is refused a session, so that it shows.
fn detected(change: Change) -> String {
    let report = change.profile("").report();
    let names = report.checks.iter().filter(|it| it.summary.starts_with("could not be run"));
    names
        .map(|it| format!("{}{}", it.name, if it.required { "*" } else { "" }))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn detection_looks_at_the_base_alone() {
    let new = || Change::new().gets("a", "x");
    assert_eq!(detected(new()), "");
    assert_eq!(detected(new().has("Cargo.toml", "")), "cargo-fmt cargo-test*");
    let scripts = "{\"scripts\": {\"test\": \"node --test\", \"lint\": \"eslint\"}}";
    assert_eq!(detected(new().has("package.json", scripts)), "npm-lint npm-test*");
    let none = "{\"scripts\": {\"test\": \"echo \\\"Error: no test specified\\\" && exit 1\"}}";
    assert_eq!(detected(new().has("package.json", none)), "");
    assert_eq!(detected(new().has("pyproject.toml", "[tool.pytest.ini_options]")), "pytest*");
    assert_eq!(detected(new().has("pyproject.toml", "[project]")), "");
    assert_eq!(detected(new().has("package.json", "not json")), "");
    // A change cannot get rid of the tests that it is checked with, nor bring its own.
    assert_eq!(detected(new().had("Cargo.toml", "")), "cargo-fmt cargo-test*");
    let emptied = new().had("package.json", scripts).gets("package.json", "{}");
    assert_eq!(detected(emptied), "npm-lint npm-test*");
    assert_eq!(detected(new().gets("pytest.ini", "")), "");
}
