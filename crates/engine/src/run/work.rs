//! Stage three: the driver works in a session, until it is done; then the result is frozen as a
//! tree in the broker's store, and nothing later needs the session.

use cofferdam_agents::{Assignment, find};
use cofferdam_contract::budget::BudgetKind;
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::events::{Checkpointed, End, EndState, EventBody, RunEvent, Worked};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::{DriverRequest, PatchSource};
use cofferdam_tools::{CallRequest, Doors, ExecInput, call};

use crate::live::{Live, interrupted};
use crate::run_session::RunSession;
use crate::state::Working;
use crate::wall_clock::WallClock;

pub(super) async fn work(live: &Live, phase: &Working) -> Result<Vec<EventBody>, Problem> {
    let attempt = live.spend.reserve(BudgetKind::Attempts, 1).await?;
    live.spend.settle(attempt, 1).await?;
    let clock = WallClock::start(live).await?;
    let worked = in_own_session(live, phase).await;
    clock.settle(live).await?;
    Ok(vec![EventBody::Run(worked?)])
}

async fn in_own_session(live: &Live, phase: &Working) -> Result<RunEvent, Problem> {
    let session = RunSession::open_work(live, phase).await?;
    let worked = in_session(live, phase, &session).await;
    session.close(live).await?;
    worked
}

async fn in_session(
    live: &Live,
    phase: &Working,
    session: &RunSession,
) -> Result<RunEvent, Problem> {
    let doors = session.doors(live);
    if phase.checkpoint.is_none() {
        set_up(live, phase, session, &doors).await?;
    }
    if let Some(port) = &live.attach {
        port.serve(live, &phase.ground, session).await?;
        if let Some(interrupt) = live.interrupt() {
            return Err(interrupt.problem());
        }
        return Ok(RunEvent::Ended(End { state: EndState::Closed, problem: None }));
    }
    let exit_code = drive(live, phase, &doors).await?;
    session.freeze().await?;
    let result = session.result(live, &phase.ground.base.tree, "result").await?;
    Ok(RunEvent::Worked(Worked {
        tree: result.tree,
        left_out: result.left_out,
        exit_code,
        events_incomplete: live.events_incomplete(),
    }))
}

/// Runs the profile's setup and keeps what it made, so that a resumed run need not repeat it.
async fn set_up(
    live: &Live,
    phase: &Working,
    session: &RunSession,
    doors: &Doors,
) -> Result<(), Problem> {
    let Some((executable, args)) = live.policy.tables().session.setup.split_first() else {
        return Ok(());
    };
    let input =
        ExecInput { executable: executable.clone(), args: args.to_vec(), stdin: String::new() };
    let report = call(doors, CallRequest::new("exec", serde_json::json!(input))).await?;
    if report.outcome.exit_code != Some(0) {
        return Err(Problem::new(Code::DriverFailed, "the profile's setup command failed"));
    }
    let tree = checkpoint(live, phase, session).await?;
    let kept = Checkpointed { tree, label: "setup".to_owned() };
    live.record.commit(vec![EventBody::Run(RunEvent::Checkpointed(kept))]).await
}

async fn checkpoint(
    live: &Live,
    phase: &Working,
    session: &RunSession,
) -> Result<ObjectId, Problem> {
    session.freeze().await?;
    let result = session.result(live, &phase.ground.base.tree, "checkpoint").await;
    session.thaw().await?;
    Ok(result?.tree)
}

/// Lets the driver work. Its exit code is shown and not believed.
async fn drive(live: &Live, phase: &Working, doors: &Doors) -> Result<Option<i32>, Problem> {
    let request = &live.request.driver;
    let patch = patch(live, phase).await?;
    let driver = find(request.name())?;
    let report = driver.drive(Assignment { request, patch, doors }).await?;
    use cofferdam_contract::events::CallEnd;
    match report.outcome.end {
        CallEnd::TimedOut => Err(Problem::new(Code::TimedOut, "the driver's time ran out")),
        CallEnd::SessionLost => Err(interrupted()),
        _ => Ok(report.outcome.exit_code),
    }
}

async fn patch(live: &Live, phase: &Working) -> Result<Option<Vec<u8>>, Problem> {
    match &live.request.driver {
        DriverRequest::Patch { from: PatchSource::Text(text) } => {
            Ok(Some(text.clone().into_bytes()))
        }
        DriverRequest::Patch { from: PatchSource::Revision(revision) } => {
            let (revision, base) = (revision.clone(), phase.ground.base.tree.clone());
            let patch = live
                .with_broker(move |broker, repository| {
                    let made = repository.resolve(&revision)?;
                    broker.patch(repository, &base, &made.tree)
                })
                .await?;
            Ok(Some(patch))
        }
        _ => Ok(None),
    }
}
