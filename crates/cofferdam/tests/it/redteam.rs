//! The attacks that ship: all hold, as root and as an ordinary user, and a wall that is open shows.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::world::{Done, World, text};

const NOBODY: u32 = 65534;
/// A host lacks some of what controls need. More than that is no test of anything.
const SKIPPED_MAX: usize = 12;

/// Every attack was decided, and none of a report's lines is what must not be.
#[track_caller]
fn all_held(report: &Value) {
    let probes = report["probes"].as_array().unwrap();
    assert!(probes.len() >= 200, "{}", probes.len());
    let mut skipped = Vec::new();
    for probe in probes {
        match text(probe, "outcome") {
            "held" => assert_eq!(probe["control_fired"], true, "{probe}"),
            "skipped" => {
                let why = text(probe, "why");
                let known = [
                    "this host does not give ",
                    "only root can ",
                    "the wall is not enforced here: ",
                ];
                assert!(known.iter().any(|known| why.starts_with(known)), "{probe}");
                skipped.push(text(probe, "name").to_owned());
            }
            _ => panic!("{probe}"),
        }
        assert_ne!(text(probe, "event"), "missing", "{probe}");
    }
    assert!(skipped.len() <= SKIPPED_MAX, "{skipped:?}");
}

#[test]
fn every_attack_is_held_and_told_and_every_control_fires() {
    let world = World::empty();
    let report = world.run(&["redteam", "--json"]).object(0);
    all_held(&report);
    assert_eq!(report["rootless"], !rustix::process::geteuid().is_root());
    assert!(!world.state().exists(), "it leaves nothing");
}

/// Where the tests are not run by root, the test above is this one.
#[test]
fn the_same_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = dir.path().join("cofferdam");
    std::fs::copy(env!("CARGO_BIN_EXE_cofferdam"), &binary).unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new(binary);
    command.args(["redteam", "--json"]).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("HOME", &home).env("TMPDIR", &home).current_dir(&home);
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
    let report = Done::of(command.output().unwrap()).object(0);
    all_held(&report);
    assert_eq!(report["rootless"], true);
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
