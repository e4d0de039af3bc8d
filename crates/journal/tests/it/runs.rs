//! Starting runs, at most once per key, and holding them, by one at a time.

use cofferdam_contract::digest::Digest;
use cofferdam_journal::{Idempotency, JournalError, NewRun, Start};

use crate::world::{World, start};

fn keyed(world: &World, key: &str, request: &[u8]) -> NewRun {
    let idempotency = Idempotency { key: key.to_owned(), request: Digest::of(request) };
    NewRun { idempotency: Some(idempotency), ..world.new_run() }
}

#[tokio::test]
async fn the_same_request_twice_is_one_run() {
    let world = World::new();
    let journal = world.open().await;
    let first = start(&journal, keyed(&world, "k", b"request")).await;
    let again = journal.start(keyed(&world, "k", b"request")).await.unwrap();
    assert!(matches!(again, Start::Known(run) if run == *first.run()));
    let changed = journal.start(keyed(&world, "k", b"another")).await;
    assert!(matches!(changed, Err(JournalError::KeyReused)));
    assert_eq!(journal.runs().await.unwrap().len(), 1);

    // Another repository, another actor or no key is another request.
    let elsewhere =
        NewRun { repository: "/srv/other".to_owned(), ..keyed(&world, "k", b"request") };
    start(&journal, elsewhere).await;
    let someone =
        NewRun { actor: "local:other".parse().unwrap(), ..keyed(&world, "k", b"request") };
    start(&journal, someone).await;
    start(&journal, world.new_run()).await;
    assert_eq!(journal.runs().await.unwrap().len(), 4);
    assert!(journal.verify().await.unwrap().ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_at_once_is_one_run() {
    let world = World::new();
    let journals = [world.open().await, world.open().await];
    let mut set = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (journal, new) = (journals[number % 2].clone(), keyed(&world, "k", b"request"));
        set.spawn(async move { matches!(journal.start(new).await.unwrap(), Start::New { .. }) });
    }
    assert_eq!(set.join_all().await.into_iter().filter(|new| *new).count(), 1);
    assert_eq!(journals[0].runs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_run_is_not_started_over_another() {
    let world = World::new();
    let journal = world.open().await;
    let new = world.new_run();
    let hold = start(&journal, new.clone()).await;
    assert!(matches!(journal.start(new.clone()).await, Err(JournalError::RunHeld(_))));
    drop(hold);
    assert!(matches!(journal.start(new).await, Err(JournalError::RunExists(_))));
}

#[tokio::test]
async fn a_run_has_one_holder() {
    let world = World::new();
    let (journal, other) = (world.open().await, world.open().await);
    let hold = start(&journal, world.new_run()).await;
    let run = hold.run().clone();
    for journal in [&journal, &other] {
        assert!(matches!(journal.hold(&run).await, Err(JournalError::RunHeld(_))));
    }
    assert_eq!(journal.run(&run).await.unwrap().epoch, 1, "a refused hold bumps nothing");
    drop(hold);
    let hold = other.hold(&run).await.unwrap();
    assert_eq!(hold.epoch(), 2);
    assert!(matches!(journal.hold(&run).await, Err(JournalError::RunHeld(_))));
}

#[tokio::test]
async fn sealing_twice_signs_once() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let head = journal.seal(hold.run()).await.unwrap();
    assert_eq!(journal.seal(hold.run()).await.unwrap(), head);
    assert_eq!(journal.heads(hold.run()).await.unwrap(), std::slice::from_ref(&head));
    assert!(journal.signer().verify(&head.statement, &head.signature));
    assert!(!journal.signer().verify(b"something else", &head.signature));
    assert_eq!(head.head.key_id, Digest::of(&journal.signer().public_bytes()).to_string());
}

#[tokio::test]
async fn a_journal_that_is_opened_again_goes_on() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let head = journal.seal(hold.run()).await.unwrap();
    let run = hold.run().clone();
    drop(hold);
    journal.close().await;
    let journal = world.open().await;
    let hold = journal.hold(&run).await.unwrap();
    let events = vec![crate::world::note("more")];
    journal
        .append(&run, hold.epoch(), 1_u64, events, cofferdam_journal::Durability::Synced)
        .await
        .unwrap();
    let next = journal.seal(&run).await.unwrap();
    assert_eq!(next.head.previous, head.link);
    assert!(journal.verify().await.unwrap().ok());
}
