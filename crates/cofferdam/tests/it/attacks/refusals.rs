//! Invariant 3: a refusal is one event, with rule, reason and call, and without the host's paths;
//! a loss is said.

use serde_json::Value;

use super::{events, newest};
use crate::world::{World, text};

/// What one Python statement in a session gave as denials, and the run's events of them.
fn denials(world: &World, program: &str) -> (Vec<Value>, Vec<Value>) {
    let prelude = "import ctypes, os, socket\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        def connect(address):\n\
        \x20   try: socket.socket().connect(address)\n\
        \x20   except OSError: pass\n";
    let program = format!("{prelude}{program}");
    let called = world.run(&["exec", "--json", "--", "python3", "-c", &program]).object(0);
    let told = called["denials"].as_array().unwrap().clone();
    (told, events(world, "denial.recorded"))
}

/// Exactly one event, told to the caller too, that names everything but the host.
#[track_caller]
fn assert_one(world: &World, (told, recorded): (Vec<Value>, Vec<Value>), rule: &str) {
    assert_eq!(told, recorded);
    let [denial] = &recorded[..] else { panic!("{rule}: {recorded:#?}") };
    assert_eq!((text(denial, "rule"), denial["count"].as_u64()), (rule, Some(1)), "{denial}");
    let started = events(world, "call.started");
    assert_eq!(denial["call"], started[0]["call"]);
    assert_eq!(denial["session"], started[0]["session"]);
    for field in ["reason_code", "target", "hint", "operation", "source"] {
        assert!(!text(denial, field).is_empty(), "{denial}");
    }
    let host = world.home().parent().unwrap().to_string_lossy().into_owned();
    assert!(!denial.to_string().contains(&host), "{denial}");
}

/// The refusal names the start of its call as its cause, and so does the end of the call.
#[test]
fn a_refusal_is_caused_by_its_call() {
    let world = World::new();
    denials(&world, "connect(('192.0.2.7', 443))");
    let all = world.run(&["events", "--json", &newest(&world)]).object(0);
    let find = |kind: &str| {
        let all = all["events"].as_array().unwrap().iter();
        all.clone().find(|event| event["body"]["type"] == kind).unwrap()
    };
    let started = find("call.started");
    for kind in ["denial.recorded", "call.ended"] {
        assert_eq!(find(kind)["cause"], started["id"], "{kind}");
    }
    assert_eq!(started["cause"], find("session.opened")["id"]);
}

/// The attempt makes one event; the same program without it makes none.
#[track_caller]
fn one_event(attempt: &str, rule: &str, harmless: &str) {
    let world = World::new();
    let found = denials(&world, attempt);
    assert_one(&world, found, rule);
    let (told, recorded) = denials(&world, harmless);
    assert!(told.is_empty() && recorded.is_empty(), "{harmless}: {recorded:?}");
}

#[test]
fn a_connection_out() {
    one_event("connect(('192.0.2.7', 443))", "seccomp.connect", "connect(('127.0.0.1', 1))");
}

#[test]
fn a_namespace_of_ones_own() {
    one_event("libc.unshare(0x10000000)", "seccomp.namespace", "libc.unshare(0)");
}

#[test]
fn a_mount() {
    one_event("libc.mount(b'x', b'/tmp', b'tmpfs', 0, None)", "seccomp.mount", "os.stat('/tmp')");
}

#[test]
fn a_look_into_another_process() {
    one_event("libc.ptrace(16, 1, None, None)", "seccomp.trace", "os.kill(os.getpid(), 0)");
}

#[test]
fn becoming_somebody_else() {
    one_event("libc.setuid(0)", "seccomp.privilege", "libc.setuid(os.getuid())");
}

#[test]
fn a_socket_to_the_machine_beneath() {
    one_event("libc.socket(40, 1, 0)", "seccomp.socket", "socket.socket(socket.AF_UNIX)");
}

#[test]
fn an_opened_decoy() {
    let attempt = "open(os.path.expanduser('~/.aws/credentials')).read()";
    one_event(attempt, "decoy.opened", "os.listdir(os.path.expanduser('~/.aws'))");
}

#[test]
fn the_same_again_is_a_count_and_another_is_another() {
    let world = World::new();
    let (told, recorded) = denials(&world, "for _ in range(300): connect(('192.0.2.7', 443))");
    assert_eq!(told, recorded);
    assert!(recorded.iter().all(|it| text(it, "target") == "192.0.2.7:443"), "{recorded:?}");
    assert_eq!(recorded.iter().map(|it| it["count"].as_u64().unwrap()).sum::<u64>(), 300);
    // Equal ones are held together, each time twice as long.
    assert!(recorded.len() <= 10, "{recorded:?}");
    let two = "for host in (7, 8): connect((f'192.0.2.{host}', 443))";
    assert_eq!(denials(&world, two).1.len(), 2);
}

#[test]
fn an_executable_that_policy_denies() {
    let world = World::new();
    world.configure("profiles/strict.toml", "[executables]\ndeny = [\"sh\"]\n");
    let strict = |program: &str| world.run(&["exec", "--profile", "strict", "--", program]);
    assert_eq!(strict("sh").refusal(125), "executable_denied");
    let recorded = events(&world, "denial.recorded");
    let [denial] = &recorded[..] else { panic!("{recorded:?}") };
    assert_eq!((text(denial, "rule"), text(denial, "target")), ("tool.exec", "sh"));
    assert_eq!(denial["call"], events(&world, "call.decided")[0]["call"]);
    assert!(events(&world, "call.started").is_empty(), "nothing was started");
    // The control: what is allowed starts, and no denial is made up.
    strict("true").expect(0);
    assert!(events(&world, "denial.recorded").is_empty());
    assert_eq!(events(&world, "call.started").len(), 1);
}

#[test]
fn a_flood_is_said_to_be_incomplete() {
    let world = World::new();
    let connects = |count: u32| {
        let program = format!("for port in range(1, {count} + 1): connect(('192.0.2.7', port))");
        let recorded = denials(&world, &program).1;
        let closed = events(&world, "session.closed");
        let lost = closed[0]["denials_lost"].as_u64().unwrap();
        let shown = world.run(&["show", "--json", &newest(&world)]).object(0);
        let told = recorded.iter().map(|it| it["count"].as_u64().unwrap()).sum::<u64>();
        assert_eq!(told + lost, u64::from(count), "each is told of or counted as lost");
        (lost, shown["events_incomplete"] == true)
    };
    let (lost, incomplete) = connects(1500);
    assert!(lost >= 500 && incomplete, "{lost} {incomplete}");
    assert_eq!(connects(15), (0, false));
}

#[test]
fn the_agent_can_read_what_was_refused() {
    let world = World::new();
    let script = "python3 -c \"import socket; socket.socket().connect(('192.0.2.7', 443))\" \
                  2>/dev/null; tail -n +1 -f /run/cofferdam/denials.jsonl | head -n 1";
    let read = world.run(&["exec", "--", "sh", "-c", script]).expect(0);
    let line: Value = serde_json::from_str(read.trim_end()).unwrap();
    assert_eq!(text(&line, "rule"), "seccomp.connect");
    assert!(!text(&line, "hint").is_empty());
    let nothing = world.run(&["exec", "--", "cat", "/run/cofferdam/denials.jsonl"]).expect(0);
    assert_eq!(nothing, "", "the control: nothing was refused, so nothing is there");
}

/// From wherever a program is started that is refused something: what names it is what the session
/// knows, in the tool's result, in the session's file and in the journal.
#[test]
fn no_record_names_a_path_of_the_host() {
    let world = World::new();
    let script = "cp /usr/bin/unshare mine; ./mine --user true; cp mine /tmp/t; /tmp/t --user true; \
                  /proc/self/root/workspace/mine --user true; cat ~/.aws/credentials >/dev/null; \
                  exec 3<mine; rm mine; /proc/self/fd/3 --user true; \
                  tail -n +1 -f /run/cofferdam/denials.jsonl | head -n 5";
    let called = world.run(&["exec", "--json", "--", "sh", "-c", script]).object(0);
    let inside = text(&called, "stdout").to_owned();
    let run = newest(&world);
    let asked = world.run(&["denials", "--json", &run]).expect(0);
    let told = called["denials"].to_string();
    // The paths are real: the session's layers are beneath the state directory while it runs.
    let host = world.home().parent().unwrap().to_string_lossy().into_owned();
    assert!(world.state().starts_with(&host) && world.state().exists());
    for said in [&inside, &told, &asked] {
        for path in [host.as_str(), "/upper", "/sessions/", "/.layers", "/.canaries"] {
            assert!(!said.contains(path), "{path} in {said}");
        }
        // Control: where the program was, as the session knows it.
        for path in ["/workspace/mine", "/tmp/t", "/home/agent/.aws/credentials"] {
            assert!(said.contains(path), "{path} not in {said}");
        }
    }
    assert_eq!(called["denials"].as_array().unwrap().len(), 5, "{told}");
}

#[test]
fn a_session_cannot_write_its_own_record() {
    let world = World::new();
    let script = "f=/run/cofferdam/denials.jsonl; echo forged >> $f; rm -f $f; true > $f; mv $f /tmp/x; \
                  chmod 666 $f; echo forged > /tmp/control && cat /tmp/control; cat $f";
    let done = world.run(&["exec", "--", "sh", "-c", script]);
    assert_eq!(done.stdout, "forged\n", "{done:?}");
    assert!(done.stderr.matches("Read-only file system").count() >= 3, "{done:?}");
}
