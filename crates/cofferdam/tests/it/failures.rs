//! What can be wrong, and the exit code that says of which kind it is.

use crate::world::{World, text};

#[test]
fn a_place_that_is_no_repository() {
    let world = World::empty();
    assert_eq!(world.run(&["run", "--", "true"]).refusal(2), "not_a_repository");
    assert_eq!(world.run(&["run", "--repo", "gone", "--", "true"]).refusal(2), "not_a_repository");
    world.git(&["init", "-q", "."]);
    assert_eq!(world.run(&["run", "--", "true"]).refusal(2), "unborn_branch");
    assert_eq!(world.run(&["show"]).refusal(2), "run_unknown");
}

#[test]
fn names_that_mean_nothing() {
    let world = World::new();
    assert_eq!(world.run(&["run", "--base", "nope", "--", "true"]).refusal(2), "revision_unknown");
    let unknown = "run_00000000000000000000000000";
    for command in ["show", "events", "diff", "review", "stop", "rollback", "recheck"] {
        assert_eq!(world.run(&[command, unknown]).refusal(2), "run_unknown", "{command}");
    }
    let done = world.run(&["run", "--profile", "nope", "--", "true"]);
    assert_eq!(done.refusal(2), "configuration_invalid");
    assert_eq!(world.run(&["show", "nonsense"]).code, Some(2));
    assert_eq!(world.run(&["nonsense"]).code, Some(2));
}

#[test]
fn a_driver_without_its_input() {
    let world = World::new();
    for args in [
        vec!["run"],
        vec!["run", "--driver", "codemod"],
        vec!["run", "--driver", "patch"],
        vec!["run", "--rule", "x", "--", "true"],
        vec!["run", "--driver", "codemod", "--rule", "gone.yml"],
        vec!["run", "--driver", "patch", "--from", "HEAD", "--", "true"],
    ] {
        assert_eq!(world.run(&args).refusal(2), "request_invalid", "{args:?}");
    }
}

#[test]
fn policy_says_no() {
    let world = World::new();
    world.configure("profiles/strict.toml", "[executables]\ndeny = [\"sh\"]\n");
    let args = ["run", "--json", "--profile", "strict", "--", "sh", "-c", "true"];
    let refused = world.run(&args).object(3);
    assert_eq!(text(&refused["problem"], "code"), "executable_denied");
}

#[test]
fn a_driver_that_fails_is_told_from_a_gate_that_refuses() {
    let world = World::new();
    let failed = world.run(&["run", "--json", "--", "sh", "-c", "exit 3"]).object(10);
    assert_eq!(text(&failed["problem"], "code"), "driver_failed");
}

#[test]
fn the_gate_says_no() {
    let world = World::new();
    let args = ["run", "--allow", "docs/**", "--json", "--", "sh", "-c", "echo > elsewhere"];
    let failed = world.run(&args).object(4);
    assert_eq!(text(&failed["problem"], "code"), "gate_failed");
    let review = world.run(&["review"]).expect(0);
    assert!(review.contains("elsewhere: outside_allowed_paths"), "{review}");
    let done = world.run(&["approve", "--digest", text(&failed, "digest")]);
    assert_eq!(done.refusal(7), "not_in_state");
    assert_eq!(world.git(&["branch", "--list", "cofferdam/*"]), "");
}

#[test]
fn time_runs_out() {
    let world = World::new();
    let args = ["run", "--json", "--wall-time", "700ms", "--", "sleep", "600"];
    let spent = world.run(&args).object(5);
    assert_eq!(text(&spent, "state"), "out_of_budget");
}

#[test]
fn a_wall_that_is_required_and_missing() {
    let world = World::new();
    world.configure("profiles/walled.toml", "[session]\nrequired_walls = [\"disk_limit\"]\n");
    let missing = world.run(&["run", "--json", "--profile", "walled", "--", "true"]).object(6);
    assert_eq!(text(&missing["problem"], "code"), "boundary_unavailable");
}

#[test]
fn a_state_directory_that_cannot_be_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let shared = world.home().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = world.home().join("file");
    std::fs::write(&file, "").unwrap();
    for dir in [&shared, &file] {
        for args in [["list", "--json"], ["session", "start"]] {
            let output = world.command(&args).env("COFFERDAM_STATE_DIR", dir).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.contains("code: storage_failed"), "{stderr}");
        }
    }
    let relative = world.command(&["list"]).env("COFFERDAM_STATE_DIR", "x").output().unwrap();
    assert_eq!(relative.status.code(), Some(2));
}

#[test]
fn a_corrupted_journal_is_told() {
    let world = World::new();
    world.edit("echo 1 > a");
    world.run(&["journal", "verify"]).expect(0);
    let database = world.state().join("journal/journal.db");
    for name in ["journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(database.with_file_name(name));
    }
    std::fs::write(&database, "no database").unwrap();
    assert_eq!(world.run(&["journal", "verify"]).refusal(1), "journal_corrupt");
    assert_eq!(world.run(&["list"]).refusal(1), "journal_corrupt");
}

#[test]
fn a_mistake_in_the_configuration_is_shown_with_its_line() {
    let world = World::new();
    world.run(&["config", "check"]).expect(0);
    world.configure("config.toml", "profile = \"assist\"\nprofle = 1\n");
    assert_eq!(world.run(&["run", "--", "true"]).refusal(2), "configuration_invalid");
    let checked = world.run(&["config", "check", "--json"]).object(2);
    insta::assert_json_snapshot!("config_check_json", crate::world::shape(&checked));
    assert_eq!((&checked["ok"], &checked["files"][0]["line"]), (&false.into(), &2.into()));
}
