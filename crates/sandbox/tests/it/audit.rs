//! What Landlock refuses, told by the kernel's audit: as root. For an ordinary user the report says
//! that nothing tells.
//!
//! Audit is the host's own, so these tests take turns with whoever else runs them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use cofferdam_contract::capability::EventSource;
use cofferdam_contract::denial::{Attribution, Denial, DenialSource, Operation};
use cofferdam_sandbox::{HostAudit, Launcher};
use rustix::process::{Pid, Signal, kill_process};

use crate::deaths::{beneath, see};
use crate::support::{
    Open, Site, call, is_root, launcher_that, probe, probe_path, text, wait_until,
};

/// Held during a test, by every copy of these tests on this machine.
fn turn() -> File {
    let path = std::env::temp_dir().join("cofferdam-audit-tests");
    let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
    file.lock().unwrap();
    file
}

fn sources(open: &Open, operation: Operation) -> &EventSource {
    let all = &open.session.report().event_sources;
    all.iter().find(|it| it.operation == operation).unwrap()
}

fn told(open: &Open) -> Vec<Denial> {
    let all = open.denials.0.lock().unwrap();
    all.iter().filter(|denial| denial.source == DenialSource::Landlock).cloned().collect()
}

fn open(launcher: &Launcher) -> Open {
    Site::new().open(launcher)
}

/// The reader among the processes of this test.
fn reader() -> i32 {
    let own = i32::try_from(std::process::id()).unwrap();
    let is_reader = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(b"\0audit\0")
    };
    beneath(own).into_iter().map(|it| it.pid).find(|pid| is_reader(*pid)).unwrap()
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn without_it_nothing_tells_and_the_report_says_so() {
    let silent = launcher_that(false, false);
    let open_silent = open(&silent);
    assert_eq!(open_silent.run(&["touch", "/etc/planted"]).exit_code, Some(1));
    assert!(!sources(&open_silent, Operation::Write).sources.contains(&DenialSource::Landlock));
    if is_root() {
        return;
    }
    let wanted = launcher_that(false, true);
    let open = open(&wanted);
    let write = sources(&open, Operation::Write);
    assert!(!write.sources.contains(&DenialSource::Landlock), "{write:?}");
    assert!(write.detail.contains("cannot be had: reading audit records takes root"), "{write:?}");
    assert_eq!(open.run(&["touch", "/etc/planted"]).exit_code, Some(1));
    assert_eq!(open.session.end().denials, 0);
}

/// The root of the tests below: they need what an ordinary user cannot have, and that is tried above.
fn audited() -> Option<(File, HostAudit, Launcher)> {
    if !is_root() {
        return None;
    }
    let turn = turn();
    let before = HostAudit::ask().unwrap();
    Some((turn, before, launcher_that(false, true)))
}

#[test]
fn each_refusal_names_its_call_and_the_host_is_left_as_it_was() {
    let Some((_turn, before, launcher)) = audited() else { return };
    let during = HostAudit::ask().unwrap();
    let found = (during.enabled, during.rules, during.task_never);
    assert_eq!(found, (1, 1, true), "{before:?} {during:?}");
    let open = open(&launcher);
    assert!(sources(&open, Operation::Write).sources.contains(&DenialSource::Landlock));
    let attempts: &[(&[&str], Operation, &str)] = &[
        (&["touch", "/etc/planted"], Operation::Write, "/etc (fs.make_reg)"),
        (&["mkdir", "/planted"], Operation::Write, "/ (fs.make_dir)"),
        (&["rm", "/etc/passwd"], Operation::Write, "/etc (fs.remove_file)"),
        (&["mv", "/etc/passwd", "/etc/other"], Operation::Write, "/etc (fs.remove_file)"),
        (
            &["dd", "of=/etc/passwd", "if=/dev/null"],
            Operation::Write,
            "/etc/passwd (fs.write_file)",
        ),
    ];
    for (command, operation, target) in attempts {
        let spec = call(command);
        let id = spec.id.clone();
        let result = open.start(spec).wait();
        assert_eq!(result.exit_code, Some(1), "{command:?}: {}", text(&result.stderr));
        let of_call = || {
            let told = told(&open).into_iter();
            told.filter(|denial| denial.call.as_ref() == Some(&id)).collect::<Vec<_>>()
        };
        wait_until("it is told", || !of_call().is_empty());
        let first = &of_call()[0];
        let seen = (first.operation, first.target.as_str(), first.attribution);
        assert_eq!(seen, (*operation, *target, Attribution::Exact), "{command:?}");
    }
    // Control: what is allowed is not told.
    let before_allowed = told(&open).len();
    assert_eq!(open.sh("touch /workspace/a /tmp/a && cat /etc/passwd").exit_code, Some(0));
    let end = open.session.end();
    assert_eq!((told(&open).len(), end.denials_lost), (before_allowed, 0));
    drop(open);
    drop(launcher);
    assert_eq!(HostAudit::ask().unwrap(), before);
}

#[test]
fn a_hostile_name_comes_escaped_and_whole() {
    let Some((_turn, _, launcher)) = audited() else { return };
    let open = open(&launcher);
    // A directory below the skeleton that the session can name, and a name that would end a field.
    let script = "import os\n\
        for name in ('/etc/x\"y z\\n\\x1b[2J', '/etc/domain=1 blockers=fs.execute'):\n\
        \x20   try: os.rename('/etc/passwd', name)\n\
        \x20   except OSError: pass\n\
        \x20   try: os.open(name, os.O_CREAT | os.O_WRONLY)\n\
        \x20   except OSError: pass";
    assert_eq!(open.run(&["python3", "-c", script]).exit_code, Some(0));
    let end = open.session.end();
    assert_eq!(end.denials_lost, 0);
    assert!(!told(&open).is_empty());
    for denial in told(&open) {
        assert!(denial.target.starts_with("/etc (fs."), "{denial:?}");
        assert_eq!(denial.rule, "landlock.write");
    }
}

#[test]
fn a_flood_is_told_or_counted() {
    const TIMES: u64 = 20_000;
    let Some((_turn, _, launcher)) = audited() else { return };
    let open = open(&launcher);
    let result = open.start(probe(&["plant", "/etc/planted", &TIMES.to_string()])).wait();
    assert_eq!(text(&result.stdout).trim(), format!("{TIMES} refused"));
    let end = open.session.end();
    let count: u64 = told(&open).iter().map(|denial| denial.count).sum();
    assert!(told(&open).len() < 50, "a flood costs few records");
    assert_eq!(count, end.denials);
    assert!(count + end.denials_lost >= TIMES, "{count} told, {} lost", end.denials_lost);
    assert_eq!(count == TIMES, end.denials_lost == 0, "{count} told, {} lost", end.denials_lost);
}

#[test]
fn a_reader_that_stalls_or_dies_hangs_and_frees_nothing() {
    let Some((_turn, before, launcher)) = audited() else { return };
    let stalled = open(&launcher);
    let reader = reader();
    signal(reader, Signal::STOP);
    wait_until("it stands still", || see(reader).unwrap().state == "T");
    let plant = || stalled.start(probe(&["plant", "/etc/planted", "100"])).wait();
    assert_eq!(text(&plant().stdout).trim(), "100 refused");
    assert_eq!(told(&stalled).len(), 0);
    signal(reader, Signal::CONT);
    wait_until("it is told", || told(&stalled).iter().map(|it| it.count).sum::<u64>() == 100);
    assert_eq!(stalled.session.end().denials_lost, 0);
    let orphaned = open(&launcher);
    signal(reader, Signal::KILL);
    wait_until("it is gone", || see(reader).is_none_or(|it| it.state == "Z"));
    let result = orphaned.start(probe(&["plant", "/etc/planted", "100"])).wait();
    assert_eq!(text(&result.stdout).trim(), "100 refused");
    assert!(orphaned.session.end().denials_lost > 0, "nobody was there to be told");
    drop((stalled, orphaned, launcher));
    // What the dead one could not put back, the next does.
    assert_eq!(HostAudit::ask().unwrap().enabled, 1);
    drop(launcher_that(false, true));
    assert_eq!(HostAudit::ask().unwrap(), before);
}

#[test]
fn a_supervisor_that_is_killed_leaves_the_host_as_it_was() {
    let Some((_turn, before, launcher)) = audited() else { return };
    drop(launcher);
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(probe_path())
        .args(["supervise", dir.path().to_str().unwrap(), "1"])
        .env("COFFERDAM_TEST_AUDIT", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!((line.trim(), HostAudit::ask().unwrap().enabled), ("ready", 1));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("it is put back", || HostAudit::ask().unwrap() == before);
}
