//! The engine's sides of the ports that calls go through: policy's answers, the record that is
//! also watched, and the book of calls.

use std::sync::Arc;

use cofferdam_contract::budget::BudgetKind;
use cofferdam_contract::decision::PolicyDecision;
use cofferdam_contract::events::{
    CallEvent, CallOutcome, DenialEvent, EventBody, GrantEvent, Started,
};
use cofferdam_contract::ids::{DecisionId, RequestId, ReservationId, RunId};
use cofferdam_contract::ports::{Decide, PortFuture, Record, Spend};
use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::Retention;
use cofferdam_journal::{Blob, Ledger, NewEvent, Page, Recorder, Redactor};
use cofferdam_policy::Policy;
use cofferdam_tools::{Book, Closing, Opening, SetAside};

use crate::causes::Causes;
use crate::parts::{Observer, Parts};

/// Answers by the run's compiled policy.
pub(crate) struct PolicyDoor {
    pub(crate) parts: Arc<Parts>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) request: RequestId,
    pub(crate) run: RunId,
}

impl Decide for PolicyDoor {
    fn decide(&self, scope: &str, inputs: &[String]) -> PolicyDecision {
        let ruling = self.policy.decide(scope, inputs);
        PolicyDecision {
            contract_version: "1.0.0".to_owned(),
            policy_id: self.policy.tables().profile.clone(),
            policy_version: self.policy.version(),
            decision_id: DecisionId::generate(&*self.parts.clock, &*self.parts.entropy),
            request_id: self.request.clone(),
            evaluated_at_utc: self.parts.clock.now(),
            scope: scope.to_owned(),
            inputs: inputs.to_vec(),
            decision: ruling.decision,
            reason_codes: vec![ruling.reason_code.to_owned(), ruling.rule],
            required_approvals: 0,
            approval_authority: None,
            expires_at_utc: None,
            review_path: format!("cofferdam events {}", self.run),
        }
    }
}

/// Writes to the journal, and shows what it writes to whoever watches.
pub(crate) struct WatchedRecord {
    pub(crate) recorder: Recorder,
    pub(crate) causes: Arc<Causes>,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) observer: Arc<dyn Observer>,
}

/// Takes secrets out of the names that a session or its caller chose. All other text of theirs
/// goes into blobs, which are redacted as a whole.
fn redacted(redactor: &Redactor, mut event: EventBody) -> EventBody {
    let clean = |text: &mut String| *text = redactor.redact_text(text).into_inner();
    match &mut event {
        EventBody::Denial(DenialEvent::Recorded(denial)) => {
            clean(&mut denial.target);
            denial.process.exe.iter_mut().chain(&mut denial.process.argv0).for_each(clean);
        }
        EventBody::Grant(GrantEvent::Requested(asked)) => clean(&mut asked.reason),
        EventBody::Grant(GrantEvent::Refused(refused)) => {
            clean(&mut refused.kind);
            clean(&mut refused.detail);
        }
        EventBody::Call(CallEvent::Started(started)) => {
            started.executable.iter_mut().for_each(clean);
        }
        EventBody::Call(CallEvent::Decided(decided)) => {
            decided.decision.inputs.iter_mut().for_each(clean);
        }
        _ => {}
    }
    event
}

/// What whoever watches is told of, once it is recorded.
struct Told(Vec<EventBody>);

impl Told {
    fn of(events: &[NewEvent]) -> Self {
        Self(events.iter().map(|event| event.body.clone()).collect())
    }

    fn to(&self, observer: &dyn Observer) {
        self.0.iter().for_each(|event| observer.event(event));
    }
}

impl Record for WatchedRecord {
    fn commit(&self, events: Vec<EventBody>) -> PortFuture<'_, ()> {
        let enter = |event| self.causes.event(redacted(&self.redactor, event));
        let events: Vec<_> = events.into_iter().map(enter).collect();
        let told = Told::of(&events);
        let committed = self.recorder.commit_caused(events);
        Box::pin(async move {
            committed.await?;
            told.to(&*self.observer);
            Ok(())
        })
    }

    fn observe(&self, event: EventBody) {
        let event = self.causes.event(redacted(&self.redactor, event));
        self.observer.event(&event.body);
        self.recorder.observe_caused(event);
    }
}

/// Takes from the budget on behalf of the run itself.
pub(crate) struct SpendDoor {
    pub(crate) ledger: Ledger,
    pub(crate) causes: Arc<Causes>,
}

impl SpendDoor {
    fn page(&self) -> Page {
        Page { cause: self.causes.moved(), ..Page::default() }
    }
}

impl Spend for SpendDoor {
    fn reserve(&self, kind: BudgetKind, amount: u64) -> PortFuture<'_, ReservationId> {
        Box::pin(async move {
            self.ledger.take_for(kind, amount, self.page()).await.map_err(Problem::from)
        })
    }

    fn settle(&self, reservation: ReservationId, spent: u64) -> PortFuture<'_, ()> {
        Box::pin(async move {
            self.ledger.close_with(reservation, spent, self.page()).await.map_err(Problem::from)
        })
    }
}

/// Writes calls into the journal: their text as blobs, redacted, and what they spend.
pub(crate) struct BookDoor {
    pub(crate) parts: Arc<Parts>,
    pub(crate) ledger: Ledger,
    pub(crate) causes: Arc<Causes>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) retention: Retention,
}

impl BookDoor {
    fn blob(&self, bytes: &[u8]) -> Blob {
        Blob::new(self.parts.redactor.redact(bytes), self.retention)
    }

    fn page(&self, event: CallEvent, blobs: Vec<Blob>) -> Page {
        let event = self.causes.event(redacted(&self.parts.redactor, EventBody::Call(event)));
        Page { cause: event.id.clone(), events: vec![event], blobs }
    }
}

impl Book for BookDoor {
    fn open(&self, opening: Opening) -> PortFuture<'_, SetAside> {
        Box::pin(async move {
            let Opening { call, session, tool, executable, input, tool_ms } = opening;
            let blob = self.blob(&input);
            let input = blob.digest();
            let started = Started { call, session, tool, executable, input };
            let cause = self.causes.session(&started.session);
            let page = Page { cause, ..self.page(CallEvent::Started(started), vec![blob]) };
            let told = Told::of(&page.events);
            let reserved = self.ledger.take_up_to(BudgetKind::ToolMs, tool_ms, page).await;
            let (reservation, tool_ms) = reserved.map_err(Problem::from)?;
            told.to(&*self.observer);
            Ok(SetAside { reservation, tool_ms })
        })
    }

    fn close<'a>(&'a self, closing: Closing<'a>) -> PortFuture<'a, CallOutcome> {
        Box::pin(async move {
            let Closing { reservation, tool_ms, mut outcome, stdout, stderr } = closing;
            let mut blobs = vec![];
            for (text, kept) in [(stdout, &mut outcome.stdout), (stderr, &mut outcome.stderr)] {
                if !text.is_empty() {
                    let blob = self.blob(text);
                    *kept = Some(blob.digest());
                    blobs.push(blob);
                }
            }
            let page = self.page(CallEvent::Ended(outcome.clone()), blobs);
            let told = Told::of(&page.events);
            self.ledger.close_with(reservation, tool_ms, page).await.map_err(Problem::from)?;
            told.to(&*self.observer);
            Ok(outcome)
        })
    }
}
