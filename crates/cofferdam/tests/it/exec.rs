//! `exec`: input, output and exit code pass through; what is ours is told apart.

use std::io::{BufRead as _, BufReader};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{World, shape, text};

#[test]
fn exit_codes_are_the_programs_own() {
    let world = World::new();
    world.run(&["exec", "--", "true"]).expect(0);
    world.run(&["exec", "--", "false"]).expect(1);
    world.run(&["exec", "--", "sh", "-c", "exit 42"]).expect(42);
    world.run(&["exec", "--", "sh", "-c", "kill -TERM $$"]).expect(143);
}

#[test]
fn what_is_ours_has_exit_codes_of_its_own() {
    let world = World::new();
    assert_eq!(
        world.run(&["exec", "--", "no-such-program"]).refusal(127),
        "executable_unavailable"
    );
    let late = world.run(&["exec", "--timeout", "200ms", "--", "sleep", "600"]);
    assert!(late.code == Some(124) && late.stderr.contains("no more time"), "{late:?}");
    let done = world.run(&["exec", "--base", "no-such-revision", "--", "true"]);
    assert_eq!(done.refusal(125), "revision_unknown");
    world.configure("profiles/strict.toml", "[executables]\ndeny = [\"sh\"]\n");
    let done = world.run(&["exec", "--profile", "strict", "--", "sh", "-c", "true"]);
    assert_eq!(done.refusal(125), "executable_denied");
    world.run(&["exec", "--profile", "strict", "--", "true"]).expect(0);
}

#[test]
fn input_and_outputs_pass_through() {
    let world = World::new();
    assert_eq!(
        world.run_with(b"from outside\n", &["exec", "--", "cat"]).expect(0),
        "from outside\n"
    );
    let done = world.run(&["exec", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    let large = world.run(&["exec", "--", "head", "-c", "3000000", "/dev/zero"]).expect(0);
    assert_eq!(large.len(), 3_000_000);
}

#[test]
fn it_sees_the_repository_and_changes_nothing_of_it() {
    let world = World::new();
    let script = "cat greeting.txt; echo changed > greeting.txt; rm -r src; cat greeting.txt";
    let out = world.run(&["exec", "--", "sh", "-c", script]).expect(0);
    assert_eq!(out, "hello\nchanged\n");
    assert_eq!(world.git(&["status", "--porcelain"]), "");
}

#[test]
fn json_has_the_documented_fields() {
    let world = World::new();
    let script = "cat; echo err >&2; printf '\\377\\033[2J'; exit 3";
    let object = world.run_with(b"in\n", &["exec", "--json", "--", "sh", "-c", script]).object(3);
    insta::assert_json_snapshot!("exec_json", shape(&object));
    assert_eq!(object["exit_code"], 3);
    assert_eq!(text(&object, "stdout"), "in\n\u{fffd}\u{1b}[2J");
    assert_eq!(text(&object, "stderr"), "err\n");
    let late =
        world.run(&["exec", "--json", "--timeout", "200ms", "--", "sleep", "600"]).object(124);
    assert_eq!(late["timed_out"], true);
    let failed = world.run(&["exec", "--json", "--base", "nope", "--", "true"]).object(125);
    insta::assert_json_snapshot!("problem_json", shape(&failed));
    assert_eq!(text(&failed, "code"), "revision_unknown");
}

#[test]
fn a_signal_ends_the_call_and_the_session() {
    let world = World::new();
    let mut child = world.start(&["exec", "--", "sh", "-c", "echo started; exec sleep 600"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    // The program held the other end of this pipe: its end shows that it is gone.
    assert!(lines.next().is_none());
    let runs = world.run(&["list", "--json"]).object(0);
    assert_eq!(text(&runs["runs"][0], "state"), "closed");
}
