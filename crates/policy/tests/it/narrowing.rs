//! The whole table: field × (narrower, equal, wider) → what the policy then says.

use std::fmt::Write as _;

use cofferdam_policy::narrowing::OPERATOR_ONLY;

use crate::support::compiled;

/// The operator's profile that every row is compiled against.
const OPERATOR: &str = r#"
[limits]
pids = 10
memory_bytes = 10
disk_bytes = 10
inodes = 10
output_bytes = 10
open_files = 10
call_timeout_ms = 10
[budget]
wall_ms = 10
tool_ms = 10
attempts = 10
[session]
environment = ["LANG", "TZ"]
carry = ["target", "node_modules"]
required_walls = ["memory_limit"]
[executables]
allow = ["cargo", "git"]
deny = ["curl"]
[paths]
allowed = ["src/**", "docs/**"]
protected = ["src/secure/**"]
[change]
files_max = 10
lines_max = 10
file_bytes_max = 10
kinds = ["text", "symlink"]
[dependencies]
lockfile_required = true
cargo = { registries = ["https://a.example", "https://b.example"], names = ["serde", "toml"] }
npm = { registries = ["https://a.example", "https://b.example"], names = ["left", "right"] }
pypi = { registries = ["https://a.example", "https://b.example"], names = ["left", "right"] }
[gate]
secrets = true
detect = true
commands = [{ name = "own", argv = ["cargo", "test"], required = true, kind = "test", timeout_ms = 10 }]
[approval]
required = 2
requester_may_approve = false
expires_after_ms = 10
[grants]
kinds = ["read", "debug"]
for_ms_max = 10
uses_max = 10
[merge]
protected_branches = ["main"]
"#;

/// Field, then what a repository writes there: narrower, equal, wider.
const ROWS: &[(&str, &str, &str, &str)] = &[
    ("limits.pids", "5", "10", "15"),
    ("limits.memory_bytes", "5", "10", "15"),
    ("limits.disk_bytes", "5", "10", "15"),
    ("limits.inodes", "5", "10", "15"),
    ("limits.output_bytes", "5", "10", "15"),
    ("limits.open_files", "5", "10", "15"),
    ("limits.call_timeout_ms", "5", "10", "15"),
    ("budget.wall_ms", "5", "10", "15"),
    ("budget.tool_ms", "5", "10", "15"),
    ("budget.attempts", "5", "10", "15"),
    ("session.environment", r#"["TZ"]"#, r#"["LANG", "TZ"]"#, r#"["LANG", "TZ", "HOME"]"#),
    ("session.carry", r#"["target"]"#, r#"["target", "node_modules"]"#, r#"["**"]"#),
    ("session.required_walls", r#"["memory_limit", "disk_limit"]"#, r#"["memory_limit"]"#, "[]"),
    ("executables.allow", r#"["cargo"]"#, r#"["cargo", "git"]"#, r#"["**"]"#),
    ("executables.deny", r#"["wget"]"#, r#"["curl"]"#, "[]"),
    ("paths.allowed", r#"["src/**"]"#, r#"["src/**", "docs/**"]"#, r#"["**"]"#),
    ("paths.protected", r#"["docs/**"]"#, r#"["src/secure/**"]"#, "[]"),
    ("change.files_max", "5", "10", "15"),
    ("change.lines_max", "5", "10", "15"),
    ("change.file_bytes_max", "5", "10", "15"),
    ("change.kinds", r#"["text"]"#, r#"["text", "symlink"]"#, r#"["text", "submodule"]"#),
    ("dependencies.lockfile_required", "true", "true", "false"),
    (
        "dependencies.cargo.registries",
        r#"["https://a.example"]"#,
        r#"["https://a.example", "https://b.example"]"#,
        r#"["https://evil.example"]"#,
    ),
    ("dependencies.cargo.names", r#"["serde"]"#, r#"["serde", "toml"]"#, r#"["**"]"#),
    (
        "dependencies.npm.registries",
        r#"["https://a.example"]"#,
        r#"["https://a.example", "https://b.example"]"#,
        r#"["https://evil.example"]"#,
    ),
    ("dependencies.npm.names", r#"["left"]"#, r#"["left", "right"]"#, r#"["**"]"#),
    (
        "dependencies.pypi.registries",
        r#"["https://a.example"]"#,
        r#"["https://a.example", "https://b.example"]"#,
        r#"["https://evil.example"]"#,
    ),
    ("dependencies.pypi.names", r#"["left"]"#, r#"["left", "right"]"#, r#"["**"]"#),
    ("gate.secrets", "true", "true", "false"),
    ("gate.detect", "true", "true", "false"),
    (
        "gate.commands",
        r#"[{ name = "more", argv = ["git", "diff"], required = true, kind = "linter", timeout_ms = 5 }]"#,
        "[]",
        r#"[{ name = "own", argv = ["true"], required = false, kind = "test", timeout_ms = 5 }]"#,
    ),
    ("grants.kinds", r#"["read"]"#, r#"["read", "debug"]"#, r#"["read", "debug", "write"]"#),
    ("grants.for_ms_max", "5", "10", "15"),
    ("grants.uses_max", "5", "10", "15"),
    ("approval.required", "3", "2", "1"),
    ("approval.requester_may_approve", "false", "false", "true"),
    ("approval.expires_after_ms", "5", "10", "15"),
    ("merge.protected_branches", r#"["release/**"]"#, r#"["main"]"#, "[]"),
];

fn table_name(field: &str) -> String {
    match field {
        "merge.protected_branches" => "protected_branches".to_owned(),
        "budget.wall_ms" => "budget.wallMs".to_owned(),
        "budget.tool_ms" => "budget.toolMs".to_owned(),
        field => field.to_owned(),
    }
}

/// The compiled value of `field`, or the refusal. `carry` is a question put to requests, so the
/// compiled policy holds only its answer; the property and attack tests ask it.
fn outcome(field: &str, value: &str) -> String {
    match compiled(OPERATOR, Some(&format!("{field} = {value}"))) {
        Err(error) => format!("REFUSED {error}"),
        Ok(policy) if field == "session.carry" => {
            let same = policy.version() == compiled(OPERATOR, None).unwrap().version();
            format!("compiles; without a request for it the policy is the same: {same}")
        }
        Ok(policy) => {
            let tables = serde_json::to_value(policy.tables()).unwrap();
            let at = table_name(field);
            let value = at.split('.').fold(&tables, |at, part| &at[part]);
            assert!(!value.is_null(), "{field} is not in the tables");
            value.to_string()
        }
    }
}

#[test]
fn every_field_narrows_and_none_widens() {
    let mut shown = String::new();
    for (field, narrower, equal, wider) in ROWS {
        let _ = writeln!(shown, "{field}");
        for (label, value) in [("narrower", narrower), ("equal", equal), ("wider", wider)] {
            let _ = writeln!(shown, "  {label:8} {value}\n        -> {}", outcome(field, value));
        }
    }
    for field in OPERATOR_ONLY {
        let _ = writeln!(shown, "{field}\n  any -> {}", outcome(field, "\"x\""));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn every_field_of_a_profile_is_in_the_table() {
    fn leaves(at: &str, value: &toml::Value, out: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => table.iter().for_each(|(name, inner)| {
                leaves(&format!("{at}.{name}"), inner, out);
            }),
            _ => out.push(at.trim_start_matches('.').to_owned()),
        }
    }
    let (_, text) = cofferdam_policy::BUILTINS[0];
    let mut fields = Vec::new();
    leaves("", &toml::Value::Table(text.parse().unwrap()), &mut fields);
    for field in fields {
        let in_table = ROWS.iter().any(|row| row.0 == field) || OPERATOR_ONLY.contains(&&*field);
        assert!(in_table, "{field} has no row");
    }
}

#[test]
fn an_equal_narrowing_is_the_same_policy() {
    let alone = compiled(OPERATOR, None).unwrap().version();
    for (field, _, equal, _) in ROWS {
        let with = compiled(OPERATOR, Some(&format!("{field} = {equal}"))).unwrap().version();
        assert_eq!(with, alone, "{field}");
    }
}

/// The table's operator has every guard on; this one has them off.
#[test]
fn a_guard_that_is_off_can_be_turned_on() {
    let off = "[gate]\nsecrets = false\ndetect = false\n[dependencies]\nlockfile_required = false";
    let on = "[gate]\nsecrets = true\ndetect = true\n[dependencies]\nlockfile_required = true";
    let off_again = compiled(off, Some(off)).unwrap();
    assert_eq!(off_again.version(), compiled(off, None).unwrap().version());
    let policy = compiled(off, Some(on)).unwrap();
    let tables = policy.tables();
    assert!(tables.gate.secrets && tables.gate.detect && tables.dependencies.lockfile_required);
    let may = "[approval]\nrequester_may_approve = true";
    let policy = compiled(may, Some("[approval]\nrequester_may_approve = false")).unwrap();
    assert!(!policy.tables().approval.requester_may_approve);
}
