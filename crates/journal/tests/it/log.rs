//! The commit log: what a holder was told is there survives, whoever looks next and however the
//! holder ended, and nothing of it comes twice.

use std::fs;
use std::path::PathBuf;

use cofferdam_contract::budget::BudgetKind;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::ports::Record as _;
use cofferdam_contract::request::Retention;
use cofferdam_journal::{Blob, Durability, Expected, FaultPlan, Hold, Journal, JournalError, Page};
use sqlx::Connection as _;

use crate::world::{World, actor, labels, note, redactor, start};

/// Where the log begins.
const HEADER_BYTES: usize = 44;

fn log_of(world: &World, run: &RunId) -> PathBuf {
    world.dir.path().join(format!("journal/logs/{run}.log"))
}

async fn commit(journal: &Journal, hold: &Hold, commits: &[&str]) {
    let recorder = journal.recorder(hold, actor(), None);
    for label in commits {
        recorder.commit(vec![note(*label).body]).await.unwrap();
    }
}

/// What the database itself has.
async fn in_database(world: &World, run: &RunId) -> i64 {
    let mut intruder = world.intruder().await;
    let found = sqlx::query_scalar("SELECT count(*) FROM events WHERE run = ?")
        .bind(run.as_str())
        .fetch_one(&mut intruder)
        .await
        .unwrap();
    intruder.close().await.unwrap();
    found
}

async fn assert_whole(journal: &Journal) {
    let report = journal.verify().await.unwrap();
    assert!(report.ok(), "{:?}", report.faults);
}

#[tokio::test]
async fn whoever_looks_finds_what_was_committed() {
    let world = World::new();
    let (journal, other) = (world.open().await, world.open().await);
    let hold = start(&journal, world.new_run()).await;
    let run = hold.run().clone();
    commit(&journal, &hold, &["one", "two"]).await;
    // The control: it is the log that has them.
    assert_eq!(in_database(&world, &run).await, 1);
    assert!(log_of(&world, &run).exists());

    assert_eq!(labels(&other.events(&run, 0).await.unwrap()), ["one", "two"]);
    assert_eq!(in_database(&world, &run).await, 3);
    commit(&journal, &hold, &["three"]).await;
    assert_eq!(other.run(&run).await.unwrap().events, 4);
    commit(&journal, &hold, &["four"]).await;
    assert_eq!(other.runs().await.unwrap()[0].events, 5);
    commit(&journal, &hold, &["five"]).await;
    assert_eq!(other.next_sequence(&run).await.unwrap(), 6);
    commit(&journal, &hold, &["six"]).await;
    assert_eq!(other.verify().await.unwrap().events, 7);
    commit(&journal, &hold, &["seven"]).await;
    let all = ["one", "two", "three", "four", "five", "six", "seven"];
    assert_eq!(labels(&journal.events(&run, 0).await.unwrap()), all);
    drop(hold);
    assert!(!log_of(&world, &run).exists(), "the database has all of it");
    assert_whole(&journal).await;
}

#[tokio::test]
async fn the_database_and_the_log_take_turns_in_one_chain() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let mut expected = vec![];
    for number in 0..20 {
        let (one, other) = (format!("log {number}"), format!("database {number}"));
        commit(&journal, &hold, &[&one]).await;
        let durability = if number % 3 == 0 { Durability::Synced } else { Durability::Commit };
        let events = vec![note(other.clone())];
        journal.append(hold.run(), 1, Expected::Any, events, durability).await.unwrap();
        expected.extend([one, other]);
    }
    let head = journal.seal(hold.run()).await.unwrap();
    assert_eq!(head.head.sequence, 40);
    assert_eq!(labels(&journal.events(hold.run(), 0).await.unwrap()), expected);
    assert_whole(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_commit_and_append_at_once_make_one_chain() {
    let world = World::new();
    let (journal, other) = (world.open().await, world.open().await);
    let hold = start(&journal, world.new_run()).await;
    let recorder = journal.recorder(&hold, actor(), None);
    let mut set = tokio::task::JoinSet::new();
    for number in 0..200_usize {
        let (journal, recorder) = (journal.clone(), recorder.clone());
        let (other, run) = (other.clone(), hold.run().clone());
        set.spawn(async move {
            let new = note(number.to_string());
            match number % 10 {
                9 => {
                    let any = Expected::Any;
                    journal.append(&run, 1, any, vec![new], Durability::Commit).await.unwrap();
                }
                8 => recorder.observe(new.body),
                7 => {
                    recorder.commit(vec![new.body]).await.unwrap();
                    let found = other.events(&run, 0).await.unwrap();
                    assert!(labels(&found).contains(&number.to_string().as_str()));
                }
                _ => recorder.commit(vec![new.body]).await.unwrap(),
            }
        });
    }
    set.join_all().await;
    recorder.flush().await.unwrap();
    let stored = journal.events(hold.run(), 0).await.unwrap();
    let mut found: Vec<usize> = labels(&stored).iter().map(|it| it.parse().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, (0..200).collect::<Vec<_>>());
    assert_whole(&other).await;
}

#[tokio::test]
async fn a_record_that_is_cut_anywhere_was_never_there() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let run = hold.run().clone();
    let path = log_of(&world, &run);
    let mut ends = vec![];
    for label in ["one", "two", "three"] {
        commit(&journal, &hold, &[label]).await;
        ends.push(fs::metadata(&path).unwrap().len() as usize);
    }
    // As after a kill: nobody took it over, and the lock is free.
    let whole = fs::read(&path).unwrap();
    let database = world.dir.path().join("journal");
    drop(hold);
    drop(journal);
    for cut in (0..=whole.len()).filter(|cut| cut % 101 == 0 || ends.contains(cut)) {
        let copy = World::new();
        copy_dir(&database, &copy.dir.path().join("journal"));
        copy_dir(&world.dir.path().join("keys"), &copy.dir.path().join("keys"));
        fs::write(log_of(&copy, &run), &whole[..cut]).unwrap();
        let journal = copy.open().await;
        let there = ends.iter().filter(|end| **end <= cut).count();
        let stored = journal.events(&run, 0).await.unwrap();
        assert_eq!(labels(&stored), ["one", "two", "three"][..there], "cut at {cut}");
        let hold = journal.hold(&run).await.unwrap();
        let recorder = journal.recorder(&hold, actor(), None);
        recorder.commit(vec![note("after").body]).await.unwrap();
        assert_eq!(journal.run(&run).await.unwrap().events, there as u64 + 2, "cut at {cut}");
        assert_whole(&journal).await;
    }
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[tokio::test]
async fn what_a_holder_wrote_and_cannot_read_again_is_damage() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    commit(&journal, &hold, &["one"]).await;
    let path = log_of(&world, hold.run());
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let refused = journal.events(hold.run(), 0).await.unwrap_err();
    assert!(matches!(refused, JournalError::Corrupt(_)), "{refused}");
}

#[tokio::test]
async fn a_chain_that_moved_under_its_holder_is_damage_and_not_silence() {
    let world = World::new();
    let (journal, other) = (world.open().await, world.open().await);
    let hold = start(&journal, world.new_run()).await;
    let run = hold.run();
    commit(&journal, &hold, &["one"]).await;
    // Nobody does this: only who holds a run appends to it.
    let events = vec![note("intruder")];
    other.append(run, 1, Expected::Any, events, Durability::Commit).await.unwrap();
    commit(&journal, &hold, &["two"]).await;
    for journal in [&journal, &other] {
        let refused = journal.events(run, 0).await.unwrap_err();
        assert!(matches!(refused, JournalError::Corrupt(_)), "{refused}");
    }
    let append = journal.append(run, 1, Expected::Any, vec![note("x")], Durability::Commit).await;
    assert!(append.is_err());
}

/// Leaves a run whose log lacks its first record.
async fn with_a_gap(world: &World) -> RunId {
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let run = hold.run().clone();
    let path = log_of(world, &run);
    commit(&journal, &hold, &["one"]).await;
    let first = fs::metadata(&path).unwrap().len() as usize;
    commit(&journal, &hold, &["two"]).await;
    drop(hold);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, [&bytes[..HEADER_BYTES], &bytes[first..]].concat()).unwrap();
    run
}

#[tokio::test]
async fn a_log_with_a_gap_is_damage_unless_the_power_was_off() {
    let world = World::new();
    let run = with_a_gap(&world).await;
    let journal = world.open().await;
    let refused = journal.events(&run, 0).await.unwrap_err();
    assert!(matches!(refused, JournalError::Corrupt(_)), "{refused}");
    assert!(journal.hold(&run).await.is_err());

    let world = World::new();
    let run = with_a_gap(&world).await;
    let path = log_of(&world, &run);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..HEADER_BYTES].fill(b'f');
    fs::write(&path, bytes).unwrap();
    let journal = world.open().await;
    assert_eq!(journal.events(&run, 0).await.unwrap().len(), 1);
    let hold = journal.hold(&run).await.unwrap();
    commit(&journal, &hold, &["after"]).await;
    assert_eq!(labels(&journal.events(&run, 0).await.unwrap()), ["after"]);
    assert_whole(&journal).await;
}

#[tokio::test]
async fn a_former_holder_commits_nothing() {
    let world = World::new();
    let journal = world.open().await;
    let former = start(&journal, world.new_run()).await;
    let run = former.run().clone();
    let recorder = journal.recorder(&former, actor(), None);
    recorder.commit(vec![note("in time").body]).await.unwrap();
    drop(former);
    assert!(recorder.commit(vec![note("nobody holds it").body]).await.is_ok());
    let holder = journal.hold(&run).await.unwrap();
    commit(&journal, &holder, &["holder"]).await;
    assert!(recorder.commit(vec![note("late").body]).await.is_err());
    let expected = ["in time", "nobody holds it", "holder"];
    assert_eq!(labels(&journal.events(&run, 0).await.unwrap()), expected);
}

#[tokio::test]
async fn a_small_text_comes_with_the_commit_that_refers_to_it() {
    let world = World::new();
    let (journal, other) = (world.open().await, world.open().await);
    let hold = start(&journal, world.new_run()).await;
    let ledger = journal.ledger(&hold, actor());
    let page = |text: &[u8]| Page {
        events: vec![note("with text")],
        cause: None,
        blobs: vec![Blob::new(redactor().redact(text), Retention::Run)],
    };
    let reservation = ledger.take_for(BudgetKind::ToolMs, 10, page(b"input")).await.unwrap();
    ledger.close_with(reservation, 4, page(b"output")).await.unwrap();
    assert_eq!(in_database(&world, hold.run()).await, 1);
    assert_eq!(other.blob(&Digest::of(b"output")).await.unwrap(), b"output");
    assert_eq!(journal.blob(&Digest::of(b"input")).await.unwrap(), b"input");
    assert_eq!(journal.spent(hold.run()).await.unwrap().tool_ms, 4);

    // What another run prunes meanwhile is there again when the database takes it over.
    let second = start(&journal, world.new_run()).await;
    let ledger = journal.ledger(&second, actor());
    ledger.take_for(BudgetKind::ToolMs, 10, page(b"input")).await.unwrap();
    assert_eq!(journal.prune(hold.run()).await.unwrap(), 2);
    assert_eq!(journal.blob(&Digest::of(b"input")).await.unwrap(), b"input");
    assert_whole(&journal).await;
}

#[tokio::test]
async fn what_is_pruned_is_first_taken_over() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let blobs = vec![Blob::new(redactor().redact(b"own"), Retention::Run)];
    let page = Page { events: vec![], cause: None, blobs };
    journal.ledger(&hold, actor()).take_for(BudgetKind::ToolMs, 1, page).await.unwrap();
    assert_eq!(journal.prune(hold.run()).await.unwrap(), 1);
    let gone = journal.blob(&Digest::of(b"own")).await;
    assert!(matches!(gone, Err(JournalError::BlobMissing(_))));
    assert_whole(&journal).await;
}

#[tokio::test]
async fn a_log_does_not_grow_for_ever() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let recorder = journal.recorder(&hold, actor(), None);
    let path = log_of(&world, hold.run());
    let mut longest = 0;
    for number in 0..200 {
        let text = format!("{number} {}", "x".repeat(10_000));
        recorder.commit(vec![note(text).body]).await.unwrap();
        longest = longest.max(fs::metadata(&path).map_or(0, |found| found.len()));
        if number % 50 == 49 {
            // Whoever looks waits until it is taken over.
            assert_eq!(journal.run(hold.run()).await.unwrap().events, number + 2);
        }
    }
    // Two million bytes were committed; each look left nothing.
    assert!(longest > 256 << 10, "{longest}");
    assert!(longest < 1 << 20, "{longest}");
    assert_whole(&journal).await;
}

#[tokio::test]
async fn death_amid_a_commit_leaves_nothing_of_it() {
    for (number, expected) in [(1, 0), (2, 100)] {
        let world = World::new();
        let journal = Journal::with_faults(world.options(), FaultPlan::Amid(number)).await.unwrap();
        let hold = start(&journal, world.new_run()).await;
        let run = hold.run().clone();
        let ledger = journal.ledger(&hold, actor());
        let died = match ledger.take(BudgetKind::ToolMs, 100).await {
            Ok(reservation) => ledger.close(reservation, 40).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(died, JournalError::Crashed), "{died}");
        assert!(fs::metadata(log_of(&world, &run)).unwrap().len() > HEADER_BYTES as u64);
        drop((hold, ledger));
        drop(journal);
        let journal = world.open().await;
        assert_eq!(journal.spent(&run).await.unwrap().tool_ms, expected);
        let hold = journal.hold(&run).await.unwrap();
        commit(&journal, &hold, &["after"]).await;
        assert_eq!(labels(&journal.events(&run, 0).await.unwrap()), ["after"]);
        assert_whole(&journal).await;
    }
}
