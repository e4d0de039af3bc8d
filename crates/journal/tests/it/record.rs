//! The `Record` port: `commit` is awaited, `observe` never blocks and never loses in silence.

use cofferdam_contract::ports::Record as _;
use cofferdam_contract::problem::Code;
use cofferdam_journal::{EVENT_BYTES_MAX, JournalError};

use crate::world::{World, actor, labels, lost, note, start};

#[tokio::test]
async fn what_is_committed_is_there_when_it_returns() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let recorder = journal.recorder(&hold, actor(), None);
    recorder.commit(vec![note("a").body, note("b").body]).await.unwrap();
    assert_eq!(labels(&journal.events(hold.run(), 0).await.unwrap()), ["a", "b"]);
}

#[tokio::test]
async fn observed_events_keep_their_order() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let recorder = journal.recorder(&hold, actor(), None);
    let expected: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    for label in &expected {
        recorder.observe(note(label).body);
    }
    recorder.flush().await.unwrap();
    assert_eq!(labels(&journal.events(hold.run(), 0).await.unwrap()), expected);
    assert_eq!(recorder.lost(), 0);
}

/// On one thread nothing else runs between two observations: the queue must overflow, and does
/// so without waiting.
#[tokio::test]
async fn what_the_queue_cannot_take_is_counted_exactly() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let recorder = journal.recorder(&hold, actor(), None);
    let observed = 10_000_u64;
    for number in 0..observed {
        recorder.observe(note(number.to_string()).body);
    }
    recorder.flush().await.unwrap();
    let stored = journal.events(hold.run(), 0).await.unwrap();
    let there = labels(&stored).len() as u64;
    let told: u64 = stored.iter().filter_map(|it| lost(&it.event)).sum();
    assert!(there >= 1000 && told > 0);
    assert_eq!(there + told, observed);
    assert_eq!(recorder.lost(), told);
}

#[tokio::test]
async fn one_event_that_cannot_be_kept_takes_no_other_with_it() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let recorder = journal.recorder(&hold, actor(), None);
    recorder.observe(note("before").body);
    recorder.observe(note("x".repeat(EVENT_BYTES_MAX)).body);
    recorder.observe(note("after").body);
    recorder.flush().await.unwrap();
    recorder.flush().await.unwrap();
    let stored = journal.events(hold.run(), 0).await.unwrap();
    assert_eq!(labels(&stored), ["before", "after"]);
    assert_eq!(stored.iter().filter_map(|it| lost(&it.event)).sum::<u64>(), 1);
}

#[tokio::test]
async fn a_former_holder_learns_that_it_observes_in_vain() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let run = hold.run().clone();
    let recorder = journal.recorder(&hold, actor(), None);
    drop(hold);
    let _holder = journal.hold(&run).await.unwrap();
    recorder.observe(note("late").body);
    let flushed = recorder.flush().await;
    assert!(matches!(flushed, Err(JournalError::ObservationsLost(1))), "{flushed:?}");
    let refused = recorder.commit(vec![note("late").body]).await.unwrap_err();
    assert_eq!(refused.code, Code::RunHeld);
    assert_eq!(journal.events(&run, 0).await.unwrap().len(), 1);
}
