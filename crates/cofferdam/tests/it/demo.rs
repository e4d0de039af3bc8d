//! The demo, from a private world: every proof, offline, as root or not, on repositories with and
//! without code, and with either answer.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::Value;

use crate::snapshot::Snapshot;
use crate::terminal::answered;
use crate::world::{Done, World, text};

const OF_WALLS: [&str; 7] =
    ["secret", "decoys", "outside", "network", "denials", "hooks", "strays"];
const OF_APPROVAL: [&str; 5] = ["approval", "branch", "evidence", "rollback", "journal"];
const NOBODY: u32 = 65534;

/// A repository in which a rewrite of the demo's finds something.
fn with_code() -> World {
    let world = World::new();
    let code = "pub fn none() -> Vec<u8> {\n    Vec::new()\n}\n";
    std::fs::write(world.cwd.join("src/more.rs"), code).unwrap();
    world.commit("more");
    world
}

#[track_caller]
fn assert_proved(done: Done, then: &[&str]) {
    let object = done.object(0);
    let proofs = object["proofs"].as_array().unwrap();
    let names: Vec<&str> = proofs.iter().map(|proof| text(proof, "name")).collect();
    assert_eq!(names, [&OF_WALLS[..], then, &["repository"]].concat(), "{object:#}");
    let failed: Vec<&Value> = proofs.iter().filter(|proof| proof["ok"] != true).collect();
    assert!(failed.is_empty() && object["ok"] == true, "{failed:#?}");
}

#[test]
fn every_proof_holds_with_code_and_without_and_the_repository_is_only_read() {
    // What no rewrite fits gets a line appended.
    let plain = World::new();
    for world in [with_code(), plain] {
        let before = Snapshot::of(&world.cwd);
        assert_proved(world.run(&["demo", "--json", "--yes"]), &OF_APPROVAL);
        before.assert_kept(&world.cwd, &[]);
        assert!(!world.state().exists(), "it uses no state of the user's");
    }
}

#[test]
fn another_repository_is_named_and_one_that_is_none_is_refused() {
    let (world, here) = (with_code(), World::empty());
    let named = ["demo", "--json", "--yes", "--repo", world.cwd.to_str().unwrap()];
    assert_proved(here.run(&named), &OF_APPROVAL);
    assert_eq!(here.run(&["demo", "--yes"]).refusal(2), "not_a_repository");
}

#[test]
fn without_a_yes_nothing_is_applied() {
    assert_proved(with_code().run(&["demo", "--json"]), &["rejected"]);
    let world = with_code();
    let no = answered(&world, &["demo"], "n\n");
    assert!(no.contains("nothing was written without an approval"), "{no}");
    let yes = answered(&world, &["demo"], "y\n");
    assert!(yes.contains("the branch was rolled back") && !yes.contains('✘'), "{yes}");
    assert!(yes.contains("the change: 1 file;"), "and none that the hostile step left: {yes}");
    let (writing, removing) = ("writing refs/heads/cofferdam/", "removing refs/heads/cofferdam/");
    assert!(yes.matches(writing).count() == 1 && yes.matches(removing).count() == 1, "{yes}");
}

#[test]
fn it_needs_no_network() {
    let world = with_code();
    let like = world.command(&["demo", "--json", "--yes"]);
    // A network namespace of its own, whose loopback is down.
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net"]).arg(like.get_program());
    command.args(like.get_args()).current_dir(&world.cwd).env_clear();
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_proved(Done::of(command.output().unwrap()), &OF_APPROVAL);
}

/// Where the tests are not run by root, the others have shown it already.
#[test]
fn it_needs_no_privilege() {
    let world = with_code();
    let like = world.command(&["demo", "--json", "--yes"]);
    let own = world.home().parent().unwrap().join("cofferdam");
    std::fs::copy(like.get_program(), &own).unwrap();
    let mut command = Command::new(&own);
    if rustix::process::geteuid().is_root() {
        let all = world.home().parent().unwrap().to_owned();
        let given = Command::new("chown").args(["-R", "65534:65534"]).arg(all).output().unwrap();
        assert!(given.status.success(), "{given:?}");
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(like.get_args()).current_dir(&world.cwd).env_clear();
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // Where temporary files go by default may be root's alone.
    command.env("TMPDIR", world.home());
    assert_proved(Done::of(command.output().unwrap()), &OF_APPROVAL);
}
