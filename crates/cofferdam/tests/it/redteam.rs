//! The attacks that ship: all hold, as root and as an ordinary user, and a wall that is open shows.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::flat::masked;
use crate::world::{Done, World, text};

const NOBODY: u32 = 65534;
/// A host lacks some of what controls need. More than that is no test of anything.
const SKIPPED_MAX: usize = 12;
/// What an ordinary user's may lack.
const NOT_FOR_USERS: [&str; 2] = ["resources.memory-files", "neighbour.devices"];
/// What a flat session does not have, or what nothing holds there.
const NOT_IN_FLAT: [&str; 12] = [
    "resources.memory-files",
    "neighbour.shm",
    "neighbour.arguments",
    "neighbour.abstract",
    "neighbour.socket-file",
    "neighbour.server",
    "neighbour.datagrams",
    "neighbour.locks",
    "neighbour.devices",
    "neighbour.shared-memory",
    "neighbour.messages",
    "left.shm",
];

/// Every attack was decided, and none of a report's lines is what must not be. Those that were
/// skipped because the boundary lacks something.
#[track_caller]
fn all_held(report: &Value) -> Vec<&str> {
    let probes = report["probes"].as_array().unwrap();
    assert!(probes.len() >= 200, "{}", probes.len());
    let (mut host, mut boundary) = (Vec::new(), Vec::new());
    for probe in probes {
        match text(probe, "outcome") {
            "held" => assert_eq!(probe["control_fired"], true, "{probe}"),
            "skipped" => {
                let why = text(probe, "why");
                let begins = |with: &[&str]| with.iter().any(|known| why.starts_with(known));
                if begins(&["this host does not give ", "only root can "]) {
                    host.push(text(probe, "name"));
                } else if begins(&["the wall is not enforced here: ", "no session has it here: "]) {
                    boundary.push(text(probe, "name"));
                } else {
                    panic!("{probe}");
                }
            }
            _ => panic!("{probe}"),
        }
        assert_ne!(text(probe, "event"), "missing", "{probe}");
    }
    assert!(host.len() <= SKIPPED_MAX, "{host:?}");
    boundary
}

/// The suite as an ordinary user runs it.
fn as_nobody(args: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = dir.path().join("cofferdam");
    std::fs::copy(env!("CARGO_BIN_EXE_cofferdam"), &binary).unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new(binary);
    command.args(["redteam", "--json"]).args(args).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("HOME", &home).env("TMPDIR", &home).current_dir(&home);
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
    Done::of(command.output().unwrap()).object(0)
}

#[test]
fn every_attack_is_held_and_told_and_every_control_fires() {
    let world = World::empty();
    let report = world.run(&["redteam", "--json"]).object(0);
    let lacking = all_held(&report);
    let is_root = rustix::process::geteuid().is_root();
    let may_lack = if is_root { &NOT_FOR_USERS[..1] } else { &NOT_FOR_USERS };
    assert!(lacking.iter().all(|it| may_lack.contains(it)), "{lacking:?}");
    assert_eq!(report["rootless"], !is_root);
    assert!(!world.state().exists(), "it leaves nothing");
}

/// Where the tests are not run by root, the test above is this one.
#[test]
fn the_same_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let report = as_nobody(&[]);
    let lacking = all_held(&report);
    assert!(lacking.iter().all(|it| NOT_FOR_USERS.contains(it)), "{lacking:?}");
    assert_eq!((text(&report, "backend"), &report["rootless"]), ("native", &Value::Bool(true)));
}

#[test]
fn the_same_without_namespaces_but_for_what_such_a_session_has_not() {
    let world = World::empty();
    let flat = ["--profile", "flat"];
    let report = if rustix::process::geteuid().is_root() {
        let refused = world.run(&[&["redteam"][..], &flat].concat());
        assert_eq!(refused.refusal(6), "boundary_unavailable");
        as_nobody(&flat)
    } else {
        world.run(&[&["redteam", "--json"][..], &flat].concat()).object(0)
    };
    assert_eq!(all_held(&report), NOT_IN_FLAT);
    assert_eq!(text(&report, "backend"), "flat");
}

/// On a host that gives no namespaces a control is what the user may do anyway.
#[test]
fn where_no_control_can_be_had_an_attack_is_skipped_and_the_others_are_tried() {
    let world = World::new();
    let classes =
        ["--class", "filesystem_read", "--class", "filesystem_write", "--class", "network"];
    let args = [&["redteam", "--json", "--profile", "flat"][..], &classes].concat();
    let report = masked(&world, &args).object(0);
    let outcome = |name: &str| {
        let probes = report["probes"].as_array().unwrap();
        probes.iter().find(|it| it["name"] == name).unwrap().clone()
    };
    for name in ["read.absolute", "write.create", "write.tool", "network.loopback"] {
        assert_eq!(text(&outcome(name), "outcome"), "held", "{}", outcome(name));
        assert_eq!(outcome(name)["control_fired"], true);
    }
    for name in ["read.bind", "network.tcp"] {
        let probe = outcome(name);
        assert_eq!(text(&probe, "outcome"), "skipped", "{probe}");
        assert!(text(&probe, "why").starts_with("this host does not give namespaces"), "{probe}");
    }
}

#[test]
fn a_result_that_is_kept_is_in_the_evidence_of_a_run_behind_the_same_boundary() {
    let world = World::new();
    let run = |task| {
        let run = ["run", "--json", "--task", task, "--", "sh", "-c", "echo x > kept"];
        let run: Value = world.run(&run).object(0);
        world.run(&["reject", text(&run, "run"), "--reason", "r"]).expect(0);
        text(&run, "run").to_owned()
    };
    let export = |run: &str, to: &str| {
        world.run(&["evidence", "export", run, "-o", to]).expect(0);
        world.run(&["evidence", "verify", to]).expect(0);
        world.cwd.join(to).join("attacks.json")
    };
    let first = run("t");
    assert!(!export(&first, "without").exists());
    let report = world.run(&["redteam", "--json", "--keep"]).object(0);
    let carried = export(&first, "with");
    let kept: Value = serde_json::from_slice(&std::fs::read(&carried).unwrap()).unwrap();
    assert_eq!(kept, report);
    // Another boundary is another record.
    world.configure("profiles/open.toml", "[session]\ndebug = true\n");
    let other =
        ["run", "--json", "--profile", "open", "--task", "t", "--", "sh", "-c", "echo x > k"];
    let other: Value = world.run(&other).object(0);
    world.run(&["reject", text(&other, "run"), "--reason", "r"]).expect(0);
    assert!(!export(text(&other, "run"), "other").exists());
    // Control: what is changed afterwards shows.
    let edited = std::fs::read_to_string(&carried).unwrap().replacen("held", "told", 1);
    std::fs::write(&carried, edited).unwrap();
    world.run(&["evidence", "verify", "with"]).expect(10);
}

/// The control of the suite itself: `debug` lets processes of a session trace one another.
#[test]
fn an_open_wall_is_reported_as_an_escape() {
    let world = World::empty();
    world.configure("profiles/open.toml", "[session]\ndebug = true\ndecoys = false\n");
    let file = world.cwd.join("redteam.json");
    let kept = file.to_str().unwrap();
    let args = ["redteam", "--json", "--profile", "open", "--class", "kernel", "--output", kept];
    let report = world.run(&args).object(8);
    let escaped =
        |name: &str| ["kernel.trace", "kernel.memory", "kernel.descriptor"].contains(&name);
    for probe in report["probes"].as_array().unwrap() {
        if escaped(text(probe, "name")) {
            assert_eq!(text(probe, "outcome"), "escaped", "{probe}");
            assert_eq!(text(probe, "event"), "missing", "{probe}");
        } else {
            assert!(["held", "skipped"].contains(&text(probe, "outcome")), "{probe}");
        }
    }
    let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(written, report);
}

#[test]
fn the_doctor_attacks_a_little_of_everything() {
    let world = World::empty();
    let doctor = world.run(&["doctor", "--attack", "--json"]).object(0);
    let probes = doctor["attacks"]["probes"].as_array().unwrap();
    let classes: std::collections::BTreeSet<_> =
        probes.iter().map(|probe| text(probe, "class")).collect();
    assert_eq!(classes.len(), 9, "{classes:?}");
    for probe in probes {
        assert!(["held", "skipped"].contains(&text(probe, "outcome")), "{probe}");
    }
    assert!(world.run(&["doctor", "--json"]).object(0).get("attacks").is_none());
}

#[test]
fn a_class_or_a_profile_that_is_not_there_is_named() {
    let world = World::empty();
    let done = world.run(&["redteam", "--class", "sorcery"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("filesystem_read"), "{done:?}");
    assert_eq!(world.run(&["redteam", "--profile", "none"]).refusal(2), "configuration_invalid");
}

#[test]
fn a_suite_that_takes_longer_than_it_may_is_ended() {
    let world = World::empty();
    let done = world.run(&["redteam", "--within", "500ms"]);
    assert!(done.stderr.contains("--within"), "{done:?}");
    assert_eq!(done.refusal(5), "budget_exhausted");
    assert!(!world.state().exists(), "it leaves nothing");
}
