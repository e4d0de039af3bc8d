//! What a call leaves behind, and what the end of a session leaves.

use cofferdam_contract::denial::Attribution;
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::CallId;
use cofferdam_sandbox::{CallIo, CallSpec, SandboxError};

use crate::deaths::{beneath, stop, wait_for_end_of};
use crate::support::{Open, Site, call, launcher, probe, text, wait_until};

/// Processes that beat, as the session sees them.
fn beating(open: &Open) -> usize {
    let counted = open.probe(&["processes", "beat"]);
    text(&counted.stdout).trim().parse().unwrap()
}

/// A call that keeps a daemon, and with it its keeper.
fn keep_daemon(open: &Open) {
    let spec = CallSpec { background: true, ..probe(&["daemon", "/workspace/kept"]) };
    assert_eq!(open.start(spec).wait().exit_code, Some(0));
}

#[test]
fn a_daemon_dies_with_its_call() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let result = open.probe(&["daemon", "/workspace/beats"]);
    assert_eq!(result.exit_code, Some(0), "{}", text(&result.stdout));
    assert_eq!(beating(&open), 0);
    // Control: asked for in the background, it stays.
    keep_daemon(&open);
    assert_eq!(beating(&open), 1);
}

#[test]
fn what_the_agent_leaves_is_the_agents() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let spec = CallSpec { is_agent: true, ..probe(&["daemon", "/workspace/beats"]) };
    assert_eq!(open.start(spec).wait().exit_code, Some(0));
    assert_eq!(open.probe(&["daemon", "/workspace/stray"]).exit_code, Some(0));
    assert_eq!(beating(&open), 1);
}

#[test]
fn a_daemon_dies_although_another_call_runs() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let long = open.start(probe(&["sleep", "1000"]));
    // With a keeper: it starts while a plain call runs.
    assert_eq!(open.probe(&["daemon", "/workspace/one"]).exit_code, Some(0));
    assert_eq!(beating(&open), 0);
    // The plain call's own, beside one that keeps its processes.
    keep_daemon(&open);
    long.stopper().stop();
    assert_eq!(long.wait().end, CallEnd::Stopped);
    assert_eq!(open.probe(&["daemon", "/workspace/two"]).exit_code, Some(0));
    assert_eq!(beating(&open), 1);
}

/// The kernel shows such a process as dead (pthread_exit(3)), which it is not.
#[test]
fn a_process_whose_first_thread_is_gone_dies_with_its_call() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    keep_daemon(&open);
    let count = "for it in /proc/[0-9]*; do \
                 grep -q ') Z ' $it/stat && test $(ls $it/task | wc -l) -gt 1 && echo; \
                 done 2>/dev/null | wc -l";
    let left = || text(&open.sh(count).stdout).trim().parse::<u32>().unwrap();
    let headless = |marker| probe(&["headless-daemon", marker]);
    assert_eq!(open.start(headless("/workspace/stray")).wait().exit_code, Some(0));
    assert_eq!(left(), 0);
    // Control: asked for in the background, it stays, until that is stopped.
    let started = open.start(CallSpec { background: true, ..headless("/workspace/stays") });
    let stopper = started.stopper();
    assert_eq!(started.wait().exit_code, Some(0));
    assert_eq!(left(), 1);
    stopper.stop();
    wait_until("what it left is gone", || left() == 0);
}

/// Processes to set something for, which stay until the call ends, and one that ends as its child did.
const PARENT: &str = r#"
import os, resource, signal
own = os.getpid()
def child(then=signal.pause):
    pid = os.fork()
    if pid == 0: os._exit(then() or 0)
    return pid
def grandchild():
    said, says = os.pipe()
    def start():
        os.write(says, str(child()).encode())
        signal.pause()
    child(start)
    return int(os.read(said, 20))
def done():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"#;

/// Init has the session's user. Who takes its descriptors would keep it from seeing whom it has to
/// end, and who takes its time, from ending them soon.
#[test]
fn a_call_sets_nothing_for_who_ends_it() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let python = |program: &str| {
        let program = format!("{PARENT}try:\n {program}\nexcept PermissionError: os._exit(7)");
        let result = open.run(&["python3", "-c", &program]);
        assert!(result.stderr.is_empty(), "{program}: {}", text(&result.stderr));
        (result.exit_code, result.denials)
    };
    let left = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let of_another = CallSpec { background: true, ..call(&["/bin/sh", "-c", left]) };
    let pid = text(&open.start(of_another).wait().stdout);
    let of_another = format!("os.setpriority(os.PRIO_PROCESS, {}, 19)", pid.trim());
    for program in [
        &*of_another,
        "resource.prlimit(1, resource.RLIMIT_NOFILE, (2, 2))",
        "os.setpriority(os.PRIO_PROCESS, 1, 19)",
        "os.setpriority(os.PRIO_PGRP, 1, 19)",
        "os.setpriority(os.PRIO_USER, 0, 19)",
        "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
        "os.sched_setparam(1, os.sched_param(0))",
        "os.sched_setaffinity(1, {0})",
        // Nor for who started it, or limits for what it started.
        "os.setpriority(os.PRIO_PROCESS, own, 19) if os.fork() == 0 else done()",
        "resource.prlimit(child(), resource.RLIMIT_NOFILE, (50, 50))",
    ] {
        assert_eq!(python(program), (Some(7), 1), "{program}");
    }
    let told = open.denials.0.lock().unwrap();
    assert!(told.iter().all(|it| it.rule == "seccomp.process"), "{told:?}");
    drop(told);
    // Control: for itself it may, by its own number too, and for what it started, and look at others.
    for program in [
        "resource.prlimit(own, resource.RLIMIT_NOFILE, (50, 50))",
        "os.setpriority(os.PRIO_PROCESS, own, 19)",
        "os.sched_setscheduler(own, os.SCHED_IDLE, os.sched_param(0))",
        "os.sched_setaffinity(own, os.sched_getaffinity(own))",
        "__import__('threading').Thread(target=lambda: os.sched_setaffinity(own, {0})).start()",
        "resource.prlimit(1, resource.RLIMIT_NOFILE)",
        "os.setpriority(os.PRIO_PROCESS, child(), 19)",
        "os.sched_setaffinity(child(), {0})",
        "os.sched_setscheduler(grandchild(), os.SCHED_IDLE, os.sched_param(0))",
    ] {
        assert_eq!(python(program), (Some(0), 0), "{program}");
    }
}

#[test]
fn stopping_a_call_in_the_background_stops_what_it_left() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let script = format!("{} daemon /workspace/beats; sleep 1000", crate::support::PROBE_INSIDE);
    let spec = CallSpec { background: true, ..call(&["/bin/sh", "-c", &script]) };
    let started = open.start(spec);
    wait_until("it beats", || open.path("session/upper/beats").exists());
    assert_eq!(beating(&open), 1);
    started.stopper().stop();
    assert_eq!(started.wait().end, CallEnd::Stopped);
    assert_eq!(beating(&open), 0);
}

/// Nobody but init ends a call, and the supervisor does not wait for it for ever.
#[test]
fn a_call_that_init_does_not_end_takes_its_session_along() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let marker = format!("/workspace/{}", open.session.id());
    let running = open.start(probe(&["beat", &marker]));
    let is_it = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == marker.as_bytes())
    };
    let own = i32::try_from(std::process::id()).unwrap();
    let beating = || beneath(own).into_iter().find(|it| is_it(it.pid));
    wait_until("it runs", || beating().is_some());
    let program = beating().unwrap();
    stop(program.parent());
    running.stopper().stop();
    assert_eq!(running.wait().end, CallEnd::Stopped);
    assert!(!open.session.is_alive());
    wait_for_end_of(&[program]);
}

#[test]
fn a_fork_bomb_is_bounded_and_ends_with_its_call() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    for (name, other) in [("alone", None), ("beside", Some(open_sleeper(&open)))] {
        let script = format!("exec {} bomb > {name}", crate::support::PROBE_INSIDE);
        let started = open.start(call(&["/bin/sh", "-c", &script]));
        let said = open.path("session/upper").join(name);
        let is_full = || std::fs::read_to_string(&said).is_ok_and(|it| it.contains("limit: "));
        wait_until("no more processes are made", is_full);
        started.stopper().stop();
        assert_eq!(started.wait().end, CallEnd::Stopped);
        assert!(open.session.is_alive());
        let left = open.probe(&["processes", "bomb"]);
        assert_eq!(text(&left.stdout).trim(), "0");
        drop(other);
    }
}

fn open_sleeper(open: &Open) -> cofferdam_sandbox::Call {
    open.start(probe(&["sleep", "1000"]))
}

#[test]
fn the_end_of_a_session_leaves_nothing() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let kept = CallSpec { background: true, ..probe(&["daemon", "/workspace/beats"]) };
    assert_eq!(open.start(kept).wait().exit_code, Some(0));
    let running = open.start(probe(&["sleep", "1000"]));
    // Control: it does write.
    let beats = || std::fs::metadata(open.path("session/upper/beats")).unwrap().len();
    let before = beats();
    wait_until("it beats", || beats() > before);
    open.session.end();
    let at_end = beats();
    assert_eq!(running.wait().end, CallEnd::SessionLost);
    assert!(!open.session.is_alive());
    let late = open.session.call(call(&["true"]), CallIo::Captured { stdin: Vec::new() });
    assert!(matches!(late.err(), Some(SandboxError::SessionLost)));
    assert_eq!(open.session.end(), open.session.end());
    assert_eq!(beats(), at_end);
}

#[test]
fn a_frozen_session_ends_too() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let running = open.start(probe(&["beat", "/workspace/beats"]));
    open.session.freeze().unwrap();
    running.stopper().stop();
    assert_eq!(running.wait().end, CallEnd::Stopped);
    open.session.end();
    assert!(!open.session.is_alive());
}

/// What was refused of whom: the call, and whether it is certain.
fn refused(open: &Open) -> Vec<(Option<CallId>, Attribution)> {
    let denials = open.denials.0.lock().unwrap();
    denials.iter().map(|denial| (denial.call.clone(), denial.attribution)).collect()
}

#[test]
fn what_the_background_is_refused_is_not_the_running_calls() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let waits = "mkfifo go said; (read x < go; unshare --user true; echo > said) >/dev/null 2>&1 &";
    let kept = CallSpec { background: true, ..call(&["/bin/sh", "-c", waits]) };
    let kept_id = kept.id.clone();
    assert_eq!(open.start(kept).wait().exit_code, Some(0));
    // It is refused something while this one runs, and only this one.
    let result = open.sh("echo > go; read x < said");
    assert_eq!((result.exit_code, result.denials), (Some(0), 0));
    open.session.end();
    assert_eq!(refused(&open), [(Some(kept_id), Attribution::Exact)]);
}

#[test]
fn what_an_orphan_is_refused_is_its_calls() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let kept = CallSpec { background: true, ..probe(&["daemon", "/workspace/kept"]) };
    assert_eq!(open.start(kept).wait().exit_code, Some(0));
    let orphan = "mkfifo go said; \
                  (setsid sh -c 'read x < go; unshare --user true; echo > said' &) ; \
                  echo > go; read x < said";
    let plain = call(&["/bin/sh", "-c", orphan]);
    let plain_id = plain.id.clone();
    let result = open.start(plain).wait();
    assert_eq!((result.exit_code, result.denials), (Some(0), 1));
    open.session.end();
    assert_eq!(refused(&open), [(Some(plain_id), Attribution::Inferred)]);
}
