//! Invariant 5: an approval is of one proposal and of nothing else.

use serde_json::Value;

use crate::world::{World, text};

const EDIT: &str = "echo bye > greeting.txt";

fn run(world: &World, profile: &str, script: &str) -> Value {
    world.run(&["run", "--json", "--profile", profile, "--", "sh", "-c", script]).object(0)
}

fn branches(world: &World) -> String {
    world.git(&["branch", "--list", "cofferdam/*"])
}

/// The digest of one proposal approves no other: made by the same steps but for one difference.
#[track_caller]
fn another(difference: impl FnOnce(&World) -> Value, same: &str) {
    let world = World::new();
    let mine = run(&world, "assist", EDIT);
    let other = difference(&world);
    assert_ne!(mine["digest"], other["digest"]);
    assert_eq!(mine[same], other[same], "only one thing differs");
    let given = |of: &Value, digest: &Value| {
        let digest = digest["digest"].as_str().unwrap();
        world.run(&["approve", text(of, "run"), "--digest", digest])
    };
    assert_eq!(given(&other, &mine).refusal(7), "stale_digest");
    assert_eq!(branches(&world), "");
    // The control: the digest of its own does.
    given(&other, &other).expect(0);
    assert!(branches(&world).contains(text(&other, "run")));
}

#[test]
fn of_another_base() {
    let elsewhere = |world: &World| {
        world.git(&["commit", "-q", "--allow-empty", "-m", "the same tree"]);
        run(world, "assist", EDIT)
    };
    another(elsewhere, "tree");
}

#[test]
fn of_another_tree() {
    another(|world| run(world, "assist", "echo cheerio > greeting.txt"), "base");
}

#[test]
fn of_another_mode_of_a_file() {
    another(|world| run(world, "assist", &format!("{EDIT}; chmod +x greeting.txt")), "base");
}

#[test]
fn of_another_policy() {
    let other = |world: &World| {
        world.configure("profiles/mine.toml", "[change]\nfiles_max = 199\n");
        run(world, "mine", EDIT)
    };
    another(other, "tree");
}

#[test]
fn of_other_checks() {
    let other = |world: &World| {
        let checks = "[[gate.commands]]\nname = \"odd\"\nargv = [\"true\"]\nkind = \"test\"\n\
                      required = false\ntimeout_ms = 60000\n";
        world.configure("profiles/mine.toml", checks);
        run(world, "mine", EDIT)
    };
    another(other, "tree");
}

#[test]
fn from_before_the_base_moved() {
    let world = World::new();
    let first = run(&world, "assist", EDIT);
    std::fs::write(world.cwd.join("other"), "moved\n").unwrap();
    world.commit("moved");
    let approve = |digest: &str| world.run(&["approve", "--digest", digest]);
    assert_eq!(approve(text(&first, "digest")).refusal(7), "base_moved");
    world.run(&["recheck"]).expect(0);
    assert_eq!(approve(text(&first, "digest")).refusal(7), "stale_digest");
    assert_eq!(branches(&world), "");
    let shown = world.run(&["show", "--json"]).object(0);
    approve(text(&shown, "digest")).expect(0);
}

#[test]
fn by_the_one_who_asked_for_it() {
    let world = World::new();
    world.configure("profiles/team.toml", "[approval]\nrequester_may_approve = false\n");
    let mine = run(&world, "team", EDIT);
    let done = world.run(&["approve", "--digest", text(&mine, "digest")]);
    assert_eq!(done.refusal(3), "policy_denied");
    let yes = ["run", "--yes", "--profile", "team", "--", "sh", "-c", EDIT];
    assert_eq!(world.run(&yes).refusal(3), "policy_denied");
    assert_eq!(branches(&world), "");
    let mine = run(&world, "assist", EDIT);
    world.run(&["approve", "--digest", text(&mine, "digest")]).expect(0);
}

#[test]
fn one_where_two_are_needed() {
    let world = World::new();
    world.configure("profiles/two.toml", "[approval]\nrequired = 2\n");
    let mine = run(&world, "two", EDIT);
    for _ in 0..2 {
        let answer = world.run(&["approve", "--json", "--digest", text(&mine, "digest")]).object(0);
        assert_eq!(text(&answer, "state"), "awaiting_approval");
    }
    assert_eq!(branches(&world), "");
    let mine = run(&world, "assist", EDIT);
    let answer = world.run(&["approve", "--json", "--digest", text(&mine, "digest")]).object(0);
    assert_eq!(text(&answer, "state"), "applied");
}

#[test]
fn of_a_change_that_the_gate_refused() {
    let world = World::new();
    let script = "printf 'key = \"AKIA%s\"\\n' IOSFODNN7EXAMPLQ > greeting.txt";
    let args = ["run", "--json", "--", "sh", "-c", script];
    let refused = world.run(&args).object(4);
    let digest = refused["digest"].as_str().unwrap();
    assert_eq!(world.run(&["approve", "--digest", digest]).refusal(7), "not_in_state");
    assert_eq!(branches(&world), "");
    let mine = run(&world, "assist", EDIT);
    world.run(&["approve", "--digest", text(&mine, "digest")]).expect(0);
}

#[test]
fn in_a_journal_that_was_written_over() {
    let world = World::new();
    let mine = run(&world, "assist", EDIT);
    let other = run(&world, "assist", "echo evil > greeting.txt");
    let (tree, evil) = (text(&mine, "tree"), text(&other, "tree"));
    let file = world.state().join("journal/journal.db");
    let sql = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1])\n\
        made = db.execute('update events set bytes = cast(replace(cast(bytes as text), ?, ?) as blob) \
        where instr(cast(bytes as text), ?)', (sys.argv[2], sys.argv[3], sys.argv[2]))\n\
        print(made.rowcount > 0)\n\
        db.commit()\n";
    let swap = |from: &str, to: &str| {
        let mut command = std::process::Command::new("python3");
        let output = command.args(["-c", sql]).arg(&file).args([from, to]).output().unwrap();
        assert_eq!(output.stdout, b"True\n", "{output:?}");
    };
    // Written over by itself: the control, and everything is in one file.
    swap(tree, tree);
    let good = std::fs::read(&file).unwrap();
    let digest = text(&mine, "digest");
    swap(tree, evil);
    let done = world.run(&["approve", text(&mine, "run"), "--digest", digest]);
    assert_eq!(done.refusal(1), "journal_corrupt");
    assert_eq!(branches(&world), "");
    let told = world.run(&["journal", "verify", "--json"]).object(1);
    let fault = told["faults"][0].as_object().unwrap();
    let fields: Vec<_> = fault.keys().map(String::as_str).collect();
    assert_eq!(fields, ["detail", "run", "sequence"], "{told}");
    assert_eq!(fault["run"], mine["run"]);
    std::fs::write(&file, good).unwrap();
    world.run(&["approve", text(&mine, "run"), "--digest", digest]).expect(0);
}
