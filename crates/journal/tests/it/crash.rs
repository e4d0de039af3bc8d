//! Death at any write: by plan, at each of them, and by a real kill.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cofferdam_contract::budget::BudgetKind;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::ports::Record as _;
use cofferdam_journal::{Durability, Expected, FaultPlan, Journal, JournalError, Recorder, Start};

use crate::world::{CountingEntropy, TickingClock, World, labels, new_run, note, options, start};

/// Tells a child of this test binary where to work.
const CHILD_DIR: &str = "COFFERDAM_TEST_CHILD_DIR";

#[tokio::test]
#[ignore = "the child of a_killed_process_loses_nothing_that_was_acknowledged"]
async fn child_that_appends_until_it_is_killed() {
    write_until_killed(|journal, hold, number| async move {
        let events = vec![note(number)];
        journal.append(&hold.run, 1, Expected::Any, events, Durability::Commit).await.unwrap();
    })
    .await;
}

#[tokio::test]
#[ignore = "the child of a_killed_holder_loses_nothing_that_was_committed"]
async fn child_that_commits_until_it_is_killed() {
    write_until_killed(|_, hold, number| async move {
        hold.recorder.commit(vec![note(number).body]).await.unwrap();
    })
    .await;
}

/// What a child writes by.
#[derive(Clone)]
struct Holding {
    run: RunId,
    recorder: Recorder,
}

async fn write_until_killed<F>(write: impl Fn(Journal, Holding, String) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let dir = PathBuf::from(std::env::var(CHILD_DIR).unwrap());
    let (clock, entropy) = (TickingClock::new(), CountingEntropy::new(3));
    let (clock, entropy) = (Arc::new(clock), Arc::new(entropy));
    let journal = Journal::open(options(&dir, &clock, &entropy)).await.unwrap();
    let hold = start(&journal, new_run(&*clock, &*entropy)).await;
    println!("\nrun {}", hold.run());
    let recorder = journal.recorder(&hold, crate::world::actor(), None);
    let holding = Holding { run: hold.run().clone(), recorder };
    let mut set = tokio::task::JoinSet::new();
    for number in 0_u64.. {
        let done = write(journal.clone(), holding.clone(), number.to_string());
        set.spawn(async move {
            done.await;
            number
        });
        if set.len() >= 16 {
            let acknowledged = set.join_next().await.unwrap().unwrap();
            println!("\nack {acknowledged}");
        }
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_acknowledged() {
    assert_eq!(kill_amid("crash::child_that_appends_until_it_is_killed").await, 0);
}

#[tokio::test]
async fn a_killed_holder_loses_nothing_that_was_committed() {
    // The control: the database had not all of it.
    assert!(kill_amid("crash::child_that_commits_until_it_is_killed").await > 0);
}

/// Kills the child in the middle of its writes, and looks for what it said was there. Says how much
/// of it was in a log.
async fn kill_amid(child: &str) -> u64 {
    let world = World::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child])
        .args(["--ignored", "--nocapture"])
        .env(CHILD_DIR, world.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut run: Option<RunId> = None;
    let mut acknowledged = vec![];
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines {
        let Ok(line) = line else { break };
        if let Some(id) = line.strip_prefix("run ") {
            run = Some(id.parse().unwrap());
        }
        if let Some(number) = line.strip_prefix("ack ") {
            acknowledged.push(number.to_owned());
        }
        if acknowledged.len() == 300 {
            // SIGKILL, in the middle of sixteen appends.
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
    assert!(acknowledged.len() >= 300);

    let logs = std::fs::read_dir(world.dir.path().join("journal/logs")).unwrap();
    let logged = logs.map(|log| log.unwrap().metadata().unwrap().len()).sum();
    let run = run.unwrap();
    let journal = world.open().await;
    let stored = journal.events(&run, 0).await.unwrap();
    let there = labels(&stored);
    for number in &acknowledged {
        assert!(there.contains(&number.as_str()), "{number} was acknowledged and is lost");
    }
    let report = journal.verify().await.unwrap();
    assert!(report.ok(), "{:?}", report.faults);
    // The kernel freed the lock, and the next holder begins a new epoch.
    let hold = journal.hold(&run).await.unwrap();
    assert_eq!(hold.epoch(), 2);
    let more = vec![note("after")];
    journal.append(&run, 2, stored.len() as u64, more, Durability::Synced).await.unwrap();
    journal.seal(&run).await.unwrap();
    assert!(journal.verify().await.unwrap().ok());
    logged
}

/// Everything that writes, once; what was acknowledged of it.
async fn scenario(world: &World, journal: &Journal) -> (Vec<String>, Result<(), JournalError>) {
    let mut acknowledged = vec![];
    let done = script(world, journal, &mut acknowledged).await;
    (acknowledged, done)
}

async fn script(
    world: &World,
    journal: &Journal,
    acknowledged: &mut Vec<String>,
) -> Result<(), JournalError> {
    let Start::New { hold, .. } = journal.start(world.new_run()).await? else {
        panic!("the run was known")
    };
    for label in ["one", "two"] {
        let events = vec![note(label)];
        journal.append(hold.run(), 1, Expected::Any, events, Durability::Commit).await?;
        acknowledged.push(label.to_owned());
    }
    let ledger = journal.ledger(&hold, crate::world::actor());
    let reservation = ledger.take(BudgetKind::ToolMs, 100).await?;
    ledger.close(reservation, 40).await?;
    journal.seal(hold.run()).await?;
    acknowledged.push("sealed".to_owned());
    Ok(())
}

#[tokio::test]
async fn death_at_every_write_leaves_what_was_acknowledged() {
    let control = World::new();
    let journal = control.open().await;
    let (_, done) = scenario(&control, &journal).await;
    done.unwrap();
    let writes = journal.writes();
    assert_eq!(writes, 6);

    let plans = (0..writes).flat_map(|n| [FaultPlan::Before(n), FaultPlan::After(n)]);
    for plan in plans {
        let world = World::new();
        let journal = Journal::with_faults(world.options(), plan).await.unwrap();
        let (acknowledged, done) = scenario(&world, &journal).await;
        assert!(matches!(done, Err(JournalError::Crashed)), "{plan:?}");
        assert!(matches!(journal.runs().await, Err(JournalError::Crashed)), "{plan:?}");
        drop(journal);

        let journal = world.open().await;
        let report = journal.verify().await.unwrap();
        assert!(report.ok(), "{plan:?}: {:?}", report.faults);
        let runs = journal.runs().await.unwrap();
        let Some(row) = runs.first() else {
            assert_eq!(plan, FaultPlan::Before(0));
            continue;
        };
        let stored = journal.events(&row.run, 0).await.unwrap();
        let there = labels(&stored);
        for label in acknowledged.iter().filter(|label| *label != "sealed") {
            assert!(there.contains(&label.as_str()), "{plan:?}: {label}");
        }
        assert_eq!(
            plan == FaultPlan::After(2),
            there.len() > acknowledged.len() && there.len() == 2,
            "{plan:?}"
        );
        let hold = journal.hold(&row.run).await.unwrap();
        assert_eq!(hold.epoch(), 2);
        // An open reservation counts as spent after its holder's death.
        let spent = journal.spent(&row.run).await.unwrap().tool_ms;
        let expected = match plan {
            FaultPlan::After(3) | FaultPlan::Before(4) => 100,
            FaultPlan::After(n) | FaultPlan::Before(n) if n >= 4 => 40,
            _ => 0,
        };
        assert_eq!(spent, expected, "{plan:?}");
    }
}
