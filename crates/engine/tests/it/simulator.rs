//! Deaths before and after every write of the journal and at every crossing of an outside effect,
//! in process and by number, so that a failure can be had again.
//!
//! After each death a new process finds what lies on disk and goes on with the same wishes. Then:
//! no effect twice, none lost, the chains whole, the run settled, the repository as in a world
//! where nobody died; and whoever watched the first life saw nothing that is not recorded.
//!
//! Not among [`EFFECTS`], since they are no crossings of their own: the record of an admission is
//! written just before the first write of the journal and is nothing without it; the files of large
//! texts come with a write of the journal; a result's tree is nothing until it is kept; calls,
//! freezing and grants change a session alone, which dies with its holder. A bundle is put into
//! place by one renaming (`what_escalates_survives`), and what half a one looks like to a verifier
//! is in `evidence`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cofferdam_contract::events::{EffectEvent, Event, EventBody};
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::{RuntimeRequest, TaskType};
use cofferdam_engine::{Command, Engine, Observer, Unobserved};
use cofferdam_journal::FaultPlan;

use crate::flow::{approve, command};
use crate::world::{Death, World};

/// Every effect of runs and of what is done with them outside of journal and memory. Lives end just
/// before and just after each.
const EFFECTS: [&str; 11] = [
    // A URL is fetched into its mirror.
    "repository.mirror",
    // A base comes into the cache.
    "repository.base",
    // A session comes with a workspace, on the base, a checkpoint or a result.
    "session.open",
    // A program runs in it: the driver, the profile's setup, a command of the gate.
    "call",
    // A result, a checkpoint, a merge or a recheck is kept in the store.
    "repository.keep",
    // A session goes with all that it had on disk.
    "session.discard",
    // Objects come into the user's repository: apply, merge.
    "repository.objects",
    // A branch is moved: apply, merge, rollback.
    "repository.ref",
    // Pruning: what a run had kept, then what nobody keeps.
    "repository.release",
    "repository.reclaim",
    // Pruning: bases and mirrors that nobody needs.
    "repository.collect",
];

/// Sees that lives crossed each of these effects on both sides.
pub(crate) fn assert_crossed(crossed: &[&'static str], effects: &[&str]) {
    let crossed: BTreeSet<_> = crossed.iter().copied().collect();
    for effect in effects {
        assert!(EFFECTS.contains(effect), "{effect}");
        for side in ["before", "after"] {
            assert!(crossed.contains(&*format!("{effect}.{side}")), "{effect}: {crossed:?}");
        }
    }
    let known = |point: &&&str| EFFECTS.iter().any(|it| point.starts_with(it));
    let unknown: Vec<_> = crossed.iter().filter(|it| !known(it)).collect();
    assert!(unknown.is_empty(), "not in the list: {unknown:?}");
}

/// Remembers what it was told.
#[derive(Default)]
struct Seen(Mutex<Vec<EventBody>>);

impl Observer for Seen {
    fn event(&self, event: &EventBody) {
        self.0.lock().unwrap().push(event.clone());
    }

    fn progress(&self, _stage: &str, _done: u64, _total: u64) {}
}

/// What the user wants, step by step; each step can be wished again.
async fn wish(
    engine: &Engine,
    world: &World,
    class: TaskType,
    seen: &Arc<Seen>,
) -> Result<RunId, Problem> {
    let run = engine.admit(wished(world, class)).await?.run;
    let seen: Arc<dyn Observer> = seen.clone();
    engine.settle_orphans(Arc::clone(&seen)).await?;
    let mut view = engine.show(&run).await?;
    if matches!(view.state.as_str(), "preparing" | "working" | "checking") {
        view = engine.advance(&run, seen).await?;
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
async fn live_twice(death: Death, class: TaskType, cache: Option<&Path>) -> bool {
    let world = World::with_cache(42, cache);
    let before = world.git(&["rev-parse", "main"]);
    let seen = Arc::default();
    let first = match world.boot(death).await {
        Ok(engine) => wish(&engine, &world, class, &seen).await.map(|_| ()),
        Err(problem) => Err(problem),
    };
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = wish(&engine, &world, class, &Arc::default()).await;
    let run = run.unwrap_or_else(|it| panic!("{death:?}: {it:?}"));
    let left = judge(&engine, &world, &run, &before, death).await;
    for told in seen.0.lock().unwrap().iter() {
        let recorded = left.events.iter().any(|event| event.body == *told);
        assert!(recorded, "{death:?}: told of and not recorded: {told:?}");
    }
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
        let repository = world.mirror().unwrap_or_else(|| world.repository());
        let git = |args: &[&str]| world.git_in(&repository, args);
        let list = git(&["for-each-ref", "--format=%(refname)", "refs/heads/cofferdam"]);
        let branches: Vec<String> = list.lines().map(str::to_owned).collect();
        let not_before = format!("^{before}");
        let mut args = vec!["rev-list", "--count", "--branches=cofferdam/*", &not_before];
        args.extend(["--not", "main"]);
        let commits = git(&args).parse().unwrap();
        git(&["fsck", "--strict"]);
        Self {
            state: engine.show(run).await.unwrap().state,
            events: engine.events(run, 0).await.unwrap(),
            main: git(&["rev-parse", "main"]),
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

async fn judge(engine: &Engine, world: &World, run: &RunId, before: &str, death: Death) -> Left {
    let report = engine.verify_journal().await.unwrap();
    assert!(report.ok(), "{death:?}: {report:?}");
    let left = Left::of(engine, world, run, before).await;
    crate::causes::assert_caused(&left.events);
    let (state, effects) = match left.state.as_str() {
        "interrupted" => ("interrupted", 0),
        _ => ("rolled_back", 3),
    };
    assert_eq!(left.faults(before, state, effects), Vec::<&str>::new(), "{death:?}");
    left
}

/// The judge is shown what a missing guard would leave: each is seen, and for what it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_judge_sees_an_effect_that_is_doubled_or_lost_and_a_run_that_is_not_settled() {
    let world = World::new(42);
    let before = world.git(&["rev-parse", "main"]);
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = wish(&engine, &world, TaskType::Assist, &Arc::default()).await.unwrap();
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
    let run = wish(&engine, &world, class, &Arc::default()).await.unwrap();
    judge(&engine, &world, &run, &before, Death::NONE).await;
    Deaths { proposed, writes: engine.parts().journal.writes(), crossed: world.crossed() }
}

struct Deaths {
    /// Writes until there is a proposal.
    proposed: u64,
    /// Writes in all.
    writes: u64,
    /// Crossings of outside effects in all.
    crossed: Vec<&'static str>,
}

/// Dies once at each of these places; every death must be noticed by whoever lived.
async fn die_at(class: TaskType, deaths: impl Iterator<Item = Death>, unnoticed_max: u64) {
    let cache = tempfile::tempdir().unwrap();
    let mut unnoticed = 0;
    for death in deaths {
        // That a base is prepared is one of the effects.
        let cache = death.crossing.is_none().then(|| cache.path());
        unnoticed += u64::from(!live_twice(death, class, cache).await);
    }
    assert!(unnoticed <= unnoticed_max, "{unnoticed} deaths were not noticed");
}

fn at_writes(writes: u64, plan: impl Fn(u64) -> FaultPlan) -> impl Iterator<Item = Death> {
    (0..writes).map(move |n| Death { journal: plan(n), crossing: None })
}

pub(crate) fn at_crossings(crossed: &[&str]) -> impl Iterator<Item = Death> + use<> {
    let at = |n| Death { journal: FaultPlan::Never, crossing: Some(n) };
    (0..crossed.len() as u64).map(at)
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
    let Deaths { crossed, .. } = count(TaskType::Autonomous).await;
    assert_crossed(&crossed, &EFFECTS[1..8]);
    die_at(TaskType::Autonomous, at_crossings(&crossed), 0).await;
}
