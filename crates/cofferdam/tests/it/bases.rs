//! Sessions and runs on a base that stands on an earlier one.

use crate::world::{World, text};

/// The second commit differs from the first in every way that a layer can.
fn moved_on() -> World {
    let world = World::new();
    for path in ["keep/one", "keep/two", "whole/directory/x", "turns/into/file"] {
        let file = world.cwd.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, path).unwrap();
    }
    world.commit("more");
    world.run(&["exec", "--", "true"]).expect(0);
    assert_eq!(standing(&world), 0);
    for path in ["whole", "turns"] {
        std::fs::remove_dir_all(world.cwd.join(path)).unwrap();
    }
    std::fs::remove_file(world.cwd.join("keep/two")).unwrap();
    std::fs::write(world.cwd.join("turns"), "a file").unwrap();
    std::fs::write(world.cwd.join("greeting.txt"), "hullo\n").unwrap();
    world.commit("moved on");
    world
}

/// How many prepared bases stand on another.
fn standing(world: &World) -> usize {
    let bases = std::fs::read_dir(world.home().join(".cache/cofferdam/bases/bases")).unwrap();
    bases.filter(|base| base.as_ref().unwrap().path().join("stands-on").exists()).count()
}

#[test]
fn a_session_has_the_commit_and_its_history_and_nothing_else() {
    let world = moved_on();
    let seen = world.run(&[
        "exec",
        "--",
        "sh",
        "-ec",
        "git status --porcelain --ignored; git rev-list --count HEAD; git fsck --strict 2>&1; \
         find . -path ./.git -prune -o ! -type d -print | cut -c3- | LC_ALL=C sort; \
         cat greeting.txt turns; find . -type d -empty -not -path './.git/*'",
    ]);
    assert_eq!(standing(&world), 1);
    let files = world.git(&["ls-files"]);
    assert_eq!(seen.expect(0), format!("3\n{files}\nhullo\na file"));
}

#[test]
fn a_change_made_there_is_the_change_and_nothing_else() {
    let world = moved_on();
    let run = world.edit(
        "rm keep/one; mkdir -p whole/directory; echo back > whole/directory/x; \
         echo hello > greeting.txt; rm turns; mkdir -p turns/into; echo again > turns/into/file",
    );
    assert_eq!(standing(&world), 1);
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
    let branch = world.git(&["for-each-ref", "--format=%(refname)", "refs/heads/cofferdam"]);
    let changed = world.git(&["diff", "--name-status", "--no-renames", "main", &branch]);
    assert_eq!(
        changed,
        "M\tgreeting.txt\nD\tkeep/one\nD\tturns\nA\tturns/into/file\nA\twhole/directory/x"
    );
}
