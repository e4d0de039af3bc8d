//! `session`: the boundary kept open, and a supervisor that is there only as long.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::sync::Barrier;

use crate::world::{World, binary, shape, text, wait_for_end};

#[test]
fn a_session_keeps_what_calls_left_until_it_is_ended() {
    let world = World::new();
    let started = world.run(&["session", "start", "--json"]).object(0);
    let session = text(&started, "session").to_owned();
    let supervisor = world.supervisor().expect("a supervisor holds the session");

    world.run(&["session", "exec", "--", "sh", "-c", "echo more >> greeting.txt"]).expect(0);
    let seen = world.run(&["session", "exec", &session, "--", "cat", "greeting.txt"]).expect(0);
    assert_eq!(seen, "hello\nmore\n");
    world.run(&["session", "exec", "--", "sh", "-c", "exit 9"]).expect(9);
    assert_eq!(world.run_with(b"in", &["session", "exec", "--", "cat"]).expect(0), "in");

    let diff = world.run(&["session", "diff"]).expect(0);
    assert!(diff.contains("\n+more\n"), "{diff}");
    let diff = world.run(&["session", "diff", "--json"]).object(0);
    assert_eq!(text(&diff["files"][0], "path"), "greeting.txt");

    let listed = world.run(&["session", "list", "--json"]).object(0);
    insta::assert_json_snapshot!("session_list_json", shape(&listed));
    assert_eq!(text(&listed["sessions"][0], "session"), session);

    let ended = world.run(&["session", "end", "--json"]).object(0);
    assert_eq!(text(&ended, "state"), "closed");
    assert_eq!(text(&ended, "run"), text(&started, "run"));
    wait_for_end(&supervisor);
    assert_eq!(world.run(&["session", "list"]).expect(0), "no session is open\n");
    assert_eq!(world.run(&["session", "exec", "--", "true"]).refusal(125), "session_unknown");
    assert_eq!(world.run(&["session", "end"]).refusal(2), "session_unknown");
    assert_eq!(world.git(&["status", "--porcelain"]), "");
}

#[test]
fn start_tells_the_boundary_and_exec_tells_what_came_of_it() {
    let world = World::new();
    let started = world.run(&["session", "start", "--json"]).object(0);
    let fields: Vec<_> = started.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["capabilities", "run", "session"]);
    let capabilities = &started["capabilities"];
    insta::assert_json_snapshot!("session_start_limits", shape(&capabilities["limits"]));
    for name in ["walls", "event_sources"] {
        insta::assert_json_snapshot!(format!("session_start_{name}"), shape(&capabilities[name]));
    }
    assert_eq!(capabilities["walls"].as_array().unwrap().len(), 21);
    assert!(!capabilities["event_sources"].as_array().unwrap().is_empty());
    let called = world.run_with(b"x", &["session", "exec", "--json", "--", "cat"]).object(0);
    insta::assert_json_snapshot!("session_exec_json", shape(&called));
    assert_eq!(text(&called, "stdout"), "x");
}

#[test]
fn sessions_are_told_apart_and_need_not_be_of_this_repository() {
    let world = World::new();
    let first = world.run(&["session", "start", "--json"]).object(0);
    let second = world.run(&["session", "start", "--json"]).object(0);
    let (first, second) = (text(&first, "session"), text(&second, "session"));
    world.run(&["session", "exec", first, "--", "touch", "mark"]).expect(0);
    world.run(&["session", "exec", first, "--", "test", "-e", "mark"]).expect(0);
    world.run(&["session", "exec", second, "--", "test", "-e", "mark"]).expect(1);
    // Unnamed it is the newest.
    world.run(&["session", "exec", "--", "test", "-e", "mark"]).expect(1);
    let mut elsewhere = world.command(&["session", "exec", "--", "true"]);
    let elsewhere = elsewhere.current_dir(world.home()).output().unwrap();
    assert_eq!(elsewhere.status.code(), Some(125));
    let mut named = world.command(&["session", "exec", first, "--", "true"]);
    assert_eq!(named.current_dir(world.home()).output().unwrap().status.code(), Some(0));
}

#[test]
fn calls_of_one_session_run_side_by_side() {
    let world = World::new();
    world.run(&["session", "start"]).expect(0);
    world.run(&["session", "exec", "--", "mkfifo", "/tmp/meeting"]).expect(0);
    // Neither can end before the other is there.
    let scripts = ["echo word > /tmp/meeting", "read word < /tmp/meeting && test $word = word"];
    std::thread::scope(|scope| {
        let world = &world;
        let calls = scripts.map(|script| {
            scope.spawn(move || {
                world.run(&["session", "exec", "--timeout", "60s", "--", "sh", "-c", script])
            })
        });
        for call in calls {
            call.join().unwrap().expect(0);
        }
    });
}

#[test]
fn many_starters_get_one_supervisor() {
    let world = World::new();
    let barrier = Barrier::new(4);
    let started: Vec<String> = std::thread::scope(|scope| {
        let start = || {
            barrier.wait();
            let started = world.run(&["session", "start", "--json"]).object(0);
            text(&started, "session").to_owned()
        };
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let supervisor = world.supervisor().unwrap();
    let listed = world.run(&["session", "list", "--json"]).object(0);
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 4);
    for session in &started {
        world.run(&["session", "end", session]).expect(0);
    }
    wait_for_end(&supervisor);
}

#[test]
fn a_session_whose_run_is_stopped_keeps_nothing_alive() {
    let world = World::new();
    let started = world.run(&["session", "start", "--json"]).object(0);
    let supervisor = world.supervisor().unwrap();
    world.run(&["stop", text(&started, "run")]).expect(0);
    wait_for_end(&supervisor);
    let shown = world.run(&["show", "--json", text(&started, "run")]).object(0);
    assert_eq!(text(&shown, "state"), "cancelled");
}

#[test]
fn a_long_state_directory_is_no_obstacle() {
    let world = World::new();
    let deep = world.home().join("d".repeat(120)).join("e".repeat(120));
    let run =
        |args: &[&str]| world.command(args).env("COFFERDAM_STATE_DIR", &deep).output().unwrap();
    assert!(run(&["session", "start"]).status.success());
    assert!(run(&["session", "exec", "--", "true"]).status.success());
    assert!(run(&["session", "end"]).status.success());
}

#[test]
fn killing_the_client_stops_its_call_and_no_other() {
    let world = World::new();
    world.run(&["session", "start"]).expect(0);
    let script = "echo started; exec sleep 600";
    let mut other = world.start(&["session", "exec", "--", "sh", "-c", script]);
    let mut child = world.start(&["session", "exec", "--", "sh", "-c", script]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    let mut lines_of_other = BufReader::new(other.stdout.take().unwrap()).lines();
    assert_eq!(lines_of_other.next().unwrap().unwrap(), "started");
    child.kill().unwrap();
    child.wait().unwrap();
    // The program itself holds the other end: it ends with the program, long before 600 s.
    assert!(lines.next().is_none());
    let listed = world.run(&["session", "list", "--json"]).object(0);
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(other.try_wait().unwrap(), None);
    world.run(&["session", "end"]).expect(0);
    assert!(lines_of_other.next().is_none());
    assert_eq!(other.wait().unwrap().code(), Some(125));
}

#[test]
fn the_supervisor_inherits_nothing_but_its_own() {
    let world = World::new();
    let (mut ours, theirs) = std::io::pipe().unwrap();
    // As a shell or a build tool leaves it: a descriptor beyond the standard ones, inheritable.
    let mut shell = std::process::Command::new("sh");
    let start = world.command(&["session", "start"]);
    shell.env_clear().envs(start.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(&world.cwd);
    shell.args(["-c", "exec 9>&1 >/dev/null; exec \"$0\" session start"]);
    shell.arg(binary()).stdout(theirs).stdin(Stdio::null());
    assert!(shell.status().unwrap().success());
    drop(shell);
    // Ends once nobody holds the other end any more, the living supervisor included.
    ours.read_to_end(&mut vec![]).unwrap();
    assert!(world.supervisor().is_some());
}

/// A pipe of the caller's is the caller's: others write to it and read from it as well.
#[test]
fn a_call_gets_pipes_of_its_own() {
    let world = World::new();
    for descriptor in ["0", "1", "2"] {
        let which = format!("stat -L -c %i /proc/self/fd/{descriptor}");
        let script = format!(
            "{{ echo | {{ {which} >&3; {} exec -- {which} >&3; }}; }} 2>&1 | cat",
            binary().display()
        );
        let shown = world.shell(&format!("({script}) 3>&1"));
        let inodes: Vec<_> = shown.stdout.lines().collect();
        let [outside, inside] = inodes[..] else { panic!("{shown:?}") };
        assert_ne!(outside, inside, "descriptor {descriptor}");
    }
}

#[test]
fn what_goes_to_one_pipe_stays_in_its_order() {
    let world = World::new();
    let writes = "for i in $(seq 200); do echo $i; echo $i >&2; done";
    let script = format!("{} exec -- sh -c '{writes}' 2>&1 | cat", binary().display());
    let expected: String = (1..=200).map(|i| format!("{i}\n{i}\n")).collect();
    assert_eq!(world.shell(&script).stdout, expected);
}
