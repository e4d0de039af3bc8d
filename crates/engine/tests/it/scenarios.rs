//! Deaths on other ways through a run than the straight one: a base that moved, a no, a stop, a
//! change that escalates, a setup that is kept, commands of the gate, evidence that is written.
//!
//! As in `simulator`, a life ends at a write or a crossing, and the next one has the same wishes.
//! Places are chosen by seed: every other one, before or after in turn.

use std::path::Path;
use std::sync::Arc;

use cofferdam_contract::check::Verdict;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::TaskType;
use cofferdam_engine::{Command, Engine, Unobserved};
use cofferdam_journal::FaultPlan;
use cofferdam_policy::profile::CheckCommand;

use crate::flow::{approve, command};
use crate::simulator::Left;
use crate::world::{Death, World};

#[derive(Clone, Copy, Debug)]
enum Way {
    /// The base moves while the proposal waits: recheck, then the new proposal is applied.
    Recheck,
    /// The answer is no.
    Reject,
    /// The run is stopped while it waits.
    Stop,
    /// The change escalates, is approved all the same, and its evidence is written.
    Escalate,
    /// A setup is kept before the work, and commands of the gate look at the result.
    Setup,
}

impl Way {
    fn world(self, cache: &Path) -> World {
        let mut world = World::with_cache(43, Some(cache));
        match self {
            Self::Escalate => {
                world.profile.paths.protected.insert("file.txt".to_owned());
            }
            Self::Setup => {
                let argv = |text: &[&str]| text.iter().map(|it| (*it).to_owned()).collect();
                world.profile.session.setup = argv(&["write", "made.txt", "by setup\n"]);
                world.profile.gate.commands = vec![CheckCommand {
                    name: "has".to_owned(),
                    argv: argv(&["has", "file.txt"]),
                    required: true,
                    kind: cofferdam_policy::CommandKind::Test,
                    timeout_ms: 60_000,
                }];
            }
            Self::Recheck | Self::Reject | Self::Stop => {}
        }
        world
    }

    /// What the run comes to, and by how many effects.
    fn end(self) -> (&'static str, usize) {
        match self {
            Self::Reject => ("rejected", 0),
            Self::Stop => ("cancelled", 0),
            Self::Recheck | Self::Escalate | Self::Setup => ("rolled_back", 2),
        }
    }

    /// What the user wants; each step can be wished again.
    async fn wish(self, engine: &Engine, world: &World) -> Result<RunId, Problem> {
        let mut request = world.request(&["write", "file.txt", "two\n"]);
        request.task_type = TaskType::Autonomous;
        request.idempotency_key = Some("wish".to_owned());
        let run = engine.admit(request).await?.run;
        engine.settle_orphans(Arc::new(Unobserved)).await?;
        let view = engine.advance(&run, Arc::new(Unobserved)).await?;
        if view.state == "awaiting_approval" {
            self.answer(engine, world, &run).await?;
        }
        if self.end().1 == 0 {
            return Ok(run);
        }
        let bundle = world.path("bundle");
        if !bundle.exists() {
            engine.export_evidence(&run, bundle).await?;
        }
        command(engine, &run, Command::Rollback {}).await?;
        Ok(run)
    }

    async fn answer(self, engine: &Engine, world: &World, run: &RunId) -> Result<(), Problem> {
        let mut view = engine.show(run).await?;
        let answer = match self {
            Self::Reject => Command::Reject { reason: "no".to_owned() },
            Self::Stop => Command::Stop {},
            Self::Escalate => {
                assert_eq!(view.verdict, Some(Verdict::Escalate));
                approve(&view)
            }
            Self::Setup => {
                assert_eq!(
                    (view.files_changed, view.checks.last().unwrap().name.as_str()),
                    (2, "has")
                );
                approve(&view)
            }
            Self::Recheck => {
                let tip = moved(world);
                if view.base.as_ref().map(ToString::to_string) != Some(tip) {
                    view = command(engine, run, Command::Recheck {}).await?.view;
                }
                approve(&view)
            }
        };
        command(engine, run, answer).await.map(|_| ())
    }
}

/// Moves the base, once.
fn moved(world: &World) -> String {
    if world.git(&["rev-list", "--count", "main"]) == "1" {
        world.git(&["checkout", "--quiet", "main"]);
        world.write("other.txt", "moved\n");
        world.commit("second");
        world.git(&["checkout", "--quiet", "--detach"]);
    }
    world.git(&["rev-parse", "main"])
}

async fn judge(way: Way, engine: &Engine, world: &World, run: &RunId, death: Death) {
    let tip = world.git(&["rev-parse", "main"]);
    let left = Left::of(engine, world, run, &tip).await;
    crate::causes::assert_caused(&left.events);
    let (state, effects) = way.end();
    // A rollback of what was applied takes the branch away again.
    let faults = left.faults(&tip, state, effects);
    let gone =
        ["not as many branches as there should be", "not as many commits as there should be"];
    let expected: &[&str] = if effects > 0 { &gone } else { &[] };
    assert_eq!((left.branches.len(), &faults[..]), (0, expected), "{way:?} {death:?}");
    assert!(engine.verify_journal().await.unwrap().ok(), "{way:?} {death:?}");
    if effects > 0 {
        let bundle = cofferdam_engine::verify_evidence(&world.path("bundle"), None).unwrap();
        assert!(bundle.ok, "{way:?} {death:?}");
    }
    world.git(&["fsck", "--strict"]);
}

/// Whether the first life noticed that it ended.
async fn live_twice(way: Way, death: Death, cache: &Path) -> bool {
    let world = way.world(cache);
    let first = match world.boot(death).await {
        Ok(engine) => way.wish(&engine, &world).await.map(|_| ()),
        Err(problem) => Err(problem),
    };
    let engine = world.boot(Death::NONE).await.unwrap();
    let run =
        way.wish(&engine, &world).await.unwrap_or_else(|it| panic!("{way:?} {death:?}: {it:?}"));
    judge(way, &engine, &world, &run, death).await;
    first.is_err()
}

async fn survives(way: Way, seed: u64) {
    let cache = tempfile::tempdir().unwrap();
    let world = way.world(cache.path());
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = way.wish(&engine, &world).await.unwrap();
    judge(way, &engine, &world, &run, Death::NONE).await;
    let writes = engine.parts().journal.writes();
    let crossings = world.crossings.load(std::sync::atomic::Ordering::SeqCst);
    assert!(writes > 10, "too few writes: {writes}");
    let plan =
        |n: u64| if (n / 2).is_multiple_of(2) { FaultPlan::Before(n) } else { FaultPlan::After(n) };
    let at_writes =
        (seed % 2..writes).step_by(2).map(|n| Death { journal: plan(n), crossing: None });
    let at_crossings =
        (0..crossings).map(|n| Death { journal: FaultPlan::Never, crossing: Some(n) });
    let mut unnoticed = 0;
    for death in at_writes.chain(at_crossings) {
        unnoticed += u64::from(!live_twice(way, death, cache.path()).await);
    }
    // A death after the very last write is nobody's any more.
    assert!(unnoticed <= 1, "{unnoticed} deaths were not noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recheck_survives() {
    survives(Way::Recheck, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_survives() {
    survives(Way::Reject, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_survives() {
    survives(Way::Stop, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_escalates_survives() {
    survives(Way::Escalate, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_and_a_gate_with_commands_survive() {
    survives(Way::Setup, 0).await;
}
