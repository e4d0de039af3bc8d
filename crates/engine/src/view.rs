//! What a reader gets to see of a run: made from its events, nothing else.
//!
//! These are the objects behind `--json`: stable, snake case, documented in the reference.

use cofferdam_contract::approval::Approval;
use cofferdam_contract::budget::Spent;
use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::check::{CheckResult, RiskLevel, Verdict};
use cofferdam_contract::digest::{Digest, ObjectId};
use cofferdam_contract::events::{
    ApprovalEvent, BudgetEvent, EffectEvent, EffectIntent, Event, EventBody, RunEvent, SessionEvent,
};
use cofferdam_contract::ids::{RunId, SessionId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::refusals::Refusals;
use cofferdam_contract::request::RepositorySource;
use cofferdam_contract::time::UtcTime;
use schemars::JsonSchema;
use serde::Serialize;

use crate::grants::GrantView;
use crate::state::State;

/// One run, as `run --json` and `show --json` print it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RunView {
    /// The run.
    pub run: RunId,
    /// Its state's name.
    pub state: String,
    /// The repository.
    pub repository: Option<RepositorySource>,
    /// The driver's name.
    pub driver: String,
    /// When it was admitted.
    pub created: UtcTime,
    /// Starting commit.
    pub base: Option<ObjectId>,
    /// Result tree.
    pub tree: Option<ObjectId>,
    /// The proposal's digest.
    pub digest: Option<Digest>,
    /// The branch that was written, in full.
    pub branch: Option<String>,
    /// The commit that was written.
    pub commit: Option<ObjectId>,
    /// Paths that differ.
    pub files_changed: u64,
    /// The gate's decision.
    pub verdict: Option<Verdict>,
    /// The gate's estimate.
    pub risk_level: Option<RiskLevel>,
    /// The checks.
    pub checks: Vec<CheckResult>,
    /// Approvals of the present proposal.
    pub approvals: Vec<Approval>,
    /// Refusals, coalesced ones counted each.
    pub denials: u64,
    /// Refusals that were noticed and that no record tells of.
    pub denials_lost: u64,
    /// What its sessions were given beyond policy, and what they asked for.
    pub grants: Vec<GrantView>,
    /// Refusals may be missing from the record.
    pub events_incomplete: bool,
    /// What it has spent.
    pub cost: Spent,
    /// Exit code of the driver, shown and not believed.
    pub driver_exit_code: Option<i32>,
    /// Paths that were left out of the result, with the reason.
    pub left_out: Vec<String>,
    /// How its last workspace was made: a copy where no overlay can be had.
    pub workspace: Option<WorkspaceKind>,
    /// The sessions it had.
    pub sessions: Vec<SessionId>,
    /// Why it ended, where it ended badly.
    pub problem: Option<Problem>,
}

impl RunView {
    /// The view of a run whose whole journal is `events`.
    ///
    /// # Errors
    /// `journal_corrupt` if the events do not follow each other.
    pub fn of(events: &[Event]) -> Result<Self, Problem> {
        let state = State::fold(events.iter().map(|event| &event.body))
            .map_err(|error| Problem::new(Code::JournalCorrupt, error.to_string()))?;
        let first = events
            .first()
            .ok_or_else(|| Problem::new(Code::RunUnknown, "the run has no events"))?;
        let mut view = Self::empty(first.run.clone(), first.at, state.name());
        for event in events {
            view.add(&event.body);
        }
        let refusals = Refusals::of(events.iter().map(|event| &event.body));
        view.denials = refusals.denials();
        view.denials_lost = refusals.lost();
        view.events_incomplete = refusals.is_incomplete();
        Ok(view)
    }

    fn empty(run: RunId, created: UtcTime, state: &str) -> Self {
        Self {
            run,
            state: state.to_owned(),
            repository: None,
            driver: String::new(),
            created,
            base: None,
            tree: None,
            digest: None,
            branch: None,
            commit: None,
            files_changed: 0,
            verdict: None,
            risk_level: None,
            checks: vec![],
            approvals: vec![],
            denials: 0,
            denials_lost: 0,
            grants: vec![],
            events_incomplete: false,
            cost: Spent::default(),
            driver_exit_code: None,
            left_out: vec![],
            workspace: None,
            sessions: vec![],
            problem: None,
        }
    }

    fn add(&mut self, body: &EventBody) {
        match body {
            EventBody::Run(event) => self.add_run(event),
            EventBody::Session(SessionEvent::Opened(opened)) => {
                self.sessions.push(opened.session.clone());
                self.workspace = Some(opened.report.workspace);
            }
            EventBody::Approval(ApprovalEvent::Granted(approval)) => {
                self.approvals.push(approval.clone());
            }
            EventBody::Effect(event) => self.add_effect(event),
            EventBody::Budget(BudgetEvent::Settled(settled)) => self.cost.add(settled),
            _ => {}
        }
    }

    fn add_run(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Admitted(admitted) => {
                self.repository = Some(admitted.repository.clone());
                self.driver.clone_from(&admitted.driver);
                self.base = Some(admitted.base.commit.clone());
            }
            RunEvent::Worked(worked) => {
                self.tree = Some(worked.tree.clone());
                self.driver_exit_code = worked.exit_code;
                self.left_out.clone_from(&worked.left_out);
            }
            RunEvent::Checked(checked) => {
                self.digest = Some(checked.digest);
                self.files_changed = checked.files_changed;
                self.verdict = Some(checked.report.verdict);
                self.risk_level = Some(checked.report.risk_level);
                self.checks.clone_from(&checked.report.checks);
            }
            RunEvent::Rechecking(moved) => {
                self.base = Some(moved.base.commit.clone());
                self.tree = Some(moved.tree.clone());
                self.digest = None;
                self.approvals.clear();
            }
            RunEvent::Ended(end) => self.problem.clone_from(&end.problem),
            RunEvent::Prepared(_)
            | RunEvent::Checkpointed(_)
            | RunEvent::Attested(_)
            | RunEvent::Resumed(_) => {}
        }
    }

    fn add_effect(&mut self, event: &EffectEvent) {
        match event {
            EffectEvent::Intended(EffectIntent::Apply { branch, .. }) => {
                self.branch = Some(branch.clone());
            }
            EffectEvent::Completed(outcome) if self.commit.is_none() => {
                self.commit.clone_from(&outcome.after);
            }
            _ => {}
        }
    }
}

/// Repository, base tree and result tree of a run, once it has a result.
pub(crate) fn trees(events: &[Event]) -> Option<(RepositorySource, ObjectId, ObjectId)> {
    let mut found: Option<(RepositorySource, ObjectId)> = None;
    let mut result = None;
    for event in events {
        match &event.body {
            EventBody::Run(RunEvent::Admitted(admitted)) => {
                found = Some((admitted.repository.clone(), admitted.base.tree.clone()));
            }
            EventBody::Run(RunEvent::Worked(worked)) => result = Some(worked.tree.clone()),
            EventBody::Run(RunEvent::Rechecking(moved)) => {
                result = Some(moved.tree.clone());
                found = found.map(|(source, _)| (source, moved.base.tree.clone()));
            }
            _ => {}
        }
    }
    let (source, base) = found?;
    Some((source, base, result?))
}
