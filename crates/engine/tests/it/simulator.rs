//! Deaths before and after every write of the journal and at every crossing of an outside effect,
//! in process and by number, so that a failure can be had again.
//!
//! After each death a new process finds what lies on disk and goes on with the same wishes. Then:
//! no effect twice, none lost, the chains whole, the run settled, the repository as in a world
//! where nobody died.

use std::path::Path;
use std::sync::Arc;

use cofferdam_contract::events::{EffectEvent, Event, EventBody};
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::{RuntimeRequest, TaskType};
use cofferdam_engine::{Command, Engine, Unobserved};
use cofferdam_journal::FaultPlan;

use crate::flow::{approve, command};
use crate::world::{Death, World};

/// What the user wants, step by step; each step can be wished again.
async fn wish(engine: &Engine, world: &World, class: TaskType) -> Result<RunId, Problem> {
    let run = engine.admit(wished(world, class)).await?.run;
    engine.settle_orphans(Arc::new(Unobserved)).await?;
    let mut view = engine.show(&run).await?;
    if matches!(view.state.as_str(), "preparing" | "working" | "checking") {
        view = engine.advance(&run, Arc::new(Unobserved)).await?;
    }
    if view.state == "interrupted" {
        return Ok(run);
    }
    if view.state == "awaiting_approval" {
        command(engine, &run, approve(&view)).await?;
    }
    if matches!(engine.show(&run).await?.state.as_str(), "applied" | "merging") {
        command(engine, &run, Command::Merge { into: "main".to_owned() }).await?;
    }
    command(engine, &run, Command::Rollback {}).await?;
    Ok(run)
}

fn wished(world: &World, class: TaskType) -> RuntimeRequest {
    let mut request = world.request(&["write", "file.txt", "two\n"]);
    request.task_type = class;
    request.idempotency_key = Some("wish".to_owned());
    request
}

/// One life that ends as `death` says, and one after it that does not end.
async fn live_twice(death: Death, class: TaskType, cache: &Path) -> bool {
    let world = World::with_cache(42, Some(cache));
    let before = world.git(&["rev-parse", "main"]);
    let first = match world.boot(death).await {
        Ok(engine) => wish(&engine, &world, class).await.map(|_| ()),
        Err(problem) => Err(problem),
    };
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = wish(&engine, &world, class).await.unwrap_or_else(|it| panic!("{death:?}: {it:?}"));
    judge(&engine, &world, &run, &before, death).await;
    first.is_err()
}

/// What a settled run left, as far as it is judged.
#[derive(Clone)]
pub(crate) struct Left {
    pub(crate) state: String,
    pub(crate) events: Vec<Event>,
    /// Where the branch that was merged into is.
    pub(crate) main: String,
    /// Branches of ours.
    pub(crate) branches: Vec<String>,
    /// Commits that they have and the first commit's branch had not.
    pub(crate) commits: u64,
}

impl Left {
    pub(crate) async fn of(engine: &Engine, world: &World, run: &RunId, before: &str) -> Self {
        let list = world.git(&["for-each-ref", "--format=%(refname)", "refs/heads/cofferdam"]);
        let branches: Vec<String> = list.lines().map(str::to_owned).collect();
        let not_before = format!("^{before}");
        let mut args = vec!["rev-list", "--count", "--branches=cofferdam/*", &not_before];
        args.extend(["--not", "main"]);
        let commits = world.git(&args).parse().unwrap();
        Self {
            state: engine.show(run).await.unwrap().state,
            events: engine.events(run, 0).await.unwrap(),
            main: world.git(&["rev-parse", "main"]),
            branches,
            commits,
        }
    }

    /// What is wrong with it, where the run was to come to `state` by `effects` effects.
    pub(crate) fn faults(&self, before: &str, state: &str, effects: usize) -> Vec<&'static str> {
        let (mut intended, mut completed) = (vec![], vec![]);
        for event in &self.events {
            match &event.body {
                EventBody::Effect(EffectEvent::Intended(intent)) => intended.push(intent.key()),
                EventBody::Effect(EffectEvent::Completed(outcome)) => completed.push(&outcome.key),
                _ => {}
            }
        }
        let distinct: std::collections::BTreeSet<_> = completed.iter().collect();
        let branches = usize::from(effects > 0);
        let rules = [
            (self.state == state, "not settled"),
            (intended == completed, "an intent without an outcome"),
            (distinct.len() == completed.len(), "an effect twice"),
            (completed.len() == effects, "not as many effects as there should be"),
            (self.main == before, "the branch is not where it was"),
            (self.branches.len() == branches, "not as many branches as there should be"),
            (self.commits == branches as u64, "not as many commits as there should be"),
        ];
        rules.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault).collect()
    }
}

async fn judge(engine: &Engine, world: &World, run: &RunId, before: &str, death: Death) {
    let report = engine.verify_journal().await.unwrap();
    assert!(report.ok(), "{death:?}: {report:?}");
    let left = Left::of(engine, world, run, before).await;
    crate::causes::assert_caused(&left.events);
    let (state, effects) = match left.state.as_str() {
        "interrupted" => ("interrupted", 0),
        _ => ("rolled_back", 3),
    };
    assert_eq!(left.faults(before, state, effects), Vec::<&str>::new(), "{death:?}");
    world.git(&["fsck", "--strict"]);
}

/// The judge is shown what a missing guard would leave: each is seen, and for what it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_judge_sees_an_effect_that_is_doubled_or_lost_and_a_run_that_is_not_settled() {
    let world = World::new(42);
    let before = world.git(&["rev-parse", "main"]);
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = wish(&engine, &world, TaskType::Assist).await.unwrap();
    let left = Left::of(&engine, &world, &run, &before).await;
    let faults = |left: &Left| left.faults(&before, "rolled_back", 3);
    assert!(faults(&left).is_empty(), "the control");
    let at = |left: &Left, kind: &str| {
        left.events.iter().position(|event| event.body.kind() == kind).unwrap()
    };

    // No look at the operation key: intent and outcome of one effect come twice.
    let mut doubled = left.clone();
    let intent = at(&left, "effect.intended");
    let twice: Vec<_> = left.events[intent..=intent + 1].to_vec();
    doubled.events.splice(intent..intent, twice);
    assert!(faults(&doubled).contains(&"an effect twice"));
    // No outcome: the effect happened and nobody knows.
    let mut lost = left.clone();
    lost.events.remove(at(&left, "effect.completed"));
    assert!(faults(&lost).contains(&"an intent without an outcome"));
    let mut stuck = left.clone();
    stuck.state = "applying".to_owned();
    assert_eq!(faults(&stuck), ["not settled"]);

    // No comparison before the swap: the branch is moved whatever was there.
    let tip = world.git(&["for-each-ref", "--format=%(objectname)", "refs/heads/cofferdam"]);
    world.git(&["update-ref", "refs/heads/main", &tip]);
    let swapped = Left::of(&engine, &world, &run, &before).await;
    assert!(faults(&swapped).contains(&"the branch is not where it was"));
    world.git(&["update-ref", "refs/heads/main", &before]);
    // Applied again: another commit of the same change on another branch.
    let args = ["commit-tree", "-p", &before, "-m", "again", &format!("{tip}^{{tree}}")];
    let again = world.git(&args);
    world.git(&["update-ref", "refs/heads/cofferdam/again", &again]);
    let applied = Left::of(&engine, &world, &run, &before).await;
    let expected =
        ["not as many branches as there should be", "not as many commits as there should be"];
    assert_eq!(faults(&applied), expected);
}

/// Without a death the first life needs no second: this is the control, and it counts the deaths
/// that there are.
async fn count(class: TaskType) -> Deaths {
    let world = World::new(42);
    let before = world.git(&["rev-parse", "main"]);
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = engine.admit(wished(&world, class)).await.unwrap().run;
    engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
    let proposed = engine.parts().journal.writes();
    let run = wish(&engine, &world, class).await.unwrap();
    judge(&engine, &world, &run, &before, Death::NONE).await;
    let crossings = world.crossings.load(std::sync::atomic::Ordering::SeqCst);
    Deaths { proposed, writes: engine.parts().journal.writes(), crossings }
}

struct Deaths {
    /// Writes until there is a proposal.
    proposed: u64,
    /// Writes in all.
    writes: u64,
    /// Crossings of outside effects in all.
    crossings: u64,
}

/// Dies once at each of these places; every death must be noticed by whoever lived.
async fn die_at(class: TaskType, deaths: impl Iterator<Item = Death>, unnoticed_max: u64) {
    let cache = tempfile::tempdir().unwrap();
    let mut unnoticed = 0;
    for death in deaths {
        unnoticed += u64::from(!live_twice(death, class, cache.path()).await);
    }
    assert!(unnoticed <= unnoticed_max, "{unnoticed} deaths were not noticed");
}

fn at_writes(writes: u64, plan: impl Fn(u64) -> FaultPlan) -> impl Iterator<Item = Death> {
    (0..writes).map(move |n| Death { journal: plan(n), crossing: None })
}

/// The classes differ up to the proposal only.
#[tokio::test(flavor = "multi_thread")]
async fn an_assist_run_survives_every_death_before_its_proposal() {
    let Deaths { proposed, .. } = count(TaskType::Assist).await;
    assert!(proposed > 10, "too few writes: {proposed}");
    let deaths =
        at_writes(proposed, FaultPlan::Before).chain(at_writes(proposed, FaultPlan::After));
    die_at(TaskType::Assist, deaths, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autonomous_run_survives_a_death_before_every_write() {
    let Deaths { writes, .. } = count(TaskType::Autonomous).await;
    assert!(writes > 20, "too few writes: {writes}");
    // Counting takes one hold more than living does.
    die_at(TaskType::Autonomous, at_writes(writes, FaultPlan::Before), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autonomous_run_survives_a_death_after_every_write() {
    let Deaths { writes, .. } = count(TaskType::Autonomous).await;
    // As above, and nobody is left to notice a death after the very last write.
    die_at(TaskType::Autonomous, at_writes(writes, FaultPlan::After), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autonomous_run_survives_a_death_at_every_crossing_of_an_effect() {
    let Deaths { crossings, .. } = count(TaskType::Autonomous).await;
    assert!(crossings >= 6, "too few crossings: {crossings}");
    let at = |n| Death { journal: FaultPlan::Never, crossing: Some(n) };
    die_at(TaskType::Autonomous, (0..crossings).map(at), 0).await;
}
