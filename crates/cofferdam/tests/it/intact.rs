//! The user's repository is what it was, byte for byte, but for new objects and our own branches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::world::{World, contents, text};

/// Everything but what a run may add.
fn kept(repository: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let ours = |path: &Path| {
        let path = path.strip_prefix(repository).unwrap();
        path.starts_with(".git/objects")
            || path.starts_with(".git/refs/heads/cofferdam")
            || path.starts_with(".git/logs/refs/heads/cofferdam")
    };
    contents(repository).into_iter().filter(|(path, _)| !ours(path)).collect()
}

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
    let before = kept(&world.cwd);
    let run = world.edit("cat greeting.txt; ls; echo goodbye > greeting.txt");
    assert_eq!(run["files_changed"], 1);
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
    world.run(&["rollback"]).expect(0);
    let after = kept(&world.cwd);
    let changed: Vec<_> = before
        .iter()
        .filter(|(path, bytes)| after.get(*path) != Some(bytes))
        .map(|(path, _)| path)
        .chain(after.keys().filter(|path| !before.contains_key(*path)))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert!(!mark.exists(), "{:?}", std::fs::read_to_string(&mark));
    // The hooks are such that they would have been seen.
    world.git(&["branch", "seen"]);
    assert!(mark.exists());
}

#[test]
fn the_same_object_would_be_seen_if_it_were_changed() {
    let world = World::new();
    let before = kept(&world.cwd);
    world.git(&["config", "x.y", "z"]);
    assert_ne!(before, kept(&world.cwd));
}
