//! What `prune` takes away is gone, and what somebody may still want is not.

use std::process::Command;

use crate::world::{World, text};

/// Whether the broker's store still has an object of its own.
fn stored(world: &World, object: &str) -> bool {
    let store = world.state().join("store/sha1.git");
    assert!(store.join("HEAD").is_file(), "{}", store.display());
    let mut git = Command::new("git");
    git.arg("--git-dir").arg(store).args(["cat-file", "-e", object]);
    git.output().unwrap().status.success()
}

#[test]
fn the_result_of_an_ended_run_goes_and_that_of_a_waiting_one_stays() {
    let world = World::new();
    let ended = world.edit("echo ended > greeting.txt");
    let ended_id = text(&ended, "run").to_owned();
    let blob = |said: &str| {
        let file = world.home().join("said");
        std::fs::write(&file, said).unwrap();
        world.git(&["hash-object", file.to_str().unwrap()])
    };
    let waiting = world.edit("echo waiting > greeting.txt");
    world.run(&["reject", &ended_id, "--reason", "no"]).expect(0);
    let objects = [text(&ended, "tree").to_owned(), blob("ended\n")];
    assert!(objects.iter().all(|object| stored(&world, object)), "control: before, it is there");

    let pruned = world.run(&["prune", "--json"]).object(0);
    assert!(pruned["objects"].as_u64().unwrap() >= 2, "{pruned}");
    assert!(!objects.iter().any(|object| stored(&world, object)));
    assert!(stored(&world, text(&waiting, "tree")) && stored(&world, &blob("waiting\n")));
    assert_eq!(world.run(&["diff", &ended_id]).refusal(7), "not_in_state");
    assert_eq!(world.run(&["reject", &ended_id, "--reason", "no"]).refusal(7), "not_in_state");
    assert!(world.run(&["diff"]).expect(0).contains("+waiting"));
    let applied = world.run(&["approve", "--digest", text(&waiting, "digest")]);
    applied.expect(0);
    assert_eq!(
        world.git(&["show", &format!("cofferdam/{}:greeting.txt", text(&waiting, "run"))]),
        "waiting"
    );
    // The commit is in the repository now, so the store's own copy goes; then nothing more does.
    let removed = |_| world.run(&["prune", "--json"]).object(0)["objects"].as_u64();
    assert_eq!([1, 2].map(removed), [Some(1), Some(0)]);
    world.run(&["journal", "verify"]).expect(0);
}

#[test]
fn bases_beyond_what_may_stay_go_by_number_and_by_size() {
    let world = World::new();
    world.edit("echo 1 > a");
    let bases = || {
        let entries = std::fs::read_dir(world.home().join(".cache/cofferdam/bases/bases")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    };
    let prune = |args: &[&str]| world.run(&[&["prune", "--json"], args].concat()).object(0);
    std::fs::write(world.cwd.join("b"), "b").unwrap();
    world.commit("second");
    world.edit("echo 2 > a");
    assert_eq!((bases(), prune(&[])["bases"].as_u64()), (2, Some(0)));
    assert_eq!(prune(&["--bases", "1"])["bases"].as_u64(), Some(1));
    assert_eq!(bases(), 1);
    let pruned = prune(&["--bases-bytes", "1"]);
    assert!(pruned["freed_bytes"].as_u64().unwrap() > 0, "{pruned}");
    assert_eq!((bases(), pruned["bases"].as_u64()), (0, Some(1)));
    // What is gone is made again.
    world.edit("echo 3 > a");
    assert_eq!(bases(), 1);
}
