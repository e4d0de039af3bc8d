//! Two at once, and one that dies.

use std::process::Command;
use std::sync::Mutex;

use cofferdam_repository::{Progress, no_crash};

use crate::fixture::{Fixture, broker_at, die_at, git_in};

const STATE: &str = "COFFERDAM_TEST_STATE";
const REPO: &str = "COFFERDAM_TEST_REPO";
const DIE: &str = "COFFERDAM_TEST_DIE";

/// The other process of the tests below.
#[test]
#[ignore = "the child of of_several_processes_and_threads_one_prepares"]
fn another_process_prepares() {
    let dir = std::env::var_os(STATE).unwrap();
    let broker = broker_at(dir.as_ref(), no_crash());
    let repository = broker.locate_path(std::env::var_os(REPO).unwrap().as_ref()).unwrap();
    let base = repository.resolve("HEAD").unwrap();
    let prepared = broker.prepare(&repository, &base, &|at| {
        if std::env::var(DIE).is_ok_and(|point| point == format!("{at:?}")) {
            std::process::abort();
        }
        println!("{at:?}");
    });
    println!("{}", prepared.unwrap().layers[0].display());
}

fn another_process(fixture: &Fixture, die: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "concurrency::another_process_prepares", "--ignored", "--nocapture"])
        .env(STATE, fixture.dir.path())
        .env(REPO, &fixture.repo)
        .env(DIE, die)
        .stdout(std::process::Stdio::piped());
    command
}

#[test]
fn of_several_processes_and_threads_one_prepares() {
    let fixture = Fixture::new();
    let others: Vec<_> = (0..3).map(|_| another_process(&fixture, "").spawn().unwrap()).collect();
    let built = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let (broker, repository) = fixture.located();
                let base = repository.resolve("HEAD").unwrap();
                let count = |at| *built.lock().unwrap() += u32::from(at == Progress::Checkout);
                broker.prepare(&repository, &base, &count).unwrap();
            });
        }
    });
    let mut built = built.into_inner().unwrap();
    for other in others {
        let output = other.wait_with_output().unwrap();
        assert!(output.status.success());
        built += u32::from(String::from_utf8_lossy(&output.stdout).contains("Checkout"));
    }
    assert_eq!(built, 1);
}

#[test]
fn a_preparer_that_dies_leaves_nothing_that_counts() {
    for point in ["Checkout", "History"] {
        let fixture = Fixture::new();
        let bases = fixture.dir.path().join("cache/bases");
        let names = || -> Vec<String> {
            let entries = std::fs::read_dir(&bases).unwrap().flatten();
            entries.map(|it| it.file_name().into_string().unwrap()).collect()
        };
        let output = another_process(&fixture, point).output().unwrap();
        assert!(!output.status.success());
        assert!(names().iter().any(|it| it.contains(".tmp-")), "the control: something was left");
        let (broker, repository) = fixture.located();
        let base = repository.resolve("HEAD").unwrap();
        let seen = Mutex::new(Vec::new());
        let prepared =
            broker.prepare(&repository, &base, &|at| seen.lock().unwrap().push(at)).unwrap();
        assert!(seen.lock().unwrap().contains(&Progress::Checkout), "it is made anew");
        assert!(prepared.layers[0].join("src/lib.rs").exists());
        assert!(names().iter().all(|it| !it.contains(".tmp-")), "{:?}", names());
    }
}

#[test]
fn the_same_intent_from_several_is_applied_once() {
    let fixture = Fixture::new();
    let tree = fixture.result("first.txt", "changed\n");
    let intent = fixture.intent(&fixture.rev("HEAD"), &tree);
    let results: Vec<_> = std::thread::scope(|scope| {
        let each = |_| scope.spawn(|| fixture.located().1.carry_out(&intent).unwrap());
        let started: Vec<_> = (0..4).map(each).collect();
        started.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|it| !it.already).count(), 1);
    assert!(results.iter().all(|it| it.outcome == results[0].outcome));
}

/// Death before and after every outside write, then the same intent again.
#[test]
fn an_effect_that_died_anywhere_is_finished_by_doing_it_again() {
    for point in [
        "repository.objects.before",
        "repository.objects.after",
        "repository.ref.before",
        "repository.ref.after",
    ] {
        let fixture = Fixture::new();
        let tree = fixture.result("first.txt", "changed\n");
        let intent = fixture.intent(&fixture.rev("HEAD"), &tree);
        let broker = fixture.broker_with(die_at(point));
        let repository = broker.locate_path(&fixture.repo).unwrap();
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = repository.carry_out(&intent);
        }));
        assert!(died.is_err(), "the control: it died at {point}");
        let again = fixture.located().1.carry_out(&intent).unwrap();
        assert_eq!(again.already, point == "repository.ref.after");
        assert_eq!(again.outcome.after, Some(fixture.rev("cofferdam/run-1")));
        assert!(git_in(&fixture.repo, &["fsck", "--full", "--strict"]).status.success());
    }
}
