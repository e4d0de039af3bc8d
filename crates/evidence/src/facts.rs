//! What the events of a run say, read once, in order, and believed only as far as they agree.
//!
//! Exporting and verifying both start here, so that what is signed and what is checked are the
//! same reading.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_contract::approval::Approval;
use cofferdam_contract::budget::Spent;
use cofferdam_contract::chain::{event_link, run_genesis};
use cofferdam_contract::check::Verdict;
use cofferdam_contract::digest::{Digest, ObjectId};
use cofferdam_contract::events::{
    Admitted, ApprovalEvent, BudgetEvent, Checked, Clearance, EffectEvent, EffectIntent, Event,
    EventBody, Opened, RunEvent, SessionEvent,
};
use cofferdam_contract::ids::{ApprovalId, OperationKey, RunId};
use cofferdam_contract::refusals::Refusals;
use cofferdam_contract::time::UtcTime;

/// The events of a run and what follows from them.
pub(crate) struct Facts {
    pub(crate) run: RunId,
    /// Each event with the digest of its stored bytes.
    pub(crate) events: Vec<(Event, Digest)>,
    /// The chain's link after the last event.
    pub(crate) head: Digest,
    pub(crate) admitted: Option<Admitted>,
    /// The last word of the gate.
    pub(crate) checked: Option<Checked>,
    pub(crate) approvals: Vec<Approval>,
    pub(crate) clearances: Vec<Clearance>,
    pub(crate) sessions: Vec<Opened>,
    pub(crate) refusals: Refusals,
    pub(crate) spent: Spent,
    /// Where each branch was left by the effects that were completed.
    pub(crate) branches: BTreeMap<String, Option<ObjectId>>,
    /// The kind of the last event of the run itself, such as `run.ended`.
    pub(crate) last: String,
    intents: BTreeMap<OperationKey, EffectIntent>,
    done: BTreeSet<OperationKey>,
    /// What the events say that cannot have been so.
    pub(crate) faults: Vec<Fault>,
}

/// A rule that the events break.
pub(crate) struct Fault {
    /// The check that it belongs to: `proposal`, `approval` or `effects`.
    pub(crate) check: &'static str,
    pub(crate) detail: String,
}

impl Facts {
    /// Reads stored events from the first on.
    ///
    /// # Errors
    /// In words, what is no event of this run or not in its place.
    pub(crate) fn read<'a>(
        run: Option<&RunId>,
        stored: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, String> {
        let mut facts: Option<Self> = None;
        for (bytes, sequence) in stored.zip(0_u64..) {
            let event: Event = serde_json::from_slice(bytes)
                .map_err(|error| format!("event {sequence} cannot be read: {error}"))?;
            let facts = facts.get_or_insert_with(|| Self::none(run.unwrap_or(&event.run).clone()));
            if event.run != facts.run {
                return Err(format!("event {sequence} belongs to another run"));
            }
            if event.sequence != sequence {
                return Err(format!("event {sequence} says that it is event {}", event.sequence));
            }
            facts.head = event_link(&facts.head, sequence, bytes);
            facts.take(&event);
            facts.events.push((event, Digest::of(bytes)));
        }
        facts.ok_or_else(|| "there are no events".to_owned())
    }

    fn none(run: RunId) -> Self {
        Self {
            head: run_genesis(&run),
            run,
            events: Vec::new(),
            admitted: None,
            checked: None,
            approvals: Vec::new(),
            clearances: Vec::new(),
            sessions: Vec::new(),
            refusals: Refusals::default(),
            spent: Spent::default(),
            branches: BTreeMap::new(),
            last: String::new(),
            intents: BTreeMap::new(),
            done: BTreeSet::new(),
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, check: &'static str, detail: impl Into<String>) {
        self.faults.push(Fault { check, detail: detail.into() });
    }

    fn take(&mut self, event: &Event) {
        self.refusals.add(&event.body);
        match &event.body {
            EventBody::Run(body) => self.take_run(body),
            EventBody::Session(SessionEvent::Opened(opened)) => self.sessions.push(opened.clone()),
            EventBody::Approval(body) => self.take_answer(body),
            EventBody::Effect(body) => self.take_effect(body, event.at),
            EventBody::Budget(BudgetEvent::Settled(settled)) => self.spent.add(settled),
            EventBody::Session(SessionEvent::Closed(_))
            | EventBody::Denial(_)
            | EventBody::Budget(_)
            | EventBody::Call(_)
            | EventBody::Grant(_) => {}
        }
    }

    fn take_run(&mut self, body: &RunEvent) {
        self.last = body.kind().to_owned();
        match body {
            RunEvent::Admitted(admitted) => self.admitted = Some(admitted.clone()),
            // What is checked again is another proposal; approvals of the old one are void.
            RunEvent::Rechecking(_) => self.checked = None,
            RunEvent::Checked(checked) => {
                if checked.digest != checked.proposal.digest() {
                    self.fault("proposal", "a proposal's digest is not that of its five parts");
                }
                if checked.proposal.checks != checked.report.digest() {
                    self.fault("proposal", "a proposal does not hold its own check results");
                }
                self.checked = Some(checked.clone());
            }
            _ => {}
        }
    }

    fn take_answer(&mut self, body: &ApprovalEvent) {
        let current = self.checked.as_ref().map(|checked| checked.digest);
        match body {
            ApprovalEvent::Granted(approval) => {
                if current != Some(approval.proposal) {
                    self.fault("approval", "an approval is not for the proposal of its time");
                }
                if approval.run != self.run {
                    self.fault("approval", "an approval is for another run");
                }
                self.approvals.push(approval.clone());
            }
            ApprovalEvent::Cleared(clearance) => {
                let given = |id: &ApprovalId| {
                    let is_it = |it: &&Approval| it.approval_id == *id;
                    self.approvals.iter().find(is_it).map(|it| it.proposal)
                };
                let rests = clearance.approvals.iter().all(|id| given(id) == current);
                if current != Some(clearance.proposal) || !rests {
                    self.fault("approval", "a clearance rests on what was not approved");
                }
                self.clearances.push(clearance.clone());
            }
            ApprovalEvent::Rejected(_) => {}
        }
    }

    fn take_effect(&mut self, body: &EffectEvent, at: UtcTime) {
        match body {
            EffectEvent::Intended(intent) => {
                if let EffectIntent::Apply { base, tree, .. } = intent {
                    self.check_apply(base, tree, at);
                }
                self.intents.insert(intent.key().clone(), intent.clone());
            }
            EffectEvent::Completed(outcome) => match self.intents.get(&outcome.key) {
                Some(intent) => {
                    let branch = intent.branch().to_owned();
                    if !self.done.insert(outcome.key.clone()) {
                        self.fault("effects", "an effect was completed twice");
                    }
                    self.branches.insert(branch, outcome.after.clone());
                }
                None => self.fault("effects", "an effect was completed that was never intended"),
            },
            EffectEvent::Failed(_) => {}
        }
    }

    /// A commit is made of the approved tree, on the approved base.
    fn check_apply(&mut self, base: &ObjectId, tree: &ObjectId, at: UtcTime) {
        let Some(checked) = self.checked.clone() else {
            return self.fault("effects", "something was applied that was never proposed");
        };
        if *tree != checked.proposal.tree {
            self.fault("effects", "the tree that was applied is not the one that was proposed");
        }
        if *base != checked.proposal.base {
            self.fault("effects", "the change was applied to another base than the proposed one");
        }
        if checked.report.verdict == Verdict::Fail {
            self.fault("effects", "something was applied that the gate had refused");
        }
        let approves = |approval: &Approval| {
            approval.proposal == checked.digest
                && approval.expires_at_utc.is_none_or(|until| at <= until)
        };
        if !self.approvals.iter().any(approves) {
            self.fault("effects", "something was applied that nobody had approved");
        }
    }
}
