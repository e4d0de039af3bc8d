//! What an append checks, and what it leaves behind.

use cofferdam_contract::chain;
use cofferdam_contract::ids::RunId;
use cofferdam_journal::{Durability, EVENT_BYTES_MAX, Expected, JournalError, Shown};

use crate::world::{World, labels, note, start};

#[tokio::test]
async fn stored_bytes_are_the_ones_that_the_chain_covers() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let batch = vec![note("one"), note("two")];
    let appended = journal.append(hold.run(), 1, 1_u64, batch, Durability::Synced).await.unwrap();
    assert_eq!(appended.next, 3);

    let stored = journal.events(hold.run(), 0).await.unwrap();
    assert_eq!(stored[1..], appended.events[..]);
    let mut link = chain::run_genesis(hold.run());
    for (sequence, it) in (0..).zip(&stored) {
        link = chain::event_link(&link, sequence, &it.bytes);
        assert_eq!(it.link, link);
        assert_eq!((it.event.sequence, it.event.epoch), (sequence, 1));
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&it.bytes).unwrap()["sequence"],
            sequence
        );
    }
    assert_eq!(stored[0].event.correlation, stored[2].event.correlation);
    assert!(journal.events(hold.run(), 3).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_sequence_that_is_not_the_next_is_refused() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    for expected in [0_u64, 2, u64::MAX] {
        let refused = journal
            .append(hold.run(), 1, expected, vec![note("no")], Durability::Commit)
            .await
            .unwrap_err();
        assert!(matches!(refused, JournalError::WrongSequence { actual: 1, .. }), "{refused}");
    }
    journal.append(hold.run(), 1, 1_u64, vec![note("yes")], Durability::Commit).await.unwrap();
    assert_eq!(labels(&journal.events(hold.run(), 0).await.unwrap()), ["yes"]);
}

#[tokio::test]
async fn a_former_holder_appends_nothing() {
    let world = World::new();
    let journal = world.open().await;
    let former = start(&journal, world.new_run()).await;
    let run = former.run().clone();
    let append =
        |epoch| journal.append(&run, epoch, Expected::Any, vec![note("late")], Durability::Commit);
    append(1).await.unwrap();
    drop(former);
    let holder = journal.hold(&run).await.unwrap();
    assert_eq!(holder.epoch(), 2);
    for stale in [0, 1, 3] {
        let refused = append(stale).await.unwrap_err();
        assert!(matches!(refused, JournalError::StaleEpoch { current: 2, .. }), "{refused}");
    }
    append(2).await.unwrap();
    assert_eq!(journal.events(&run, 0).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let large = "x".repeat(EVENT_BYTES_MAX);
    let refused = journal
        .append(hold.run(), 1, 1_u64, vec![note("small"), note(large)], Durability::Commit)
        .await
        .unwrap_err();
    assert!(matches!(refused, JournalError::EventTooLarge { .. }), "{refused}");
    assert_eq!(journal.events(hold.run(), 0).await.unwrap().len(), 1);
    assert!(journal.verify().await.unwrap().ok());
}

#[tokio::test]
async fn a_run_that_is_not_there_is_said_so() {
    let world = World::new();
    let journal = world.open().await;
    let nobody = RunId::generate(&*world.clock, &*world.entropy);
    let appended =
        journal.append(&nobody, 1, Expected::Any, vec![note("x")], Durability::Commit).await;
    assert!(matches!(appended, Err(JournalError::RunUnknown(_))));
    assert!(matches!(journal.events(&nobody, 0).await, Err(JournalError::RunUnknown(_))));
    assert!(matches!(journal.hold(&nobody).await, Err(JournalError::RunUnknown(_))));
    assert!(matches!(journal.seal(&nobody).await, Err(JournalError::RunUnknown(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_append_at_once_a_refused_one_takes_nobody_with_it() {
    let world = World::new();
    let journal = world.open().await;
    let mut holds = vec![];
    for _ in 0..4 {
        holds.push(start(&journal, world.new_run()).await);
    }
    let mut set = tokio::task::JoinSet::new();
    for number in 0..400_usize {
        let (journal, run) = (journal.clone(), holds[number % 4].run().clone());
        // Every tenth comes from a holder that never was.
        let epoch = if number % 10 == 9 { 7 } else { 1 };
        set.spawn(async move {
            let batch = vec![note(number.to_string())];
            let done = journal.append(&run, epoch, Expected::Any, batch, Durability::Commit).await;
            (number, done)
        });
    }
    while let Some(done) = set.join_next().await {
        let (number, done) = done.unwrap();
        match number % 10 {
            9 => assert!(matches!(done, Err(JournalError::StaleEpoch { .. }))),
            _ => assert_eq!(labels(&done.unwrap().events), [number.to_string()]),
        }
    }
    let mut total = 0;
    for hold in &holds {
        total += journal.events(hold.run(), 0).await.unwrap().len();
    }
    assert_eq!(total, 4 + 360);
    let report = journal.verify().await.unwrap();
    assert!(report.ok(), "{:?}", report.faults);
    assert_eq!(report.events, 364);
}

#[tokio::test]
async fn two_writers_of_one_race_for_a_sequence_and_one_wins() {
    let world = World::new();
    let (one, other) = (world.open().await, world.open().await);
    let hold = start(&one, world.new_run()).await;
    let append = |journal, name: &'static str| {
        let run = hold.run().clone();
        async move {
            let journal: &cofferdam_journal::Journal = journal;
            journal.append(&run, 1, 1_u64, vec![note(name)], Durability::Commit).await.is_ok()
        }
    };
    let won = tokio::join!(append(&one, "one"), append(&other, "other"));
    assert_ne!(won.0, won.1);
    assert_eq!(one.events(hold.run(), 0).await.unwrap().len(), 2);
    assert!(other.verify().await.unwrap().ok());
}

#[tokio::test]
async fn what_lists_show_changes_with_the_events() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let batch = cofferdam_journal::Batch::from(vec![note("x")]).shows(Shown {
        state: "applied".to_owned(),
        branch: Some("refs/heads/cofferdam/x".to_owned()),
        digest: None,
    });
    let refused =
        journal.append(hold.run(), 1, 9_u64, batch.clone(), Durability::Commit).await.is_err();
    assert!(refused);
    assert_eq!(journal.run(hold.run()).await.unwrap().state, "preparing");
    journal.append(hold.run(), 1, 1_u64, batch, Durability::Commit).await.unwrap();
    let row = journal.run(hold.run()).await.unwrap();
    assert_eq!((row.state.as_str(), row.events), ("applied", 2));
    assert_eq!(row.branch.as_deref(), Some("refs/heads/cofferdam/x"));
    assert!(row.updated > row.created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_written_meanwhile_verifies() {
    let world = World::new();
    let (journal, other) = (world.open().await, world.open().await);
    let hold = start(&journal, world.new_run()).await;
    let run = hold.run().clone();
    let writing = tokio::spawn(async move {
        for number in 0..200 {
            let events = vec![note(number.to_string())];
            journal.append(&run, 1, Expected::Any, events, Durability::Commit).await.unwrap();
            if number % 20 == 0 {
                journal.seal(&run).await.unwrap();
            }
        }
    });
    while !writing.is_finished() {
        let report = other.verify().await.unwrap();
        assert!(report.ok(), "{:?}", report.faults);
    }
    writing.await.unwrap();
    assert_eq!(other.verify().await.unwrap().events, 201);
}
