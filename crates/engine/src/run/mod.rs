//! The request flow, in order, a file a stage, and the one loop that drives it.
//!
//! `admit → prepare → work → check → approve → apply → attest`. A stage takes its phase and
//! returns the next events; the loop appends, then applies. Recovery is this loop started from the
//! journal: there is no second path.

pub(crate) mod admit;
mod apply;
mod approve;
mod attest;
mod check;
mod prepare;
mod work;

use cofferdam_contract::events::{End, EndState, EventBody, RunEvent};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_policy::authority::Act;

use crate::breaker::Interrupt;
use crate::command::{Command, Given};
use crate::live::Live;
use crate::state::State;

/// Drives a run until it rests: until only a person can move it, or nothing can.
///
/// # Errors
/// Only what keeps the journal from being written or an effect from being known; everything else
/// becomes the run's own end.
pub(crate) async fn advance(live: &mut Live) -> Result<(), Problem> {
    loop {
        let events = match next(live).await {
            Ok(Some(events)) => events,
            Ok(None) => return Ok(()),
            Err(problem) => vec![ended(live, problem)?],
        };
        live.append(events).await?;
    }
}

async fn next(live: &Live) -> Result<Option<Vec<EventBody>>, Problem> {
    let state = live.state();
    if let (true, Some(interrupt)) = (state.may_end(), live.interrupt()) {
        return Err(interrupt.problem());
    }
    match state {
        State::Preparing(phase) => prepare::prepare(live, phase).await.map(Some),
        State::Working(phase) => work::work(live, phase).await.map(Some),
        State::Checking(phase) => check::check(live, phase).await.map(Some),
        State::AwaitingApproval(phase) => approve::clear(live, phase),
        State::Applying(phase) => apply::apply(live, phase).await.map(Some),
        State::Merging(phase) | State::RollingBack(phase) => {
            apply::carry_out(live, &phase.intent).await.map(Some)
        }
        State::Applied(_) | State::Merged(_) | State::RolledBack(_) | State::Ended(_) => {
            attest::attest(live).await
        }
    }
}

/// What a stage's problem means for the run.
///
/// # Errors
/// The problem itself, where the run cannot end by it.
fn ended(live: &Live, problem: Problem) -> Result<EventBody, Problem> {
    let lost = matches!(problem.code, Code::StorageFailed | Code::JournalCorrupt | Code::RunHeld);
    if lost || problem.effect_unknown || !live.state().may_end() {
        return Err(problem);
    }
    let state = match live.interrupt() {
        Some(Interrupt::Stop) => EndState::Cancelled,
        Some(Interrupt::Budget) => EndState::OutOfBudget,
        Some(Interrupt::Deadline) => EndState::Expired,
        None => match problem.code {
            Code::BudgetExhausted => EndState::OutOfBudget,
            Code::DeadlinePassed => EndState::Expired,
            _ => EndState::Failed,
        },
    };
    let problem = live.interrupt().map_or(problem, |interrupt| interrupt.problem());
    Ok(EventBody::Run(RunEvent::Ended(End { state, problem: Some(problem) })))
}

/// What a command turns into.
pub(crate) enum Turned {
    /// These events; then the loop goes on.
    Events(Vec<EventBody>),
    /// It was done before: a repeat is no error.
    Already,
}

/// Turns a person's command into events, or refuses it before anything is written.
///
/// # Errors
/// `not_in_state`, `stale_digest`, `base_moved`, `merge_conflict` and the like.
pub(crate) async fn turn(live: &Live, given: &Given) -> Result<Turned, Problem> {
    let state = live.state();
    if let Some(act) = act(&given.command) {
        live.authorise(act, &given.by)?;
    }
    if approve::is_repeat(state, &given.command) {
        return Ok(Turned::Already);
    }
    let kind = given.command.kind();
    if !state.allows(kind) {
        let detail = format!("{} means nothing while the run is {}", kind.name(), state.name());
        return Err(Problem::new(Code::NotInState, detail));
    }
    match (&given.command, state) {
        (Command::Approve { digest }, State::AwaitingApproval(phase)) => {
            approve::approve(live, phase, digest, &given.by).await
        }
        (Command::Reject { reason }, State::AwaitingApproval(phase)) => {
            Ok(approve::reject(phase, reason, &given.by))
        }
        (Command::Recheck {}, State::AwaitingApproval(phase)) => {
            approve::recheck(live, phase).await
        }
        (Command::Merge { into }, State::Applied(phase)) => {
            apply::merge(live, phase, into, &given.by).await
        }
        (Command::Rollback {}, State::Applied(phase) | State::Merged(phase)) => {
            apply::rollback(live, phase).await
        }
        (Command::Stop {}, _) => Ok(Turned::Events(vec![stopped()])),
        (Command::Resume {}, _) => Ok(Turned::Events(vec![])),
        (_, state) => Err(Problem::new(
            Code::NotInState,
            format!("{} means nothing while the run is {}", kind.name(), state.name()),
        )),
    }
}

/// What the authority is asked before anything else. For an approval it depends on the verdict, so
/// that is asked with the proposal at hand.
fn act(command: &Command) -> Option<Act> {
    match command {
        Command::Approve { .. } => None,
        Command::Reject { .. } => Some(Act::Reject),
        Command::Recheck {} => Some(Act::Recheck),
        Command::Resume {} => Some(Act::Resume),
        Command::Stop {} => Some(Act::Stop),
        Command::Merge { .. } => Some(Act::Merge),
        Command::Rollback {} => Some(Act::Rollback),
        Command::Grant { .. } => Some(Act::Grant),
        Command::Revoke { .. } => Some(Act::Revoke),
    }
}

fn stopped() -> EventBody {
    let problem = Some(Interrupt::Stop.problem());
    EventBody::Run(RunEvent::Ended(End { state: EndState::Cancelled, problem }))
}
