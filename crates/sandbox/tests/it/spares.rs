//! Sessions whose groundwork was laid before they were asked for are sessions like all others.

use std::path::PathBuf;
use std::process::Command;

use cofferdam_contract::limits::Limits;
use rustix::process::Signal;

use crate::deaths::{
    Supervised, beneath, groups_of, host_mounts, is_gone, signal, stop, wait_for_end_of,
};
use crate::support::{SPARE_VARIABLE, Site, has_groups, launcher_with, text, two_of_a_kind};

/// The walls are attacked once more, with every session begun as a spare.
#[test]
fn the_walls_of_a_spare_stand() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--test-threads=2", "walls::"])
        .env(SPARE_VARIABLE, "1")
        .output()
        .unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("test walls::") && said.contains(" 0 ignored"), "{said}");
}

#[test]
fn a_session_of_the_same_kind_begins_as_the_spare() {
    let mut supervised = Supervised::with_a_spare();
    let spare = supervised.spare().unwrap();
    supervised.tell("open");
    supervised.expect("opened");
    assert!(!is_gone(&spare));
    assert!(!beneath(spare.pid).is_empty(), "the session is not the spare's");
}

#[test]
fn the_report_of_a_spare_is_that_of_a_session_made_anew() {
    let launcher = launcher_with(true);
    let first = Site::new().open(&launcher);
    two_of_a_kind(&launcher);
    let second = Site::new().open(&launcher);
    assert_eq!(first.session.report(), second.session.report());
    // Control: they are two.
    assert_ne!(first.session.id(), second.session.id());
}

#[test]
fn a_session_of_another_kind_gets_what_it_asked_for() {
    let launcher = launcher_with(true);
    let limit = |open_files| {
        let mut site = Site::new();
        site.spec.limits = Limits { open_files, ..site.spec.limits };
        let open = site.open(&launcher);
        text(&open.sh("ulimit -n").stdout).trim().to_owned()
    };
    let limits = [100, 100, 200, 200, 200];
    assert_eq!(limits.map(limit), limits.map(|it| it.to_string()));
}

#[test]
fn a_spare_knows_nothing_of_the_session_before() {
    let launcher = launcher_with(true);
    two_of_a_kind(&launcher);
    let mut site = Site::new();
    site.spec.environment = vec![("OF_THE_FIRST".into(), "planted".into())];
    let marks = "echo planted >/tmp/mark; echo planted >$HOME/mark; echo planted >/dev/shm/mark; \
                 echo planted >mark; grep -l planted /tmp/mark $HOME/mark /dev/shm/mark mark; \
                 echo $OF_THE_FIRST";
    let first = site.open(&launcher);
    // Control: in the session itself the marks are found.
    assert_eq!(text(&first.sh(marks).stdout).matches("mark\n").count(), 4);
    let second = Site::new().open(&launcher);
    let looks = "cat /tmp/mark $HOME/mark /dev/shm/mark mark; env; ls /proc/1/fd";
    assert!(!text(&second.sh(looks).stdout).contains("planted"));
}

#[test]
fn a_spare_that_died_is_not_missed() {
    let mut supervised = Supervised::with_a_spare();
    let spare = supervised.spare().unwrap();
    signal(spare.pid, Signal::KILL);
    wait_for_end_of(std::slice::from_ref(&spare));
    supervised.tell("open");
    supervised.expect("opened");
    assert!(is_gone(&spare));
}

#[test]
fn a_spare_dies_with_supervisor_and_launcher() {
    for stopped in [false, true] {
        for of_launcher in [false, true] {
            let mounts = host_mounts();
            let supervised = Supervised::with_a_spare();
            let tree = beneath(supervised.pid());
            let spare = supervised.spare().unwrap();
            assert!(tree.contains(&spare));
            if stopped {
                stop(spare.pid);
            }
            let victim = if of_launcher { supervised.launcher() } else { supervised.pid() };
            signal(victim, Signal::KILL);
            wait_for_end_of(&tree);
            assert_eq!(host_mounts(), mounts);
        }
    }
}

#[test]
fn one_spare_is_all_that_stays_of_ended_sessions() {
    let mut supervised = Supervised::with_a_spare();
    supervised.tell("open 5");
    supervised.expect("opened");
    let tree = beneath(supervised.pid());
    supervised.tell("end");
    supervised.expect("ended");
    let (launcher, spare) = (supervised.launcher(), supervised.spare().unwrap());
    let left: Vec<_> = beneath(supervised.pid()).iter().map(|it| it.pid).collect();
    assert_eq!(left, [launcher, spare.pid]);
    // Control: there was more.
    assert!(tree.len() > 2 + 7);
    // One for memory and one for processes, on version 1; on version 2 one.
    let groups = groups_of(launcher);
    assert!(groups.len() <= 2 && groups.is_empty() != has_groups(), "{groups:?}");
    signal(supervised.pid(), Signal::KILL);
    wait_for_end_of(&[spare]);
    drop(launcher_with(false));
    assert_eq!(groups_of(launcher), Vec::<PathBuf>::new());
}
