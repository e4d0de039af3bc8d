//! Stage six: effects on the repository. Intent, effect, outcome; then merge and rollback, which
//! are effects of their own under an authority of their own.
//!
//! Invariant 6. The intent is in the journal before the repository is touched and holds everything
//! that the effect depends on; the repository looks first and compares before it swaps, so that
//! doing an intent again after a crash changes nothing more.

use cofferdam_contract::events::{
    EffectEvent, EffectFailure, EffectIntent, End, EndState, EventBody, RunEvent,
};
use cofferdam_contract::ids::{OperationKey, PrincipalId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_repository::{MergeKind, MergePlan, MergeRequest};

use super::Turned;
use crate::live::Live;
use crate::state::{Applied, Applying, State};

/// The branch that a run writes.
pub(super) fn run_branch(live: &Live) -> String {
    format!("refs/heads/cofferdam/{}", live.run)
}

/// A branch's full name.
pub(super) fn full_name(branch: &str) -> String {
    match branch.strip_prefix("refs/") {
        Some(_) => branch.to_owned(),
        None => format!("refs/heads/{branch}"),
    }
}

/// Records the intent, then carries it out.
pub(super) async fn apply(live: &Live, phase: &Applying) -> Result<Vec<EventBody>, Problem> {
    if let Some(intent) = &phase.intent {
        return carry_out(live, intent).await;
    }
    let proposed = &phase.proposed;
    let branch = run_branch(live);
    let author =
        proposed.approvals.first().map_or_else(|| live.actor.clone(), |it| it.approver.clone());
    let intent = EffectIntent::Apply {
        key: OperationKey::new(&live.run, "apply", proposed.checked.digest.hex().as_str()),
        branch,
        base: proposed.ground.base.commit.clone(),
        tree: proposed.checked.proposal.tree.clone(),
        message: message(live, &proposed.checked.digest.to_string()),
        author,
        at: live.parts.clock.now(),
    };
    Ok(vec![EventBody::Effect(EffectEvent::Intended(intent))])
}

/// The commit's message. The task is foreign text: one escaped line of bounded length, so that it
/// cannot forge a trailer, and without secrets, since it goes to where others can read it.
fn message(live: &Live, proposal: &str) -> String {
    let task = live.parts.redactor.redact_text(&live.request.task);
    let task = cofferdam_contract::text::escape_bytes(task.get().as_bytes());
    let subject: String = task.chars().take(72).collect();
    let subject =
        if subject.trim().is_empty() { "apply a governed change" } else { subject.trim() };
    let driver = live.request.driver.name();
    format!(
        "{subject}\n\nCofferdam-Run: {}\nCofferdam-Proposal: {proposal}\nAssisted-by: {driver}\n",
        live.run
    )
}

/// Does what an intent says, whether for the first time or again.
pub(super) async fn carry_out(
    live: &Live,
    intent: &EffectIntent,
) -> Result<Vec<EventBody>, Problem> {
    let key = intent.key().clone();
    let done = intent.clone();
    match live.with_repository(move |repository| repository.carry_out(&done)).await {
        Ok(carried) => Ok(vec![EventBody::Effect(EffectEvent::Completed(carried.outcome))]),
        Err(problem) if problem.effect_unknown || problem.code.outcome() == internal() => {
            Err(problem)
        }
        Err(problem) => {
            let failure = EffectFailure { key, problem: problem.clone() };
            let mut events = vec![EventBody::Effect(EffectEvent::Failed(failure))];
            if matches!(live.state(), State::Applying(_)) {
                let end = End { state: EndState::Failed, problem: Some(problem) };
                events.push(EventBody::Run(RunEvent::Ended(end)));
            }
            Ok(events)
        }
    }
}

fn internal() -> cofferdam_contract::problem::Outcome {
    cofferdam_contract::problem::Outcome::Internal
}

/// Plans the merge of an applied run into a branch, and records the intent.
pub(super) async fn merge(
    live: &Live,
    phase: &Applied,
    into: &str,
    by: &PrincipalId,
) -> Result<Turned, Problem> {
    let branch = full_name(into);
    let ruling = live.policy.decide_merge(&branch);
    if !ruling.is_allowed() {
        let detail = format!("{branch} is protected by {}", ruling.rule);
        return Err(Problem::new(Code::BranchProtected, detail));
    }
    let commit = phase.applied.written()?;
    let message =
        format!("merge {} into {into}\n\nCofferdam-Run: {}\n", run_branch(live), live.run);
    let (author, at) = (by.clone(), live.parts.clock.now());
    let request = MergeRequest { into: branch.clone(), commit, message, author, at };
    let label = format!("{}-merge", live.run);
    let plan = live
        .with_broker(move |broker, repository| {
            let _writing = broker.writing()?;
            let plan = broker.plan_merge(repository, &request)?;
            if plan.kind == MergeKind::Merge {
                broker.keep(repository, &plan.commit, &label)?;
            }
            Ok(plan)
        })
        .await?;
    let MergePlan { expected, commit, .. } = plan;
    let key = OperationKey::new(&live.run, "merge", &format!("{branch}@{expected}"));
    let intent = EffectIntent::Merge { key, branch, expected, commit };
    Ok(Turned::Events(vec![EventBody::Effect(EffectEvent::Intended(intent))]))
}

/// Records the intent to take back the latest effect: the merge if there was one, else the branch.
pub(super) async fn rollback(live: &Live, phase: &Applied) -> Result<Turned, Problem> {
    let effect = phase.latest();
    let (branch, expected) = (effect.intent.branch().to_owned(), effect.written()?);
    let asked = (branch.clone(), expected.clone());
    let base = phase.proposed.ground.base.branch.clone();
    live.with_repository(move |repository| {
        repository.may_roll_back(&asked.0, &asked.1, base.as_deref())
    })
    .await?;
    let restore = effect.outcome.before.clone();
    let key = OperationKey::new(&live.run, "rollback", &branch);
    let intent = EffectIntent::Rollback { key, branch, expected, restore };
    Ok(Turned::Events(vec![EventBody::Effect(EffectEvent::Intended(intent))]))
}
