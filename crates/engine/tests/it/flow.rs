//! The main flow and the outcomes that a user meets, over a real journal and real git.

use std::sync::Arc;

use cofferdam_contract::check::Verdict;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::{DriverRequest, TaskType};
use cofferdam_engine::{Answer, Command, Engine, Given, RunView, Unobserved};
use cofferdam_tools::CallRequest;

use crate::world::{Death, World, owner};

pub(crate) async fn command(
    engine: &Engine,
    run: &RunId,
    command: Command,
) -> Result<Answer, Problem> {
    engine.command(run, Given { by: owner(), command }, Arc::new(Unobserved)).await
}

pub(crate) fn approve(view: &RunView) -> Command {
    Command::Approve { digest: view.digest.unwrap() }
}

async fn proposed(world: &World) -> (Engine, RunView) {
    let engine = world.boot(Death::NONE).await.unwrap();
    let admitted = engine.admit(world.request(&["write", "file.txt", "two\n"])).await.unwrap();
    let view = engine.advance(&admitted.run, Arc::new(Unobserved)).await.unwrap();
    assert_eq!(view.state, "awaiting_approval", "{view:#?}");
    (engine, view)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_proposed_approved_merged_and_rolled_back() {
    let world = World::new(1);
    let before = world.git(&["rev-parse", "main"]);
    let (engine, view) = proposed(&world).await;
    assert_eq!((view.verdict, view.files_changed), (Some(Verdict::Pass), 1));
    assert!(world.git(&["branch", "--list", "cofferdam/*"]).is_empty());

    let answer = command(&engine, &view.run, approve(&view)).await.unwrap();
    assert_eq!((answer.view.state.as_str(), answer.already), ("applied", false));
    let commit = answer.view.commit.unwrap().to_string();
    let branch = answer.view.branch.unwrap();
    assert_eq!(world.git(&["rev-parse", &branch]), commit);
    assert_eq!(world.git(&["show", &format!("{commit}:file.txt")]), "two");
    let message = world.git(&["log", "-1", "--format=%B", &commit]);
    assert!(message.contains(&format!("Cofferdam-Run: {}", view.run)), "{message}");
    assert!(message.contains(&format!("Cofferdam-Proposal: {}", view.digest.unwrap())));
    assert!(message.contains("Assisted-by: command"));

    let merge = || Command::Merge { into: "main".to_owned() };
    let merged = command(&engine, &view.run, merge()).await.unwrap();
    assert_eq!(merged.view.state, "merged");
    assert_eq!(world.git(&["rev-parse", "main"]), commit);
    assert!(command(&engine, &view.run, merge()).await.unwrap().already);

    let back = command(&engine, &view.run, Command::Rollback {}).await.unwrap();
    assert_eq!(back.view.state, "rolled_back");
    assert_eq!(world.git(&["rev-parse", "main"]), before);
    assert!(command(&engine, &view.run, Command::Rollback {}).await.unwrap().already);
    assert!(engine.verify_journal().await.unwrap().ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn approving_again_is_no_error_and_a_stale_digest_is() {
    let world = World::new(2);
    let (engine, view) = proposed(&world).await;
    let stale = Command::Approve { digest: view.base.as_ref().map(|_| other_digest()).unwrap() };
    let refused = command(&engine, &view.run, stale).await.unwrap_err();
    assert_eq!(refused.code, Code::StaleDigest);
    assert!(world.git(&["branch", "--list", "cofferdam/*"]).is_empty());
    assert!(!command(&engine, &view.run, approve(&view)).await.unwrap().already);
    assert!(command(&engine, &view.run, approve(&view)).await.unwrap().already);
}

fn other_digest() -> cofferdam_contract::digest::Digest {
    cofferdam_contract::digest::Digest::of(b"another proposal")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_moved_voids_the_proposal_until_it_is_checked_again() {
    let world = World::new(3);
    let (engine, view) = proposed(&world).await;
    world.git(&["checkout", "--quiet", "main"]);
    world.write("other.txt", "moved\n");
    world.commit("second");
    world.git(&["checkout", "--quiet", "--detach"]);

    let refused = command(&engine, &view.run, approve(&view)).await.unwrap_err();
    assert_eq!(refused.code, Code::BaseMoved);
    let again = command(&engine, &view.run, Command::Recheck {}).await.unwrap();
    assert_eq!(again.view.state, "awaiting_approval");
    assert_ne!(again.view.digest, view.digest);
    let refused = command(&engine, &view.run, approve(&view)).await.unwrap_err();
    assert_eq!(refused.code, Code::StaleDigest);
    let applied = command(&engine, &view.run, approve(&again.view)).await.unwrap();
    let commit = applied.view.commit.unwrap();
    assert_eq!(world.git(&["show", &format!("{commit}:other.txt")]), "moved");
    assert_eq!(world.git(&["show", &format!("{commit}:file.txt")]), "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_base_that_conflicts_is_said_so() {
    let world = World::new(4);
    let (engine, view) = proposed(&world).await;
    world.git(&["checkout", "--quiet", "main"]);
    world.write("file.txt", "three\n");
    world.commit("second");
    world.git(&["checkout", "--quiet", "--detach"]);
    let refused = command(&engine, &view.run, Command::Recheck {}).await.unwrap_err();
    assert_eq!(refused.code, Code::MergeConflict);
    assert!(refused.detail.contains("file.txt"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_changes_nothing_ends_unchanged_and_one_that_fails_fails() {
    let world = World::new(5);
    let engine = world.boot(Death::NONE).await.unwrap();
    for (argv, state, code) in
        [(["nothing"], "unchanged", None), (["fail"], "failed", Some(Code::DriverFailed))]
    {
        let run = engine.admit(world.request(&argv)).await.unwrap().run;
        let view = engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
        assert_eq!((view.state.as_str(), view.problem.map(|it| it.code)), (state, code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_gate_refuses_cannot_be_approved() {
    let mut world = World::new(6);
    world.profile.paths.allowed = ["src/**".to_owned()].into();
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = engine.admit(world.request(&["write", "file.txt", "two\n"])).await.unwrap().run;
    let view = engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
    assert_eq!((view.state.as_str(), view.verdict), ("failed", Some(Verdict::Fail)));
    let refused = command(&engine, &run, approve(&view)).await.unwrap_err();
    assert_eq!(refused.code, Code::NotInState);
    assert!(world.git(&["branch", "--list", "cofferdam/*"]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_run_that_another_caller_holds() {
    let world = World::new(7);
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = engine.admit(world.request(&["hang"])).await.unwrap().run;
    let (holder, held) = (engine.clone(), run.clone());
    let holding =
        tokio::spawn(async move { holder.advance(&held, Arc::new(Unobserved)).await.unwrap() });
    // The command is given whether the holder has come so far or not: it waits in the inbox.
    let answer = command(&engine, &run, Command::Stop {}).await.unwrap();
    assert_eq!(answer.view.state, "cancelled");
    assert!(["cancelled"].contains(&holding.await.unwrap().state.as_str()));
}

/// On a slow machine the time can be over before the session is there that is to be ended.
#[tokio::test(flavor = "multi_thread")]
async fn time_that_runs_out_while_a_session_opens_ends_that_session_too() {
    let mut world = World::new(19);
    world.profile.budget.wall_ms = 1;
    world.opening = std::time::Duration::from_millis(300);
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = engine.admit(world.request(&["hang"])).await.unwrap().run;
    let view = engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
    assert_eq!(view.state, "out_of_budget");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attached_session_takes_calls_shows_its_diff_and_is_over_when_it_is_ended() {
    let world = World::new(8);
    let engine = world.boot(Death::NONE).await.unwrap();
    let mut request = world.request(&["x"]);
    request.driver = DriverRequest::Attached {};
    let session = engine.attach(request, Arc::new(Unobserved)).await.unwrap();
    let input = serde_json::json!({"executable": "write", "args": ["new.txt", "text\n"]});
    let report = session.call(CallRequest::new("exec", input)).await.unwrap();
    assert_eq!((report.outcome.exit_code, report.stdout.as_slice()), (Some(0), &b"done"[..]));
    let diff = session.diff().await.unwrap();
    assert_eq!(diff.changeset.files.len(), 1);
    assert!(String::from_utf8(diff.patch).unwrap().contains("+text"));
    assert_eq!(session.end().await.unwrap().unwrap().state, "closed");
    let input = serde_json::json!({"executable": "nothing", "args": []});
    assert!(session.call(CallRequest::new("exec", input)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_the_same_run_and_for_another_request_it_is_refused() {
    let world = World::new(9);
    let engine = world.boot(Death::NONE).await.unwrap();
    let keyed = |argv: &[&str]| {
        let mut request = world.request(argv);
        request.idempotency_key = Some("key".to_owned());
        request
    };
    let first = engine.admit(keyed(&["write", "file.txt", "two\n"])).await.unwrap();
    let second = engine.admit(keyed(&["write", "file.txt", "two\n"])).await.unwrap();
    assert_eq!((&second.run, second.existed), (&first.run, true));
    let other = engine.admit(keyed(&["nothing"])).await.unwrap_err();
    assert_eq!(other.code, Code::IdempotencyMismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_commit_can_narrow_and_the_working_tree_cannot_widen() {
    let world = World::new(10);
    world.git(&["checkout", "--quiet", "main"]);
    world.write(".cofferdam.toml", "[paths]\nallowed = [\"src/**\"]\n");
    world.commit("narrow");
    world.write(".cofferdam.toml", "[paths]\nallowed = [\"**\"]\n");
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = engine.admit(world.request(&["write", "file.txt", "two\n"])).await.unwrap().run;
    let view = engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
    assert_eq!((view.state.as_str(), view.verdict), ("failed", Some(Verdict::Fail)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_others_built_upon_is_taken_back_by_a_proposal_of_its_own() {
    let world = World::new(11);
    let (engine, view) = proposed(&world).await;
    command(&engine, &view.run, approve(&view)).await.unwrap();
    command(&engine, &view.run, Command::Merge { into: "main".to_owned() }).await.unwrap();
    world.git(&["checkout", "--quiet", "main"]);
    world.write("other.txt", "built upon it\n");
    world.commit("second");
    world.git(&["checkout", "--quiet", "--detach"]);
    let tip = world.git(&["rev-parse", "main"]);

    let refused = command(&engine, &view.run, Command::Rollback {}).await.unwrap_err();
    assert_eq!(refused.code, Code::BranchMoved);
    assert_eq!(world.git(&["rev-parse", "main"]), tip);
    let inverse = engine.admit_revert(&view.run, owner()).await.unwrap();
    let shown = engine.show(&inverse.run).await.unwrap();
    assert_eq!((shown.driver.as_str(), shown.base.unwrap().to_string()), ("patch", tip));
    // Before a merge there is nothing that others could have built upon.
    let other = engine.admit(world.request(&["write", "file.txt", "x\n"])).await.unwrap().run;
    let refused = engine.admit_revert(&other, owner()).await.unwrap_err();
    assert_eq!(refused.code, Code::NotInState);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_stage_fails_again_and_again_by_storage_can_be_stopped() {
    let world = World::new(14);
    let engine = world.boot(Death::NONE).await.unwrap();
    let mut request = world.request(&["write", "file.txt", "two\n"]);
    // One that goes on by itself, and so would never end.
    request.task_type = TaskType::Autonomous;
    let run = engine.admit(request).await.unwrap().run;
    // Where bases are prepared there is no directory, whoever the tests are run by.
    let bases = world.path("cache/bases");
    let _ = std::fs::remove_dir_all(&bases);
    std::fs::write(&bases, "").unwrap();
    for _ in 0..2 {
        let failed = engine.advance(&run, Arc::new(Unobserved)).await.unwrap_err();
        assert_eq!(failed.code, Code::StorageFailed);
        let resumed = command(&engine, &run, Command::Resume {}).await.unwrap_err();
        assert_eq!(resumed.code, Code::StorageFailed);
    }
    assert_eq!(engine.show(&run).await.unwrap().state, "preparing");
    let stopped = command(&engine, &run, Command::Stop {}).await.unwrap();
    assert_eq!((stopped.view.state.as_str(), stopped.already), ("cancelled", false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_repository_is_gone_is_not_over_and_can_be_stopped() {
    let world = World::new(15);
    let engine = world.boot(Death::NONE).await.unwrap();
    let mut request = world.request(&["write", "file.txt", "two\n"]);
    request.task_type = TaskType::Autonomous;
    let run = engine.admit(request).await.unwrap().run;
    let (here, aside) = (world.repository(), world.path("aside"));
    std::fs::rename(&here, &aside).unwrap();
    let gone = engine.advance(&run, Arc::new(Unobserved)).await.unwrap_err();
    let state = engine.show(&run).await.unwrap().state;
    assert_eq!((gone.code, state.as_str()), (Code::NotARepository, "preparing"));
    // The control: once it is back, the run goes on.
    std::fs::rename(&aside, &here).unwrap();
    let view = engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
    assert_eq!(view.state, "awaiting_approval");
    std::fs::rename(&here, &aside).unwrap();
    let refused = command(&engine, &run, approve(&view)).await.unwrap_err();
    assert_eq!(refused.code, Code::NotARepository);
    let stopped = command(&engine, &run, Command::Stop {}).await.unwrap();
    assert_eq!((stopped.view.state.as_str(), stopped.already), ("cancelled", false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_just_admitted_is_nobodys_orphan() {
    let world = World::new(11);
    let first = world.boot(Death::NONE).await.unwrap();
    let second = world.boot(Death::NONE).await.unwrap();
    let admit = async || first.admit(world.request(&["write", "file.txt", "two\n"])).await.unwrap();
    let settle = async || second.settle_orphans(Arc::new(Unobserved)).await.unwrap();
    let run = admit().await.run;
    assert!(settle().await.is_empty());
    let view = first.advance(&run, Arc::new(Unobserved)).await.unwrap();
    assert_eq!(view.state, "awaiting_approval");
    // The control: one whose process is gone is settled.
    let left = admit().await.run;
    drop(first);
    let settled = settle().await;
    assert!(settled.len() == 1 && settled[0].run == left, "{settled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_was_reset_elsewhere_is_neither_taken_back_nor_reverted() {
    let world = World::new(12);
    let (engine, view) = proposed(&world).await;
    command(&engine, &view.run, approve(&view)).await.unwrap();
    command(&engine, &view.run, Command::Merge { into: "main".to_owned() }).await.unwrap();
    world.git(&["checkout", "--quiet", "--orphan", "elsewhere"]);
    world.commit("without what was merged");
    world.git(&["update-ref", "refs/heads/main", "HEAD"]);
    let tip = world.git(&["rev-parse", "main"]);
    let refused = command(&engine, &view.run, Command::Rollback {}).await.unwrap_err();
    let inverse = engine.admit_revert(&view.run, owner()).await.unwrap_err();
    assert_eq!((refused.code, inverse.code), (Code::BranchMoved, Code::BranchMoved));
    assert_eq!(world.git(&["rev-parse", "main"]), tip);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_whose_database_is_gone_does_not_begin_anew() {
    let world = World::new(13);
    let (engine, _) = proposed(&world).await;
    drop(engine);
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(world.path("journal").join(name));
    }
    let refused = world.boot(Death::NONE).await.err().unwrap();
    assert_eq!(refused.code, Code::JournalCorrupt);
    // Control: where nothing was kept, a journal begins.
    std::fs::remove_dir_all(world.path("journal/blobs")).unwrap();
    assert!(world.boot(Death::NONE).await.is_ok());
}
