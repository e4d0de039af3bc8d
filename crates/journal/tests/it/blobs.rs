//! Blobs: kept by content, read with a check, pruned without harm to others.

use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::request::Retention;
use cofferdam_journal::{Durability, FaultPlan, Journal, JournalError};

use crate::world::{World, redactor, start};

async fn put(journal: &Journal, run: &RunId, text: &str, retention: Retention) -> Digest {
    let bytes = redactor().redact(text.as_bytes());
    journal.put_blob(run, bytes, retention, Durability::Synced).await.unwrap()
}

#[tokio::test]
async fn a_blob_is_named_by_its_content() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let one = put(&journal, hold.run(), "text", Retention::Run).await;
    let again = put(&journal, hold.run(), "text", Retention::Run).await;
    assert_eq!(one, again);
    assert_eq!(one, Digest::of(b"text"));
    assert_eq!(journal.blob(&one).await.unwrap(), b"text");
    let empty = put(&journal, hold.run(), "", Retention::Run).await;
    assert_eq!(journal.blob(&empty).await.unwrap(), b"");
    let absent = journal.blob(&Digest::of(b"absent")).await;
    assert!(matches!(absent, Err(JournalError::BlobMissing(_))));
}

#[tokio::test]
async fn what_is_kept_went_through_redaction() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let said = format!("token ghp_{} end", "a1B2".repeat(9));
    let digest = put(&journal, hold.run(), &said, Retention::Run).await;
    assert_eq!(journal.blob(&digest).await.unwrap(), b"token [redacted:github-token] end");
}

#[tokio::test]
async fn pruning_takes_what_only_that_run_keeps_for_itself() {
    let world = World::new();
    let journal = world.open().await;
    let one = start(&journal, world.new_run()).await;
    let other = start(&journal, world.new_run()).await;
    let own = put(&journal, one.run(), "own", Retention::Run).await;
    let shared = put(&journal, one.run(), "shared", Retention::Run).await;
    put(&journal, other.run(), "shared", Retention::Run).await;
    let lasting = put(&journal, one.run(), "lasting", Retention::Journal).await;
    put(&journal, one.run(), "lasting", Retention::Run).await;

    assert_eq!(journal.prune(one.run()).await.unwrap(), 1);
    assert!(matches!(journal.blob(&own).await, Err(JournalError::BlobMissing(_))));
    assert_eq!(journal.blob(&shared).await.unwrap(), b"shared");
    assert_eq!(journal.blob(&lasting).await.unwrap(), b"lasting");
    assert_eq!(journal.prune(one.run()).await.unwrap(), 0);
    assert!(journal.verify().await.unwrap().ok(), "deletion leaves everything whole");

    assert_eq!(journal.prune(other.run()).await.unwrap(), 1);
    assert!(matches!(journal.blob(&shared).await, Err(JournalError::BlobMissing(_))));
    put(&journal, one.run(), "own", Retention::Run).await;
    assert_eq!(journal.blob(&own).await.unwrap(), b"own");
    assert!(journal.verify().await.unwrap().ok());
}

#[tokio::test]
async fn a_blob_cut_short_by_a_crash_is_written_again() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let digest = put(&journal, hold.run(), "whole", Retention::Run).await;
    let hex = digest.hex();
    let path = world.dir.path().join("journal/blobs").join(&hex[..2]).join(&hex);
    std::fs::write(&path, "wh").unwrap();
    assert!(matches!(journal.blob(&digest).await, Err(JournalError::Corrupt(_))));
    put(&journal, hold.run(), "whole", Retention::Run).await;
    assert_eq!(journal.blob(&digest).await.unwrap(), b"whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_content_put_at_once_is_whole() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let text = "x".repeat(1 << 20);
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (journal, run, text) = (journal.clone(), hold.run().clone(), text.clone());
        set.spawn(async move { put(&journal, &run, &text, Retention::Run).await });
    }
    for digest in set.join_all().await {
        assert_eq!(journal.blob(&digest).await.unwrap(), text.as_bytes());
    }
    let unfinished = std::fs::read_dir(world.dir.path().join("journal/blobs")).unwrap();
    let unfinished = unfinished.filter(|it| it.as_ref().unwrap().path().extension().is_some());
    assert_eq!(unfinished.count(), 0);
}

#[tokio::test]
async fn a_death_during_pruning_leaves_nothing_that_looks_like_an_attack() {
    // Writes: 0 start, 1 put, 2 mark, 3 remove.
    for plan in (2..4).flat_map(|n| [FaultPlan::Before(n), FaultPlan::After(n)]) {
        let world = World::new();
        let journal = Journal::with_faults(world.options(), plan).await.unwrap();
        let hold = start(&journal, world.new_run()).await;
        let run = hold.run().clone();
        let digest = put(&journal, &run, "text", Retention::Run).await;
        assert!(matches!(journal.prune(&run).await, Err(JournalError::Crashed)), "{plan:?}");
        let journal = world.open().await;
        assert!(journal.verify().await.unwrap().ok(), "{plan:?}");
        journal.prune(&run).await.unwrap();
        assert!(matches!(journal.blob(&digest).await, Err(JournalError::BlobMissing(_))));
        assert!(journal.verify().await.unwrap().ok(), "{plan:?}");
    }
}
