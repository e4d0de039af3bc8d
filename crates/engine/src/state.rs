//! The state machine of a run, and the only place that moves it.
//!
//! ```text
//!  run.admitted      run.prepared     run.worked       run.checked
//!      │                 │                │                │
//!      ▼                 ▼                ▼                ▼
//!  preparing ──────► working ───────► checking ────► awaiting_approval
//!                                        ▲                │      │
//!                       run.rechecking ──┴────────────────┘      │ approval.cleared
//!                                                                ▼
//!        rolled_back ◄── rolling_back ◄── applied ◄────────── applying
//!                             ▲              │  effect.completed
//!                             │              │ effect.intended(merge)
//!                             │              ▼
//!                             └── merged ◄── merging
//!
//!  run.ended, from every state up to applying:
//!      refused │ failed │ cancelled │ out_of_budget │ expired │ interrupted │ rejected
//!      │ unchanged │ closed
//!  effect.failed: applying → ended(failed); merging → applied; rolling_back → where it came from
//! ```
//!
//! Each phase is a type that holds what is known in it. A `State` is built by [`State::apply`]
//! alone, from events alone; live things (sessions, locks) are never in it. Must do no I/O.

use cofferdam_contract::approval::Approval;
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::events::{
    Admitted, ApprovalEvent, BaseCommit, Checked, EffectEvent, EffectIntent, EffectOutcome, End,
    EndState, EventBody, RunEvent, Worked,
};
use cofferdam_contract::problem::{Code, Problem};

use crate::command::CommandKind;

/// What is known once the base is there.
#[derive(Clone, PartialEq, Debug)]
pub struct Ground {
    /// The admission.
    pub admitted: Admitted,
    /// The base; moved by a recheck.
    pub base: BaseCommit,
}

/// A session works, or is about to.
#[derive(Clone, PartialEq, Debug)]
pub struct Working {
    /// Admission and base.
    pub ground: Ground,
    /// The last kept state, from which a lost session is opened again.
    pub checkpoint: Option<ObjectId>,
}

/// The result is frozen and is being checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Checking {
    /// Admission and base.
    pub ground: Ground,
    /// The result.
    pub worked: Worked,
}

/// A proposal waits for a person.
#[derive(Clone, PartialEq, Debug)]
pub struct Proposed {
    /// Admission and base.
    pub ground: Ground,
    /// The result.
    pub worked: Worked,
    /// The gate's answer and the proposal.
    pub checked: Checked,
    /// Approvals of this very proposal.
    pub approvals: Vec<Approval>,
}

/// The proposal is cleared; the branch is about to be written.
#[derive(Clone, PartialEq, Debug)]
pub struct Applying {
    /// What was proposed.
    pub proposed: Proposed,
    /// The intent, once it is recorded.
    pub intent: Option<EffectIntent>,
}

/// The branch is written.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied {
    /// What was proposed.
    pub proposed: Proposed,
    /// What was written.
    pub applied: Effect,
    /// What was merged, if it was.
    pub merged: Option<Effect>,
}

impl Applied {
    /// The latest effect: the merge if there was one, else the branch.
    pub fn latest(&self) -> &Effect {
        self.merged.as_ref().unwrap_or(&self.applied)
    }
}

/// An effect that happened.
#[derive(Clone, PartialEq, Debug)]
pub struct Effect {
    /// Before.
    pub intent: EffectIntent,
    /// After.
    pub outcome: EffectOutcome,
}

impl Effect {
    /// The commit that was written.
    ///
    /// # Errors
    /// `journal_corrupt` where the record lacks it.
    pub fn written(&self) -> Result<ObjectId, Problem> {
        let commit = self.outcome.after.clone();
        commit
            .ok_or_else(|| Problem::new(Code::JournalCorrupt, "the written commit is not recorded"))
    }
}

/// A further effect on an applied run is under way.
#[derive(Clone, PartialEq, Debug)]
pub struct Moving {
    /// Where it started from.
    pub from: Applied,
    /// What is being done.
    pub intent: EffectIntent,
}

/// Where a run is.
#[derive(Clone, PartialEq, Debug)]
pub enum State {
    /// Admitted; the base is being prepared.
    Preparing(Admitted),
    /// See [`Working`].
    Working(Working),
    /// See [`Checking`].
    Checking(Checking),
    /// See [`Proposed`].
    AwaitingApproval(Proposed),
    /// See [`Applying`].
    Applying(Applying),
    /// See [`Applied`].
    Applied(Applied),
    /// A merge is under way.
    Merging(Moving),
    /// Applied and merged.
    Merged(Applied),
    /// A rollback is under way.
    RollingBack(Moving),
    /// What was applied or merged is taken back.
    RolledBack(Applied),
    /// Over without a branch.
    Ended(End),
}

/// An event that cannot follow what came before it: a damaged journal or a defect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {event} cannot follow in state {state}")]
pub struct IllegalTransition {
    /// The state.
    pub state: &'static str,
    /// The event.
    pub event: &'static str,
}

impl State {
    /// The state of a run whose whole journal is `events`.
    ///
    /// # Errors
    /// [`IllegalTransition`] if they do not begin with an admission or do not follow each other.
    pub fn fold<'a>(
        events: impl IntoIterator<Item = &'a EventBody>,
    ) -> Result<Self, IllegalTransition> {
        let mut state = None;
        for event in events {
            state = Some(match state {
                Some(state) => Self::apply(state, event)?,
                None => Self::begin(event)?,
            });
        }
        state.ok_or(IllegalTransition { state: "none", event: "none" })
    }

    /// The state after the first event.
    ///
    /// # Errors
    /// [`IllegalTransition`] if it is neither an admission nor a refusal.
    pub fn begin(event: &EventBody) -> Result<Self, IllegalTransition> {
        match event {
            EventBody::Run(RunEvent::Admitted(admitted)) => Ok(Self::Preparing(admitted.clone())),
            EventBody::Run(RunEvent::Ended(end)) if end.state == EndState::Refused => {
                Ok(Self::Ended(end.clone()))
            }
            other => Err(IllegalTransition { state: "none", event: other.kind() }),
        }
    }

    /// The state after `event`. Events about sessions, calls, denials, budgets and grants move nothing.
    ///
    /// # Errors
    /// [`IllegalTransition`].
    pub fn apply(self, event: &EventBody) -> Result<Self, IllegalTransition> {
        match event {
            EventBody::Run(event) => self.after_run(event),
            EventBody::Approval(event) => self.after_approval(event),
            EventBody::Effect(event) => self.after_effect(event),
            EventBody::Session(_)
            | EventBody::Call(_)
            | EventBody::Denial(_)
            | EventBody::Budget(_)
            | EventBody::Grant(_) => Ok(self),
        }
    }

    fn after_run(self, event: &RunEvent) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Preparing(admitted), RunEvent::Prepared(_)) => {
                let ground = Ground { base: admitted.base.clone(), admitted };
                Ok(Self::Working(Working { ground, checkpoint: None }))
            }
            (Self::Working(phase), RunEvent::Checkpointed(kept)) => {
                Ok(Self::Working(Working { checkpoint: Some(kept.tree.clone()), ..phase }))
            }
            (Self::Working(phase), RunEvent::Worked(worked)) => {
                Ok(Self::Checking(Checking { ground: phase.ground, worked: worked.clone() }))
            }
            (Self::Checking(phase), RunEvent::Checked(checked)) => {
                Ok(Self::AwaitingApproval(Proposed {
                    ground: phase.ground,
                    worked: phase.worked,
                    checked: checked.clone(),
                    approvals: vec![],
                }))
            }
            (Self::AwaitingApproval(phase), RunEvent::Rechecking(moved)) => {
                let ground = Ground { base: moved.base.clone(), ..phase.ground };
                let worked = Worked { tree: moved.tree.clone(), ..phase.worked };
                Ok(Self::Checking(Checking { ground, worked }))
            }
            (state, RunEvent::Attested(_) | RunEvent::Resumed(_)) => Ok(state),
            (state, RunEvent::Ended(end)) if state.may_end() => Ok(Self::Ended(end.clone())),
            (state, event) => state.illegal(event.kind()),
        }
    }

    fn after_approval(self, event: &ApprovalEvent) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::AwaitingApproval(mut phase), ApprovalEvent::Granted(approval))
                if approval.proposal == phase.checked.digest =>
            {
                phase.approvals.push(approval.clone());
                Ok(Self::AwaitingApproval(phase))
            }
            (Self::AwaitingApproval(proposed), ApprovalEvent::Cleared(clearance))
                if clearance.proposal == proposed.checked.digest =>
            {
                Ok(Self::Applying(Applying { proposed, intent: None }))
            }
            (Self::AwaitingApproval(phase), ApprovalEvent::Rejected(_)) => {
                Ok(Self::AwaitingApproval(phase))
            }
            (state, event) => state.illegal(event.kind()),
        }
    }

    fn after_effect(self, event: &EffectEvent) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Applying(phase), EffectEvent::Intended(intent)) if phase.intent.is_none() => {
                Ok(Self::Applying(Applying { intent: Some(intent.clone()), ..phase }))
            }
            (
                Self::Applying(Applying { proposed, intent: Some(intent) }),
                EffectEvent::Completed(outcome),
            ) if *intent.key() == outcome.key => {
                let applied = Effect { intent, outcome: outcome.clone() };
                Ok(Self::Applied(Applied { proposed, applied, merged: None }))
            }
            (Self::Applying(phase), EffectEvent::Failed(_)) => {
                Ok(Self::Applying(Applying { intent: None, ..phase }))
            }
            (Self::Applied(from), EffectEvent::Intended(intent @ EffectIntent::Merge { .. })) => {
                Ok(Self::Merging(Moving { from, intent: intent.clone() }))
            }
            (
                Self::Applied(from) | Self::Merged(from),
                EffectEvent::Intended(intent @ EffectIntent::Rollback { .. }),
            ) => Ok(Self::RollingBack(Moving { from, intent: intent.clone() })),
            (Self::Merging(moving), EffectEvent::Completed(outcome))
                if *moving.intent.key() == outcome.key =>
            {
                let merged = Effect { intent: moving.intent, outcome: outcome.clone() };
                Ok(Self::Merged(Applied { merged: Some(merged), ..moving.from }))
            }
            (Self::RollingBack(moving), EffectEvent::Completed(outcome))
                if *moving.intent.key() == outcome.key =>
            {
                Ok(Self::RolledBack(moving.from))
            }
            (Self::Merging(moving) | Self::RollingBack(moving), EffectEvent::Failed(_)) => {
                Ok(match moving.from.merged {
                    Some(_) => Self::Merged(moving.from),
                    None => Self::Applied(moving.from),
                })
            }
            (state, event) => state.illegal(event.kind()),
        }
    }

    fn illegal(&self, event: &'static str) -> Result<Self, IllegalTransition> {
        Err(IllegalTransition { state: self.name(), event })
    }

    /// Whether the run can still end without a branch.
    pub fn may_end(&self) -> bool {
        match self {
            Self::Preparing(_)
            | Self::Working(_)
            | Self::Checking(_)
            | Self::AwaitingApproval(_) => true,
            Self::Applying(phase) => phase.intent.is_none(),
            _ => false,
        }
    }

    /// The state's name, as people and `--json` have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Preparing(_) => "preparing",
            Self::Working(_) => "working",
            Self::Checking(_) => "checking",
            Self::AwaitingApproval(_) => "awaiting_approval",
            Self::Applying(_) => "applying",
            Self::Applied(_) => "applied",
            Self::Merging(_) => "merging",
            Self::Merged(_) => "merged",
            Self::RollingBack(_) => "rolling_back",
            Self::RolledBack(_) => "rolled_back",
            Self::Ended(end) => end_name(end.state),
        }
    }

    /// Whether the run can go on without a person.
    pub fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::Preparing(_)
                | Self::Working(_)
                | Self::Checking(_)
                | Self::Applying(_)
                | Self::Merging(_)
                | Self::RollingBack(_)
        )
    }

    /// Whether evidence is made here: terminal states, and every state after an effect.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Applied(_) | Self::Merged(_) | Self::RolledBack(_) | Self::Ended(_))
    }

    /// Whether a command means something in this state. The table is a snapshot in the tests.
    pub fn allows(&self, command: CommandKind) -> bool {
        use CommandKind as C;
        match command {
            C::Approve => matches!(self, Self::AwaitingApproval(_)),
            C::Reject => matches!(self, Self::AwaitingApproval(_)),
            C::Recheck => matches!(self, Self::AwaitingApproval(_)),
            C::Resume => self.is_busy(),
            C::Stop => self.may_end(),
            C::Merge => matches!(self, Self::Applied(_)),
            C::Rollback => matches!(self, Self::Applied(_) | Self::Merged(_)),
            // They are for a session that works.
            C::Grant | C::Revoke => matches!(self, Self::Working(_)),
        }
    }

    /// The proposal's phase, in every state from the proposal on.
    pub fn proposed(&self) -> Option<&Proposed> {
        match self {
            Self::AwaitingApproval(phase) => Some(phase),
            Self::Applying(phase) => Some(&phase.proposed),
            Self::Applied(phase) | Self::Merged(phase) | Self::RolledBack(phase) => {
                Some(&phase.proposed)
            }
            Self::Merging(moving) | Self::RollingBack(moving) => Some(&moving.from.proposed),
            _ => None,
        }
    }
}

/// The name of a way to end.
pub fn end_name(state: EndState) -> &'static str {
    match state {
        EndState::Refused => "refused",
        EndState::Failed => "failed",
        EndState::Cancelled => "cancelled",
        EndState::OutOfBudget => "out_of_budget",
        EndState::Expired => "expired",
        EndState::Interrupted => "interrupted",
        EndState::Rejected => "rejected",
        EndState::Unchanged => "unchanged",
        EndState::Closed => "closed",
    }
}
