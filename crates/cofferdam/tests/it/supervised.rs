//! Runs that the background supervisor holds.

use std::io::{BufRead as _, BufReader};

use crate::world::{Done, World, binary, text, wait_for_end};

#[test]
fn a_detached_run_rests_and_its_supervisor_is_gone() {
    let world = World::new();
    let args = ["run", "--detach", "--json", "--", "sh", "-c", "echo 1 > a"];
    let run = world.run(&args).object(0);
    if let Some(supervisor) = world.supervisor() {
        wait_for_end(&supervisor);
    }
    let shown = world.run(&["show", "--json"]).object(0);
    assert_eq!(shown["run"], run["run"]);
    assert_eq!(text(&shown, "state"), "awaiting_approval");
}

#[test]
fn with_yes_it_is_applied() {
    let world = World::new();
    let args = ["run", "--detach", "--yes", "--json", "--", "sh", "-c", "echo 1 > a"];
    world.run(&args).object(0);
    if let Some(supervisor) = world.supervisor() {
        wait_for_end(&supervisor);
    }
    assert_eq!(text(&world.run(&["show", "--json"]).object(0), "state"), "applied");
}

#[test]
fn a_detached_run_can_be_followed_and_stopped() {
    let world = World::new();
    let run = world.run(&["run", "--detach", "--json", "--", "sleep", "600"]).object(0);
    let supervisor = world.supervisor().unwrap();
    let id = text(&run, "run");
    let mut follower = world.start(&["events", id, "--follow", "--json"]);
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut kinds = vec![];
    for line in lines {
        let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let kind = text(&event["body"], "type").to_owned();
        if kind == "call.started" {
            let stopped = world.run(&["stop", id, "--json"]).object(0);
            assert_eq!(text(&stopped, "state"), "cancelled");
        }
        kinds.push(kind);
    }
    assert!(follower.wait().unwrap().success());
    assert!(kinds.iter().any(|kind| kind == "run.ended"), "{kinds:?}");
    wait_for_end(&supervisor);
}

#[test]
fn a_refused_request_is_refused_at_once() {
    let world = World::new();
    let done = world.run(&["run", "--detach", "--base", "nope", "--", "true"]);
    assert_eq!(done.refusal(2), "revision_unknown");
}

#[test]
fn what_is_not_a_request_gets_an_answer_or_nothing_and_harms_nobody() {
    use std::io::{Read as _, Write as _};
    let world = World::new();
    world.run(&["session", "start"]).expect(0);
    let socket = world.state().join("supervisor.sock");
    for bytes in [
        b"\xff\xff\xff\xff\xff\xff\xff\xff".as_slice(),
        b"\0\0\0\x02\0\0\0\0{}",
        b"\0\0\0\x04\0\0\0\0null",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0",
        b"",
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = vec![];
        // A connection that is closed with bytes still unread ends in a reset.
        let read = stream.read_to_end(&mut answer).map_err(|error| error.kind());
        assert!(matches!(read, Ok(_) | Err(std::io::ErrorKind::ConnectionReset)), "{read:?}");
        let refused = String::from_utf8_lossy(&answer).contains("request_invalid");
        assert!(answer.is_empty() || refused, "{answer:?}");
    }
    // One that never ends its request keeps nobody waiting.
    let mut slow = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    slow.write_all(b"\0\0").unwrap();
    world.run(&["session", "exec", "--", "true"]).expect(0);
    drop(slow);
}

#[test]
fn the_socket_and_the_log_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.run(&["session", "start"]).expect(0);
    for name in ["supervisor.sock", "supervisor.log", "supervisor.lock"] {
        let mode = world.state().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn many_who_say_nothing_keep_nobody_out() {
    let world = World::new();
    world.run(&["session", "start"]).expect(0);
    let socket = world.state().join("supervisor.sock");
    let silent = (0..600).map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap());
    let silent: Vec<_> = silent.collect();
    let listed = world.run(&["session", "list", "--json"]).object(0);
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    drop(silent);
}

/// Starts up to ten sessions, under limits that the shell sets: how many were started, and how the
/// first of the others was refused.
fn ten_sessions(world: &World, limits: &str) -> (usize, Option<serde_json::Value>) {
    let start = format!("{limits}; exec {} session start --json", binary().display());
    for started in 0..10 {
        let done = world.shell(&start);
        if let Some(code @ 1..) = done.code {
            return (started, Some(done.object(code)));
        }
    }
    (10, None)
}

#[test]
fn the_supervisor_opens_as_many_files_as_the_administrator_allows() {
    let world = World::new();
    assert_eq!(ten_sessions(&world, "ulimit -Sn 100"), (10, None));

    let world = World::new();
    let (started, refused) = ten_sessions(&world, "ulimit -n 100");
    let refused = refused.unwrap();
    assert!(started > 1, "{started}: {refused}");
    assert_eq!(text(&refused, "code"), "boundary_unavailable", "{refused}");
    assert!(text(&refused, "hint").contains("open files"), "{refused}");
    // What is open goes on.
    let listed = world.run(&["session", "list", "--json"]).object(0);
    let session = text(&listed["sessions"][0], "session").to_owned();
    world.run(&["session", "exec", &session, "--", "true"]).expect(0);
}

/// Runs the binary where the kernel lets the user watch no more descriptors, as strace(1) makes it.
fn with_nothing_to_watch(world: &World, args: &[&str]) -> Done {
    let like = world.command::<&str>(&[]);
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=epoll_ctl"]);
    command.args(["-e", "inject=epoll_ctl:error=ENOSPC", "--"]);
    command.arg(binary()).args(args);
    command.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Done::of(command.current_dir(&world.cwd).output().unwrap())
}

/// A session of an ordinary user can take all of it, and has to be ended all the same.
#[test]
fn what_shows_and_ends_needs_nothing_to_watch() {
    let world = World::new();
    let data = world.home().join("data");
    std::fs::create_dir(&data).unwrap();
    let started = world.run(&["session", "start", "--json"]).object(0);
    let (run, session) = (text(&started, "run"), text(&started, "session"));
    let kind = format!("read:{}", data.display());
    let granted = world.run(&["grant", run, &kind, "--reason", "a test", "--json"]).object(0);
    // The control: what holds something itself says what is in its way.
    let refused = with_nothing_to_watch(&world, &["exec", "--", "true"]);
    assert!(refused.stderr.contains("fs.epoll.max_user_watches"), "{refused:?}");
    assert_eq!(refused.refusal(125), "boundary_unavailable");
    let refused = with_nothing_to_watch(&world, &["run", "--", "true"]);
    assert_eq!(refused.refusal(6), "boundary_unavailable");
    let do_without = |args: &[&str]| with_nothing_to_watch(&world, args).expect(0);
    assert!(do_without(&["session", "list"]).contains(session));
    assert!(do_without(&["list"]).contains(run) && do_without(&["show", run]).contains(run));
    assert!(do_without(&["revoke", text(&granted, "grant")]).contains("revoked"));
    do_without(&["session", "diff"]);
    assert!(do_without(&["session", "end"]).contains(session));
    let detached = world.run(&["run", "--detach", "--json", "--", "sleep", "1000"]).object(0);
    do_without(&["stop", text(&detached, "run")]);
    let over = world.run(&["show", text(&detached, "run"), "--json"]).object(0);
    assert_eq!(text(&over, "state"), "cancelled");
}
