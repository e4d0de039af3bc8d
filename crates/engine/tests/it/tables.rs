//! Decision tables as snapshots: what may be commanded in which state.

use cofferdam_contract::budget::Budget;
use cofferdam_contract::check::{GateReport, RiskLevel, Verdict};
use cofferdam_contract::digest::{Digest, ObjectId};
use cofferdam_contract::events::{
    Admitted, BaseCommit, Checked, EffectIntent, EffectOutcome, End, EndState, Worked,
};
use cofferdam_contract::ids::OperationKey;
use cofferdam_contract::proposal::Proposal;
use cofferdam_contract::request::{RepositorySource, TaskType};
use cofferdam_engine::CommandKind;
use cofferdam_engine::state::{
    Applied, Applying, Checking, Effect, Ground, Moving, Proposed, State, Working,
};

fn every_state() -> Vec<State> {
    let id: ObjectId = "a".repeat(40).parse().unwrap();
    let digest = Digest::of(b"x");
    let base = BaseCommit { commit: id.clone(), tree: id.clone(), branch: None };
    let admitted = Admitted {
        request: digest,
        policy: digest,
        policy_version: digest,
        task_type: TaskType::Assist,
        driver: "command".to_owned(),
        repository: RepositorySource::Path("/r".to_owned()),
        base: base.clone(),
        budget: Budget { wall_ms: 1, tool_ms: 1, attempts: 1 },
        tenant: None,
        data_classification: None,
        retention: None,
    };
    let ground = Ground { admitted: admitted.clone(), base };
    let worked =
        Worked { tree: id.clone(), left_out: vec![], exit_code: None, events_incomplete: false };
    let proposal = Proposal {
        base: id.clone(),
        tree: id.clone(),
        patch: digest,
        policy_version: digest,
        checks: digest,
    };
    let report = GateReport { checks: vec![], verdict: Verdict::Pass, risk_level: RiskLevel::Low };
    let checked = Checked { digest: proposal.digest(), proposal, report, files_changed: 1 };
    let (grounds, works) = (ground.clone(), worked.clone());
    let proposed = Proposed { ground: grounds, worked: works, checked, approvals: vec![] };
    let key = OperationKey("k".to_owned());
    let branch = "refs/heads/cofferdam/x".to_owned();
    let intent = EffectIntent::Rollback { key: key.clone(), branch, expected: id, restore: None };
    let outcome = EffectOutcome { key, before: None, after: None };
    let effect = Effect { intent: intent.clone(), outcome };
    let applied = Applied { proposed: proposed.clone(), applied: effect, merged: None };
    let moving = Moving { from: applied.clone(), intent: intent.clone() };
    vec![
        State::Preparing(admitted),
        State::Working(Working { ground: ground.clone(), checkpoint: None }),
        State::Checking(Checking { ground, worked }),
        State::AwaitingApproval(proposed.clone()),
        State::Applying(Applying { proposed: proposed.clone(), intent: None }),
        State::Applying(Applying { proposed, intent: Some(intent) }),
        State::Applied(applied.clone()),
        State::Merging(moving.clone()),
        State::Merged(applied.clone()),
        State::RollingBack(moving),
        State::RolledBack(applied),
        State::Ended(End { state: EndState::Failed, problem: None }),
    ]
}

#[test]
fn state_by_command() {
    let mut table = format!("{:<18}", "state");
    for kind in CommandKind::ALL {
        table.push_str(&format!("{:>9}", kind.name()));
    }
    for state in every_state() {
        table.push_str(&format!("\n{:<18}", state.name()));
        for kind in CommandKind::ALL {
            table.push_str(&format!("{:>9}", if state.allows(kind) { "yes" } else { "-" }));
        }
    }
    insta::assert_snapshot!(table);
}
