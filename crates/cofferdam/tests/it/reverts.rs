//! A rollback of what others have built upon: a proposal of its own, driven to its end.

use crate::world::{World, text};

/// A run that changed the greeting, merged into `target`, and another commit on top of it.
fn built_upon(world: &World) -> (String, String) {
    let run = world.edit("echo goodbye > greeting.txt");
    let id = text(&run, "run").to_owned();
    world.git(&["branch", "target"]);
    world.run(&["approve", &id, "--digest", text(&run, "digest")]).expect(0);
    world.run(&["merge", &id, "--into", "target"]).expect(0);
    world.git(&["checkout", "-q", "target"]);
    std::fs::write(world.cwd.join("other.txt"), "built upon it\n").unwrap();
    let tip = world.commit("theirs");
    world.git(&["checkout", "-q", "main"]);
    (id, tip)
}

#[test]
fn a_merge_that_others_built_upon_is_reverted_by_a_proposal_that_is_approved_and_merged() {
    let world = World::new();
    let (id, tip) = built_upon(&world);
    let inverse = world.run(&["rollback", &id, "--json"]).object(0);
    assert_eq!((text(&inverse, "state"), text(&inverse, "reverts")), ("awaiting_approval", &*id));
    assert_eq!((inverse["already"].as_bool(), inverse["branch"].is_null()), (Some(false), true));
    assert_eq!(world.git(&["rev-parse", "target"]), tip, "nothing moved yet");

    let (revert, digest) = (text(&inverse, "run"), text(&inverse, "digest"));
    assert_ne!(revert, id);
    let shown = world.run(&["show", revert, "--json"]).object(0);
    assert_eq!((text(&shown, "verdict"), text(&shown, "base")), ("pass", tip.as_str()));
    let applied = world.run(&["approve", revert, "--digest", digest, "--json"]).object(0);
    assert_eq!((text(&applied, "state"), applied["reverts"].is_null()), ("applied", true));
    world.run(&["merge", revert, "--into", "target"]).expect(0);
    assert_eq!(world.git(&["show", "target:greeting.txt"]), "hello");
    assert_eq!(world.git(&["show", "target:other.txt"]), "built upon it");
    // The first run stays merged: its change is in the history, and so is its inverse.
    let first = world.run(&["show", &id, "--json"]).object(0);
    assert_eq!(text(&first, "state"), "merged");
    world.run(&["journal", "verify"]).expect(0);
}

/// What `merge` tells to do where the branch is checked out.
#[test]
fn a_change_that_a_person_merged_is_not_said_to_be_taken_back() {
    let world = World::new();
    let run = world.edit("echo goodbye > greeting.txt");
    let id = text(&run, "run").to_owned();
    let approved = ["approve", &id, "--digest", text(&run, "digest"), "--json"];
    let commit = text(&world.run(&approved).object(0), "commit").to_owned();
    assert_eq!(world.run(&["merge", &id, "--into", "main"]).refusal(7), "branch_checked_out");
    world.git(&["merge", "-q", &commit]);
    let tip = world.git(&["rev-parse", "main"]);

    let inverse = world.run(&["rollback", &id, "--json"]).object(0);
    assert_eq!((text(&inverse, "state"), text(&inverse, "reverts")), ("awaiting_approval", &*id));
    assert_eq!(text(&world.run(&["show", &id, "--json"]).object(0), "state"), "applied");
    let (revert, digest) = (text(&inverse, "run"), text(&inverse, "digest"));
    assert_eq!(text(&world.run(&["show", revert, "--json"]).object(0), "base"), tip);
    let applied = world.run(&["approve", revert, "--digest", digest, "--json"]).object(0);
    world.git(&["merge", "-q", text(&applied, "commit")]);
    assert_eq!(world.git(&["show", "main:greeting.txt"]), "hello");
}

#[test]
fn a_revert_that_conflicts_with_what_was_built_is_no_proposal_and_moves_nothing() {
    let world = World::new();
    let (id, _) = built_upon(&world);
    world.git(&["checkout", "-q", "target"]);
    std::fs::write(world.cwd.join("greeting.txt"), "changed since\n").unwrap();
    let tip = world.commit("theirs again");
    world.git(&["checkout", "-q", "main"]);
    let inverse = world.run(&["rollback", &id, "--json"]).object(10);
    assert_eq!((text(&inverse, "state"), text(&inverse, "reverts")), ("failed", &*id));
    assert_eq!(world.git(&["rev-parse", "target"]), tip);
}
