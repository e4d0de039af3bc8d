//! The user's repository is what it was, byte for byte, but for new objects and our own branches.

use crate::snapshot::{ADDED, Snapshot};
use crate::world::{World, text};

#[test]
fn a_dirty_tree_and_hooks_are_left_alone() {
    let world = World::new();
    std::fs::write(world.cwd.join("greeting.txt"), "dirty\n").unwrap();
    std::fs::write(world.cwd.join("untracked"), "mine\n").unwrap();
    world.git(&["add", "untracked"]);
    let mark = world.home().join("hook-ran");
    let hooks = world.cwd.join(".git/hooks");
    for hook in ["reference-transaction", "post-commit", "pre-commit", "post-checkout", "update"] {
        use std::os::unix::fs::PermissionsExt as _;
        let file = hooks.join(hook);
        std::fs::write(&file, format!("#!/bin/sh\necho {hook} >> {}\n", mark.display())).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let before = Snapshot::of(&world.cwd);
    let run = world.edit("cat greeting.txt; ls; echo goodbye > greeting.txt");
    assert_eq!(run["files_changed"], 1);
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
    world.run(&["rollback"]).expect(0);
    before.assert_kept(&world.cwd, ADDED);
    assert!(!mark.exists(), "{:?}", std::fs::read_to_string(&mark));
    // The hooks are such that they would have been seen.
    world.git(&["branch", "seen"]);
    assert!(mark.exists());
}
