//! A damaged file, a full disk, a directory that cannot be written, a key that others can read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_journal::{Durability, Expected, Journal, JournalError, JournalOptions};

use crate::world::{CountingEntropy, TickingClock, World, new_run, note, options, start};

const CHILD_DIR: &str = "COFFERDAM_TEST_CHILD_DIR";

#[track_caller]
fn assert_code(error: JournalError, code: Code) {
    let shown = format!("{error:?}");
    let problem = Problem::from(error);
    assert_eq!(problem.code, code, "{shown}");
    assert!(!problem.detail.is_empty() && !problem.detail.ends_with('.'), "{}", problem.detail);
}

async fn journal_with_a_run(world: &World) {
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let events = (0..500).map(|n| note(format!("{n} {}", "x".repeat(200)))).collect::<Vec<_>>();
    journal.append(hold.run(), 1, 1_u64, events, Durability::Commit).await.unwrap();
    journal.close().await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_damage() {
    let world = World::new();
    journal_with_a_run(&world).await;
    fs::write(world.dir.path().join("journal/journal.db"), "not a database".repeat(100)).unwrap();
    assert_code(Journal::open(world.options()).await.err().unwrap(), Code::JournalCorrupt);
}

#[tokio::test]
async fn overwritten_pages_are_damage() {
    let world = World::new();
    journal_with_a_run(&world).await;
    let path = world.dir.path().join("journal/journal.db");
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 64 << 10);
    bytes[4096..].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let refused = match Journal::open(world.options()).await {
        Err(error) => error,
        Ok(journal) => journal.verify().await.err().unwrap(),
    };
    assert_code(refused, Code::JournalCorrupt);
}

/// Whoever comes first makes the database. SQLite does not wait for a lock while a database is
/// made into one with a write-ahead log, whatever time it was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_open_a_new_journal_at_once() {
    for _ in 0..40 {
        let world = World::new();
        let mut opened = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (options, run) = (world.options(), world.new_run());
            opened.spawn(async move {
                let journal = Journal::open(options).await.unwrap();
                start(&journal, run).await;
                journal.close().await;
            });
        }
        while let Some(done) = opened.join_next().await {
            done.unwrap();
        }
    }
}

#[tokio::test]
async fn a_later_format_is_not_touched() {
    let world = World::new();
    journal_with_a_run(&world).await;
    let mut intruder = world.intruder().await;
    sqlx::raw_sql("PRAGMA user_version = 2").execute(&mut intruder).await.unwrap();
    let refused = Journal::open(world.options()).await.err().unwrap();
    assert!(matches!(refused, JournalError::FormatUnknown { found: 2, known: 1 }), "{refused}");
    assert_code(refused, Code::VersionUnsupported);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_said_so() {
    let world = World::new();
    // Not even root makes a directory here, or beneath a file.
    fs::write(world.dir.path().join("file"), "").unwrap();
    for dir in [PathBuf::from("/sys/cofferdam-journal"), world.dir.path().join("file/journal")] {
        let options = JournalOptions { dir, ..world.options() };
        assert_code(Journal::open(options).await.err().unwrap(), Code::StorageFailed);
    }
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let world = World::new();
    let journal = world.open().await;
    let key_id = journal.signer().key_id().to_owned();
    let path = world.dir.path().join("keys/journal.pem");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o660, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = Journal::open(world.options()).await.err().unwrap();
        assert!(matches!(refused, JournalError::KeyExposed(_)), "{mode:o}: {refused}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(world.open().await.signer().key_id(), key_id);
    fs::write(&path, "no key").unwrap();
    let refused = Journal::open(world.options()).await.err().unwrap();
    assert!(matches!(refused, JournalError::KeyInvalid(_)), "{refused}");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    assert!(Journal::open(world.options()).await.is_err());
}

#[tokio::test]
#[ignore = "the child of a_full_disk_stops_the_append_and_loses_nothing"]
async fn child_that_fills_the_disk() {
    let dir = PathBuf::from(std::env::var(CHILD_DIR).unwrap());
    let (clock, entropy) = (Arc::new(TickingClock::new()), Arc::new(CountingEntropy::new(9)));
    let journal = Journal::open(options(&dir, &clock, &entropy)).await.unwrap();
    let hold = start(&journal, new_run(&*clock, &*entropy)).await;
    let mut appended = 1_u64;
    let error = loop {
        let events = vec![note("x".repeat(10_000))];
        match journal.append(hold.run(), 1, appended, events, Durability::Synced).await {
            Ok(done) => appended = done.next,
            Err(error) => break error,
        }
        assert!(appended < 10_000, "the disk never filled");
    };
    assert_code(error, Code::StorageFailed);
    let again = journal.append(
        hold.run(),
        1,
        Expected::Any,
        vec![note("x".repeat(10_000))],
        Durability::Commit,
    );
    assert!(again.await.is_err());
    assert_eq!(journal.next_sequence(hold.run()).await.unwrap(), appended);
    fs::write(dir.join("appended"), appended.to_string()).unwrap();
}

#[tokio::test]
async fn a_full_disk_stops_the_append_and_loses_nothing() {
    let world = World::new();
    // A bound on file size (2,048 blocks of 512 bytes), with its signal ignored, makes writes
    // fail in the middle of a file, for any user and on any file system.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "failures::child_that_fills_the_disk", "--ignored"])
        .env(CHILD_DIR, world.dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    let appended: u64 =
        fs::read_to_string(world.dir.path().join("appended")).unwrap().parse().unwrap();
    assert!(appended > 10);
    let journal = world.open().await;
    let report = journal.verify().await.unwrap();
    assert!(report.ok(), "{:?}", report.faults);
    assert_eq!(report.events, appended);
}
