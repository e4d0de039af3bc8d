//! Commands: asked for once, taken in order, done with their events.

use cofferdam_contract::ids::{CommandId, RunId};
use cofferdam_journal::{Batch, Durability, JournalError, NewCommand};

use crate::world::{World, actor, note, start};

fn command(world: &World, run: &RunId, key: &str, body: &str) -> NewCommand {
    NewCommand {
        id: CommandId::generate(&*world.clock, &*world.entropy),
        run: run.clone(),
        operation_key: key.to_owned(),
        actor: actor(),
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn commands_are_taken_in_order_until_they_are_done() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let other = start(&journal, world.new_run()).await;
    let mut ids = vec![];
    for key in ["a", "b", "c"] {
        ids.push(journal.command(command(&world, hold.run(), key, "{}")).await.unwrap());
    }
    journal.command(command(&world, other.run(), "d", "{}")).await.unwrap();
    let keys = async || {
        let rows = journal.take_commands(hold.run()).await.unwrap();
        rows.into_iter().map(|row| row.operation_key).collect::<String>()
    };
    assert_eq!(keys().await, "abc");

    // Done with its events, or not at all.
    let batch = Batch::from(vec![note("done")]).finishes(ids[0].clone(), "{\"ok\":true}");
    let late = journal.append(hold.run(), 1, 7_u64, batch.clone(), Durability::Commit).await;
    assert!(late.is_err());
    assert_eq!(keys().await, "abc");
    journal.append(hold.run(), 1, 1_u64, batch, Durability::Commit).await.unwrap();
    assert_eq!(keys().await, "bc");

    journal.finish_command(&ids[2], "first").await.unwrap();
    journal.finish_command(&ids[2], "second").await.unwrap();
    assert_eq!(keys().await, "b");
    let done = journal.find_command(&ids[2]).await.unwrap();
    assert_eq!(done.outcome.as_deref(), Some("first"));
}

#[tokio::test]
async fn the_same_operation_key_is_the_same_command() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let first = journal.command(command(&world, hold.run(), "k", "approve")).await.unwrap();
    let again = journal.command(command(&world, hold.run(), "k", "approve")).await.unwrap();
    assert_eq!(first, again);
    let changed = journal.command(command(&world, hold.run(), "k", "reject")).await;
    assert!(matches!(changed, Err(JournalError::KeyReused)));
    journal.finish_command(&first, "done").await.unwrap();
    let after = journal.command(command(&world, hold.run(), "k", "approve")).await.unwrap();
    assert_eq!(first, after, "done once is done");
    assert!(journal.take_commands(hold.run()).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let world = World::new();
    let journal = world.open().await;
    let run = RunId::generate(&*world.clock, &*world.entropy);
    let to_nobody = journal.command(command(&world, &run, "k", "{}")).await;
    assert!(matches!(to_nobody, Err(JournalError::RunUnknown(_))));
    let id = CommandId::generate(&*world.clock, &*world.entropy);
    assert!(matches!(journal.find_command(&id).await, Err(JournalError::CommandUnknown(_))));
    assert!(matches!(journal.finish_command(&id, "").await, Err(JournalError::CommandUnknown(_))));
}

/// Two processes have a journal open; one holds the run and the other has a command for it.
#[tokio::test]
async fn a_command_rings_for_the_run_that_it_is_for_and_for_no_other() {
    let world = World::new();
    let (holds, commands) = (world.open().await, world.open().await);
    let (run, other) = (start(&holds, world.new_run()).await, start(&holds, world.new_run()).await);
    let (mut rings, mut silent) = (holds.inbox(run.run()), holds.inbox(other.run()));
    let id = commands.command(command(&world, run.run(), "k", "{}")).await.unwrap();
    assert!(rings.rings().await, "it rang");
    assert_eq!(holds.take_commands(run.run()).await.unwrap()[0].id, id);
    // It rings for each command, and what is done rings no more.
    holds.finish_command(&id, "done").await.unwrap();
    commands.command(command(&world, other.run(), "l", "{}")).await.unwrap();
    tokio::select! {
        biased;
        _ = rings.rings() => panic!("nothing new lies in its inbox"),
        rang = silent.rings() => assert!(rang),
    }
}

/// Its file is gone before anybody listens; what becomes of one that goes later is the bell's own
/// test.
#[tokio::test]
async fn a_bell_that_cannot_be_heard_is_made_up_for_by_looking() {
    let world = World::new();
    let (holds, commands) = (world.open().await, world.open().await);
    let run = start(&holds, world.new_run()).await;
    std::fs::remove_file(world.options().dir.join("bell")).unwrap();
    let mut silent = holds.inbox(run.run());
    commands.command(command(&world, run.run(), "k", "{}")).await.unwrap();
    assert!(!silent.rings().await, "nobody heard it");
}
