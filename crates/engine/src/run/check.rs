//! Stage four: the gate looks at the frozen result. Needs no session of the work; what must run
//! runs in fresh sessions on base and on result.

use std::sync::Arc;

use cofferdam_contract::change::Changeset;
use cofferdam_contract::check::{CheckStatus, GateReport, Verdict};
use cofferdam_contract::digest::{Digest, ObjectId};
use cofferdam_contract::events::{Checked, End, EndState, EventBody, RunEvent};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::proposal::Proposal;
use cofferdam_gate::{GateInput, check as gate_check};

use crate::checking::{SessionRunner, StoreContents};
use crate::live::{Live, blocking};
use crate::state::Checking;

pub(super) async fn check(live: &Live, phase: &Checking) -> Result<Vec<EventBody>, Problem> {
    let (base, tree) = (phase.ground.base.tree.clone(), phase.worked.tree.clone());
    let changeset = live
        .with_broker(move |broker, repository| broker.changeset(repository, &base, &tree))
        .await?;
    if changeset.is_empty() {
        return Ok(vec![unchanged(phase)]);
    }
    let patch = patch_digest(live, phase).await?;
    let files_changed = changeset.files.len() as u64;
    let report = gate(live, phase, changeset).await?;
    if let (Some(interrupt), true) = (live.interrupt(), report.verdict == Verdict::Fail) {
        return Err(interrupt.problem());
    }
    let proposal = Proposal {
        base: phase.ground.base.commit.clone(),
        tree: phase.worked.tree.clone(),
        patch,
        policy_version: live.policy.version(),
        checks: report.digest(),
    };
    let failed = (report.verdict == Verdict::Fail).then(|| gate_failed(&report));
    let digest = proposal.digest();
    let mut events = vec![EventBody::Run(RunEvent::Checked(Checked {
        proposal,
        digest,
        report,
        files_changed,
    }))];
    events.extend(failed);
    Ok(events)
}

/// Nothing that git would keep differs: not a failure, unless the driver says it failed.
fn unchanged(phase: &Checking) -> EventBody {
    let failed = phase.worked.exit_code.is_some_and(|code| code != 0);
    let end = match failed {
        false => End { state: EndState::Unchanged, problem: None },
        true => {
            let code = phase.worked.exit_code.unwrap_or_default();
            let detail = format!("the driver exited with {code} and changed nothing");
            End { state: EndState::Failed, problem: Some(Problem::new(Code::DriverFailed, detail)) }
        }
    };
    EventBody::Run(RunEvent::Ended(end))
}

fn gate_failed(report: &GateReport) -> EventBody {
    let stood = report.checks.iter().filter(|check| {
        check.required && matches!(check.status, CheckStatus::Failed | CheckStatus::Errored)
    });
    let names: Vec<_> = stood.map(|check| check.name.as_str()).collect();
    let detail = format!("the gate does not let the change pass: {}", names.join(", "));
    let problem = Some(Problem::new(Code::GateFailed, detail));
    EventBody::Run(RunEvent::Ended(End { state: EndState::Failed, problem }))
}

async fn patch_digest(live: &Live, phase: &Checking) -> Result<Digest, Problem> {
    let (base, tree): (ObjectId, ObjectId) =
        (phase.ground.base.tree.clone(), phase.worked.tree.clone());
    live.with_broker(move |broker, repository| {
        broker.patch(repository, &base, &tree).map(|patch| Digest::of(&patch))
    })
    .await
}

async fn gate(live: &Live, phase: &Checking, changeset: Changeset) -> Result<GateReport, Problem> {
    let contents = StoreContents::new(live, &changeset)?;
    let (asks, runner) = SessionRunner::new(&phase.ground, &phase.worked.tree);
    let refusals = live.refusals().await?;
    let (policy, left_out) = (Arc::clone(&live.policy), phase.worked.left_out.clone());
    let (clock, observer) = (Arc::clone(&live.parts.clock), Arc::clone(&live.observer));
    let looking = blocking(move || {
        let input = GateInput {
            policy: &policy,
            changeset: &changeset,
            contents: &contents,
            runner: &asks,
            left_out: &left_out,
            refusals: &refusals,
            clock: &*clock,
        };
        Ok(gate_check(&input, &|result| observer.progress(&result.name, 1, 1)))
    });
    runner.serve(live, looking).await
}
