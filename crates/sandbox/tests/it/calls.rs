//! What a call gives back.

use std::io::Read;
use std::os::fd::OwnedFd;

use cofferdam_contract::events::CallEnd;
use cofferdam_sandbox::{CallIo, CallSpec, NotStarted, Program, SandboxError};

use crate::support::{Site, call, launcher, probe, text};

#[test]
fn output_and_exit_code_come_back() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let result = open.sh("cat hello; echo bad >&2; exit 3");
    assert_eq!((result.end, result.exit_code), (CallEnd::Exited, Some(3)));
    assert_eq!(
        (text(&result.stdout), text(&result.stderr)),
        ("from the base\n".into(), "bad\n".into())
    );
    assert!(!result.truncated);
    let again = open.sh("echo out >/dev/stdout; echo err >/dev/stderr");
    assert_eq!((text(&again.stdout), text(&again.stderr)), ("out\n".into(), "err\n".into()));
}

#[test]
fn a_signal_comes_back_as_one() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let result = open.sh("kill -TERM $$");
    assert_eq!((result.end, result.signal, result.exit_code), (CallEnd::Signaled, Some(15), None));
}

#[test]
fn input_goes_in_whole() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let stdin = vec![b'a'; 3 << 20];
    let spec = CallSpec { output_bytes_max: 8 << 20, ..call(&["cat"]) };
    let result = open.session.call(spec, CallIo::Captured { stdin: stdin.clone() }).unwrap().wait();
    assert!(result.stdout == stdin && !result.truncated);
    assert_eq!(open.run(&["cat"]).stdout, b"");
}

#[test]
fn a_program_that_cannot_be_started_is_said_so() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    std::fs::write(open.path("base/text"), "no program").unwrap();
    let cases = [
        (call(&["no-such-program"]), NotStarted::NotFound),
        (call(&["/usr/bin/no-such-program"]), NotStarted::NotFound),
        (call(&["./hello"]), NotStarted::NotExecutable),
        (call(&["/usr"]), NotStarted::NotExecutable),
        (CallSpec { cwd: "/nowhere".into(), ..call(&["true"]) }, NotStarted::NoDirectory),
    ];
    for (spec, why) in cases {
        let shown = format!("{spec:?}");
        let result = open.start(spec).wait();
        assert_eq!((result.end, result.not_started), (CallEnd::NotStarted, Some(why)), "{shown}");
        assert_eq!(result.exit_code, None);
    }
    // Control: the same exit code from a program that ran is the program's.
    let result = open.sh("exit 127");
    assert_eq!((result.end, result.exit_code), (CallEnd::Exited, Some(127)));
}

#[test]
fn environments_add_up_and_the_call_wins() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let spec = CallSpec {
        environment: vec![
            ("FROM_SESSION".into(), "no".into()),
            ("LONG".into(), "x".repeat(100_000).into()),
        ],
        ..call(&["/bin/sh", "-c", "echo $FROM_SESSION ${#LONG}"])
    };
    assert_eq!(text(&open.start(spec).wait().stdout), "no 100000\n");
    assert_eq!(text(&open.sh("echo $FROM_SESSION").stdout), "yes\n");
}

#[test]
fn resident_programs_run_without_being_there() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let resident = |name| CallSpec { program: Program::Resident { name }, ..call(&["-"]) };
    let stdin = b"quiet".to_vec();
    let result = open.session.call(resident("upper"), CallIo::Captured { stdin }).unwrap().wait();
    assert_eq!((text(&result.stdout), result.exit_code), ("QUIET".into(), Some(0)));
    let result = open.start(resident("panic")).wait();
    assert_eq!((result.end, result.exit_code), (CallEnd::Exited, Some(101)));
    let result = open.start(resident("unknown")).wait();
    assert_eq!(result.not_started, Some(NotStarted::NotFound));
    // It reads what the session made, so it must not hold init's socket.
    let result = open.start(resident("descriptors")).wait();
    assert_eq!(text(&result.stdout).lines().count(), 3, "{}", text(&result.stdout));
}

#[test]
fn passed_descriptors_are_the_programs_own() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let (mut ours, theirs) = std::io::pipe().unwrap();
    let io = CallIo::Passed { stdin: null(), stdout: theirs.into(), stderr: null() };
    let result = open.session.call(call(&["echo", "through"]), io).unwrap().wait();
    let mut got = String::new();
    ours.read_to_string(&mut got).unwrap();
    assert_eq!((got.as_str(), result.exit_code), ("through\n", Some(0)));
}

#[test]
fn a_terminal_becomes_the_controlling_one() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let ours = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&ours).unwrap();
    rustix::pty::unlockpt(&ours).unwrap();
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags).unwrap();
    let copy = || theirs.try_clone().unwrap();
    let script = "test -t 0 && echo seen >/dev/tty";
    for (terminal, code) in [(true, 0), (false, 2)] {
        let spec = CallSpec { terminal, ..call(&["/bin/sh", "-c", script]) };
        let io = CallIo::Passed { stdin: copy(), stdout: copy(), stderr: copy() };
        let result = open.session.call(spec, io).unwrap().wait();
        // Control: without it there is no /dev/tty to open.
        assert_eq!(result.exit_code, Some(code), "terminal: {terminal}");
    }
}

#[test]
fn output_beyond_its_bound_is_dropped_and_the_program_goes_on() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let spec = CallSpec { output_bytes_max: 1000, ..probe(&["flood", "8"]) };
    let result = open.start(spec).wait();
    assert_eq!((result.end, result.exit_code), (CallEnd::Exited, Some(0)));
    assert_eq!((result.stdout.len(), result.truncated, result.denials), (1000, true, 1));
    // Control: a larger bound keeps all of it.
    let spec = CallSpec { output_bytes_max: 16 << 20, ..probe(&["flood", "8"]) };
    let result = open.start(spec).wait();
    assert_eq!((result.stdout.len(), result.truncated), ((8 << 20) + 4, false));
}

#[test]
fn time_runs_out() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let spec = CallSpec { timeout_ms: 100, ..probe(&["sleep", "1000"]) };
    let result = open.start(spec).wait();
    assert_eq!((result.end, result.denials), (CallEnd::TimedOut, 1));
    assert!(result.duration_ms >= 100, "{}", result.duration_ms);
    assert_eq!(open.denials.0.lock().unwrap()[0].rule, "limit.time");
    // Whoever ignores signals is ended all the same.
    let spec = CallSpec {
        timeout_ms: 100,
        ..call(&["/bin/sh", "-c", "trap '' TERM INT HUP; while :; do :; done"])
    };
    assert_eq!(open.start(spec).wait().end, CallEnd::TimedOut);
    assert_eq!(open.sh("exit 0").exit_code, Some(0));
}

#[test]
fn a_call_is_stopped_from_elsewhere() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let call = open.start(probe(&["sleep", "1000"]));
    let stopper = call.stopper();
    std::thread::scope(|scope| {
        scope.spawn(move || stopper.stop());
        let result = call.wait();
        assert_eq!(result.end, CallEnd::Stopped);
    });
    drop(open.start(probe(&["beat", "/workspace/dropped"])));
    assert_eq!(open.sh("exit 5").exit_code, Some(5));
}

#[test]
fn many_calls_at_once_do_not_mix() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let calls: Vec<_> = (0..20)
        .map(|n| open.start(call(&["/bin/sh", "-c", &format!("sleep 0.05; echo {n}; exit {n}")])))
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        let result = call.wait();
        assert_eq!((text(&result.stdout), result.exit_code), (format!("{n}\n"), Some(n as i32)));
    }
}

#[test]
fn a_frozen_session_stands_still() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let beating = open.start(probe(&["beat", "/workspace/beats"]));
    let beats = || std::fs::metadata(open.path("session/upper/beats")).map_or(0, |it| it.len());
    crate::support::wait_until("it beats", || beats() > 0);
    open.session.freeze().unwrap();
    let refused = open.session.call(call(&["true"]), CallIo::Captured { stdin: Vec::new() });
    assert!(matches!(refused.err(), Some(SandboxError::Invalid { .. })));
    let frozen = beats();
    // Several of another session's beats long.
    let other = Site::new().open(&launcher);
    let measure = other.start(probe(&["beat", "/workspace/beats"]));
    let measured = || std::fs::metadata(other.path("session/upper/beats")).map_or(0, |it| it.len());
    crate::support::wait_until("the other session beats", || measured() > 5);
    assert_eq!(beats(), frozen);
    measure.stopper().stop();
    assert_eq!(measure.wait().end, CallEnd::Stopped);
    open.session.thaw().unwrap();
    // Control: it goes on.
    crate::support::wait_until("it beats again", || beats() > frozen);
    beating.stopper().stop();
    assert_eq!(beating.wait().end, CallEnd::Stopped);
}

#[test]
fn whoever_waits_hears_the_session_and_gives_it_back() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    assert_eq!(open.run(&["mkfifo", "gate"]).exit_code, Some(0));
    let started = open.start(call(&["sh", "-c", "read word < gate; echo $word"]));
    let waits = started.stopper();
    std::thread::scope(|scope| {
        // It hears the session, for others too, as long as it waits.
        let first = scope.spawn(move || started.wait());
        let result = open.sh("echo opened > gate; echo told");
        assert_eq!(text(&result.stdout), "told\n");
        assert_eq!(text(&first.join().unwrap().stdout), "opened\n");
    });
    waits.stop();

    // Nobody waits for the first; the second hears its end, and then the thread hears the rest.
    let first = open.start(call(&["sh", "-c", "read word < gate; exit 7"]));
    let second = open.sh("echo opened > gate; exit 8");
    assert_eq!(second.exit_code, Some(8));
    open.session.freeze().unwrap();
    open.session.thaw().unwrap();
    assert_eq!(first.wait().exit_code, Some(7));
}

#[test]
fn a_call_that_is_dropped_while_it_hears_the_session_gives_it_back() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let mut attended = open.start(call(&["sleep", "60"]));
    attended.attend();
    assert!(attended.advance().is_none());
    drop(attended);
    open.session.freeze().unwrap();
    open.session.thaw().unwrap();
    assert_eq!(open.run(&["true"]).exit_code, Some(0));
}
