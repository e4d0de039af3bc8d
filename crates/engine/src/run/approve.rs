//! Stage five: a person's answer, bound to one proposal, and the gate's clearance that follows.
//!
//! Invariant 5. The digest is compared with what the journal has, and the world with what the
//! digest was made from: a base branch that moved voids the proposal.

use cofferdam_contract::approval::Approval;
use cofferdam_contract::check::Verdict;
use cofferdam_contract::digest::{Digest, ObjectId, hex};
use cofferdam_contract::events::{
    ApprovalEvent, BaseCommit, Clearance, End, EndState, EventBody, Rechecking, Rejection, RunEvent,
};
use cofferdam_contract::ids::{ApprovalId, PrincipalId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::escape_bytes;
use cofferdam_policy::authority::Act;
use cofferdam_repository::Rebased;

use super::Turned;
use crate::command::Command;
use crate::live::Live;
use crate::state::{Proposed, State};

/// Whether the command asks for what is done already.
pub(super) fn is_repeat(state: &State, command: &Command) -> bool {
    match (command, state) {
        (Command::Approve { digest }, state) => {
            let applied = matches!(
                state,
                State::Applying(_) | State::Applied(_) | State::Merging(_) | State::Merged(_)
            );
            applied && state.proposed().is_some_and(|phase| phase.checked.digest == *digest)
        }
        (Command::Merge { into }, State::Merged(phase)) => {
            let merged = phase.merged.as_ref().map(|effect| effect.intent.branch());
            merged == Some(&super::apply::full_name(into))
        }
        (Command::Rollback {}, State::RolledBack(_)) => true,
        (Command::Resume {}, state) => !state.is_busy(),
        (Command::Reject { .. }, State::Ended(end)) => end.state == EndState::Rejected,
        (Command::Stop {}, State::Ended(end)) => end.state == EndState::Cancelled,
        _ => false,
    }
}

/// Records an approval of exactly this proposal.
pub(super) async fn approve(
    live: &Live,
    phase: &Proposed,
    digest: &Digest,
    by: &PrincipalId,
) -> Result<Turned, Problem> {
    if *digest != phase.checked.digest {
        let detail = format!("the proposal is {}, not {digest}", phase.checked.digest);
        return Err(Problem::new(Code::StaleDigest, detail));
    }
    let now = live.parts.clock.now();
    let stands = |approval: &Approval| approval.expires_at_utc.is_none_or(|until| now < until);
    // One that has expired can be given again.
    if phase.approvals.iter().any(|approval| approval.approver == *by && stands(approval)) {
        return Ok(Turned::Already);
    }
    let act = match phase.checked.report.verdict {
        Verdict::Escalate => Act::ApproveEscalated,
        Verdict::Pass | Verdict::Fail => Act::Approve,
    };
    live.authorise(act, by)?;
    refuse_moved_base(live, phase).await?;
    let approval = Approval {
        contract_version: "1.0.0".to_owned(),
        approval_id: ApprovalId::generate(&*live.parts.clock, &*live.parts.entropy),
        run: live.run.clone(),
        approver: by.clone(),
        authority: "local".to_owned(),
        action: "apply".to_owned(),
        resource: super::apply::run_branch(live),
        proposal: *digest,
        approved_at_utc: now,
        expires_at_utc: Some(now.plus_ms(live.policy.tables().approval.expires_after_ms)),
        conditions: vec![],
    };
    Ok(Turned::Events(vec![EventBody::Approval(ApprovalEvent::Granted(approval))]))
}

async fn refuse_moved_base(live: &Live, phase: &Proposed) -> Result<(), Problem> {
    let Some(branch) = phase.ground.base.branch.clone() else {
        return Ok(());
    };
    let name = branch.clone();
    let tip = live.with_repository(move |repository| repository.branch(&name)).await?;
    if tip.as_ref() == Some(&phase.ground.base.commit) {
        return Ok(());
    }
    let now = tip.map_or_else(|| "gone".to_owned(), |tip| format!("at {}", tip.short()));
    let detail = format!("{} was at {} and is {now}", branch, phase.ground.base.commit.short());
    Err(Problem::new(Code::BaseMoved, detail))
}

/// Signs the clearance once there are enough approvals; until then the run rests.
pub(super) fn clear(live: &Live, phase: &Proposed) -> Result<Option<Vec<EventBody>>, Problem> {
    let now = live.parts.clock.now();
    let approved = live.policy.is_approved(&phase.approvals, &live.actor, now);
    if !approved || phase.approvals.is_empty() || phase.checked.report.verdict == Verdict::Fail {
        return Ok(None);
    }
    let approvals: Vec<_> = phase.approvals.iter().map(|it| it.approval_id.clone()).collect();
    let verdict = phase.checked.report.verdict;
    let proposal = phase.checked.digest;
    let signer = live.parts.journal.signer();
    let signature = signer.sign(&Clearance::statement(&proposal, verdict, &approvals));
    let clearance = Clearance {
        proposal,
        verdict,
        approvals,
        at: now,
        key_id: signer.key_id().to_owned(),
        signature: hex(&signature),
    };
    Ok(Some(vec![EventBody::Approval(ApprovalEvent::Cleared(clearance))]))
}

/// Ends the run without a branch.
pub(super) fn reject(phase: &Proposed, reason: &str, by: &PrincipalId) -> Turned {
    let rejection = Rejection {
        rejecter: by.clone(),
        proposal: phase.checked.digest,
        reason: escape_bytes(reason.as_bytes()),
    };
    let end = End { state: EndState::Rejected, problem: None };
    Turned::Events(vec![
        EventBody::Approval(ApprovalEvent::Rejected(rejection)),
        EventBody::Run(RunEvent::Ended(end)),
    ])
}

/// Moves the result onto the base branch as it is now, and checks once more.
pub(super) async fn recheck(live: &Live, phase: &Proposed) -> Result<Turned, Problem> {
    let base = current_base(live, &phase.ground.base).await?;
    let moved = base.commit != phase.ground.base.commit;
    let tree = phase.worked.tree.clone();
    let tree = if moved { rebase(live, tree, &phase.ground.base, &base).await? } else { tree };
    let reason = if moved { "the base branch moved" } else { "a person asked for it" };
    let event = Rechecking { base, tree, reason: reason.to_owned() };
    Ok(Turned::Events(vec![EventBody::Run(RunEvent::Rechecking(event))]))
}

async fn current_base(live: &Live, base: &BaseCommit) -> Result<BaseCommit, Problem> {
    let Some(branch) = base.branch.clone() else {
        return Ok(base.clone());
    };
    live.with_repository(move |repository| repository.resolve(&branch)).await
}

async fn rebase(
    live: &Live,
    tree: ObjectId,
    old: &BaseCommit,
    new: &BaseCommit,
) -> Result<ObjectId, Problem> {
    let (old, new, run) = (old.clone(), new.clone(), live.run.clone());
    let rebased = live
        .with_broker(move |broker, repository| {
            let _writing = broker.writing()?;
            let rebased = broker.rebase(repository, &tree, &old.tree, &new.tree)?;
            if let Rebased::Clean(tree) = &rebased {
                broker.keep(repository, tree, &format!("{run}-recheck-{tree}"))?;
            }
            Ok(rebased)
        })
        .await?;
    match rebased {
        Rebased::Clean(tree) => Ok(tree),
        Rebased::Conflict(paths) => {
            let named: Vec<_> = paths.iter().take(5).map(ToString::to_string).collect();
            let detail =
                format!("the change conflicts with the moved base in {}", named.join(", "));
            Err(Problem::new(Code::MergeConflict, detail))
        }
    }
}
