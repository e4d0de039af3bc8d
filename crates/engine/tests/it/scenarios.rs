//! Deaths on other ways through a run than the straight one: a base that moved, a no, a stop, a
//! change that escalates, a setup that is kept, commands of the gate, evidence that is written, what
//! is pruned, a repository behind a URL, the other drivers; and two who approve at once.
//!
//! As in `simulator`, a life ends at a write or a crossing, and the next one has the same wishes.
//! Of the writes some are chosen by seed, before or after in turn; of the crossings, all.

use std::path::Path;
use std::sync::Arc;

use cofferdam_contract::check::Verdict;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::{
    DriverRequest, PatchSource, RepositorySource, RuntimeRequest, TaskType,
};
use cofferdam_engine::{Answer, Command, Engine, Unobserved};
use cofferdam_journal::FaultPlan;
use cofferdam_policy::profile::CheckCommand;
use cofferdam_repository::Retain;

use crate::flow::{approve, command};
use crate::simulator::{Left, assert_crossed, at_crossings};
use crate::world::{Death, World};

#[derive(Clone, Copy, Debug)]
enum Way {
    /// The base moves while the proposal waits: recheck, then the new proposal is applied.
    Recheck,
    /// The answer is no.
    Reject,
    /// The run is stopped while it waits.
    Stop,
    /// The change escalates, is approved all the same, and its evidence is written. What the run
    /// had kept is pruned once it is over.
    Escalate,
    /// A setup is kept before the work, and commands of the gate look at the result.
    Setup,
    /// The repository is behind a URL, and its mirror is pruned.
    Url,
    /// The change is a patch.
    Patch,
    /// The change is a rewriting.
    Codemod,
}

/// Rewrites what is in [`SOURCE`].
const RULE: &str = "language: Rust\nrule: { pattern: $VALUE.unwrap() }\nfix: $VALUE?\n";
const SOURCE: &str = "fn f() -> R {\n    g().unwrap()\n}\n";
const PATCH: &str = "--- a/file.txt\n+++ b/file.txt\n@@ -1 +1 @@\n-one\n+two\n";

impl Way {
    fn world(self, cache: Option<&Path>) -> World {
        let mut world = World::with_cache(43, cache);
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
            Self::Codemod => on_main(&world, "one.rs", SOURCE),
            _ => {}
        }
        world
    }

    fn request(self, world: &World) -> RuntimeRequest {
        let mut request = world.request(&["write", "file.txt", "two\n"]);
        request.task_type = TaskType::Autonomous;
        request.idempotency_key = Some("wish".to_owned());
        match self {
            Self::Url => {
                let url = format!("file://{}", world.repository().display());
                request.repository.source = RepositorySource::Url(url);
            }
            Self::Patch => {
                let from = PatchSource::Text(PATCH.to_owned());
                request.driver = DriverRequest::Patch { from };
            }
            Self::Codemod => request.driver = DriverRequest::Codemod { rule: RULE.to_owned() },
            _ => {}
        }
        request
    }

    /// The effects that are crossed here and not on the straight way.
    fn effects(self) -> &'static [&'static str] {
        match self {
            Self::Escalate => &["repository.release", "repository.reclaim", "repository.collect"],
            Self::Url => &["repository.mirror", "repository.collect"],
            _ => &[],
        }
    }

    /// Every so many writes a life ends: fewer where most are those of the straight way.
    fn step(self) -> usize {
        match self {
            Self::Url | Self::Patch | Self::Codemod => 5,
            _ => 2,
        }
    }

    /// What the run comes to, and by how many effects.
    fn end(self) -> (&'static str, usize) {
        match self {
            Self::Reject => ("rejected", 0),
            Self::Stop => ("cancelled", 0),
            _ => ("rolled_back", 2),
        }
    }

    /// What the user wants; each step can be wished again.
    async fn wish(self, engine: &Engine, world: &World) -> Result<RunId, Problem> {
        let run = engine.admit(self.request(world)).await?.run;
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
            engine.export_evidence(&run, bundle, vec![]).await?;
        }
        if engine.show(&run).await?.state != "rolled_back" {
            command(engine, &run, Command::Rollback {}).await?;
        }
        if matches!(self, Self::Escalate | Self::Url) {
            engine.prune(Retain { bases_max: 0, bytes_max: 0 }).await?;
        }
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
            Self::Url | Self::Patch | Self::Codemod => {
                // It escalates where the record of a session that died with its holder has gaps.
                assert_ne!(view.verdict, Some(Verdict::Fail), "{:?}", view.checks);
                assert_eq!(view.files_changed, 1);
                approve(&view)
            }
        };
        command(engine, run, answer).await.map(|_| ())
    }
}

/// Moves the base, once.
fn moved(world: &World) -> String {
    if world.git(&["rev-list", "--count", "main"]) == "1" {
        on_main(world, "other.txt", "moved\n");
    }
    world.git(&["rev-parse", "main"])
}

fn on_main(world: &World, name: &str, text: &str) {
    world.git(&["checkout", "--quiet", "main"]);
    world.write(name, text);
    world.commit("second");
    world.git(&["checkout", "--quiet", "--detach"]);
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
}

/// Whether the first life noticed that it ended.
async fn live_twice(way: Way, death: Death, cache: Option<&Path>) -> bool {
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
    let world = way.world(None);
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = way.wish(&engine, &world).await.unwrap();
    judge(way, &engine, &world, &run, Death::NONE).await;
    let writes = engine.parts().journal.writes();
    assert_crossed(&world.crossed(), way.effects());
    assert!(writes > 10, "too few writes: {writes}");
    let plan =
        |n: u64| if (n / 2).is_multiple_of(2) { FaultPlan::Before(n) } else { FaultPlan::After(n) };
    let at_writes = (seed % 2..writes).step_by(way.step());
    let at_writes = at_writes.map(|n| Death { journal: plan(n), crossing: None });
    let mut unnoticed = 0;
    for death in at_writes.chain(at_crossings(&world.crossed())) {
        // That a base is prepared is one of the effects.
        let cache = death.crossing.is_none().then(|| cache.path());
        unnoticed += u64::from(!live_twice(way, death, cache).await);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_behind_a_url_survives() {
    survives(Way::Url, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_survives() {
    survives(Way::Patch, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codemod_survives() {
    survives(Way::Codemod, 1).await;
}

/// Two processes approve one proposal at the same time; one of them may die on the way.
async fn approve_at_once(world: &World, death: Death) -> [Result<Answer, Problem>; 2] {
    let first = world.boot(Death::NONE).await.unwrap();
    let run = first.admit(Way::Reject.request(world)).await.unwrap().run;
    let view = first.advance(&run, Arc::new(Unobserved)).await.unwrap();
    let mortal = world.boot(death).await;
    let one = tokio::spawn({
        let (run, answer) = (run.clone(), approve(&view));
        async move { command(&mortal?, &run, answer).await }
    });
    let answers = [command(&first, &run, approve(&view)).await, one.await.unwrap()];
    let main = world.git(&["rev-parse", "main"]);
    let left = Left::of(&first, world, &run, &main).await;
    assert_eq!(left.faults(&main, "applied", 1), Vec::<&str>::new(), "{death:?}");
    assert!(first.verify_journal().await.unwrap().ok(), "{death:?}");
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_approve_at_once_one_does_it_and_the_other_learns_that_it_is_done() {
    for seed in 50..60 {
        let answers = approve_at_once(&World::new(seed), Death::NONE).await.map(Result::unwrap);
        let [one, other] = &answers;
        assert_eq!((&one.view.commit, one.already), (&other.view.commit, !other.already));
        assert!(one.view.commit.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_approvers_may_die_anywhere() {
    let cache = tempfile::tempdir().unwrap();
    let deaths = (0..8).flat_map(|n| {
        let at = |journal, crossing| Death { journal, crossing };
        let writes = [FaultPlan::Before(n), FaultPlan::After(n)];
        writes.map(|plan| at(plan, None)).into_iter().chain([at(FaultPlan::Never, Some(n))])
    });
    for death in deaths {
        let [one, _] = approve_at_once(&World::with_cache(61, Some(cache.path())), death).await;
        assert_eq!(one.unwrap().view.state, "applied", "{death:?}");
    }
}
