//! What led to what: every event but the first names the event that caused it.
//!
//! What moves a run is caused by what moved it before: a branch by its intent, the intent by the
//! clearance, the clearance by the approval, the approval by the proposal. What happens to a
//! session, a call or a budget is caused by its beginning. Must never know what any of it means.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cofferdam_contract::denial::DenialSource;
use cofferdam_contract::events::{
    CallEvent, DenialEvent, Event, EventBody, RunEvent, SessionEvent,
};
use cofferdam_contract::ids::{CallId, EventId, PrincipalId, SessionId};
use cofferdam_journal::NewEvent;

use crate::parts::Parts;

/// The causes of a held run's next events.
pub(crate) struct Causes {
    parts: Arc<Parts>,
    actor: PrincipalId,
    known: Mutex<Known>,
}

/// Beginnings of what is not over. Calls and sessions of a former holder are over.
#[derive(Default)]
struct Known {
    moved: Option<EventId>,
    sessions: HashMap<SessionId, EventId>,
    calls: HashMap<CallId, EventId>,
}

impl Causes {
    /// For whoever holds the run with these events.
    pub(crate) fn after(parts: Arc<Parts>, actor: PrincipalId, events: &[Event]) -> Self {
        let moved = events.iter().rev().find(|event| moves(&event.body));
        let known = Known { moved: moved.map(|event| event.id.clone()), ..Known::default() };
        Self { parts, actor, known: Mutex::new(known) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self) -> EventId {
        EventId::generate(&*self.parts.clock, &*self.parts.entropy)
    }

    /// What moved the run last.
    pub(crate) fn moved(&self) -> Option<EventId> {
        self.known().moved.clone()
    }

    /// What a call of this session is caused by.
    pub(crate) fn session(&self, session: &SessionId) -> Option<EventId> {
        let known = self.known();
        known.sessions.get(session).or(known.moved.as_ref()).cloned()
    }

    /// An event of a session, a call or a budget.
    pub(crate) fn event(&self, body: EventBody) -> NewEvent {
        let id = self.new_id();
        let cause = self.known().enter(&id, &body);
        NewEvent { id: Some(id), body, actor: self.actor.clone(), cause }
    }

    /// Events that move the run, one after the other. They count once they are appended.
    pub(crate) fn movements(&self, bodies: &[EventBody], actor: &PrincipalId) -> Vec<NewEvent> {
        let mut cause = self.moved();
        let mut movement = |body: &EventBody| {
            let id = self.new_id();
            let cause = cause.replace(id.clone());
            NewEvent { id: Some(id), body: body.clone(), actor: actor.clone(), cause }
        };
        bodies.iter().map(&mut movement).collect()
    }

    /// These are in the journal.
    pub(crate) fn appended(&self, events: &[(Option<EventId>, bool)]) {
        let last = events.iter().rev().find(|(_, moves)| *moves);
        if let Some((id, _)) = last {
            self.known().moved.clone_from(id);
        }
    }
}

impl Known {
    fn enter(&mut self, id: &EventId, body: &EventBody) -> Option<EventId> {
        let moved = self.moved.clone();
        match body {
            EventBody::Session(SessionEvent::Opened(opened)) => {
                self.sessions.insert(opened.session.clone(), id.clone());
                moved
            }
            EventBody::Session(SessionEvent::Closed(closed)) => {
                self.sessions.remove(&closed.session).or(moved)
            }
            EventBody::Call(CallEvent::Started(started)) => {
                self.calls.insert(started.call.clone(), id.clone());
                self.sessions.get(&started.session).cloned().or(moved)
            }
            EventBody::Call(CallEvent::Decided(decided)) => {
                self.calls.insert(decided.call.clone(), id.clone());
                moved
            }
            EventBody::Call(CallEvent::Ended(outcome)) => self.calls.remove(&outcome.call),
            EventBody::Denial(DenialEvent::Recorded(denial)) => {
                let call = denial.call.as_ref();
                // A call that policy refuses never ends.
                let begun = match denial.source {
                    DenialSource::ToolPolicy => call.and_then(|call| self.calls.remove(call)),
                    _ => call.and_then(|call| self.calls.get(call).cloned()),
                };
                begun.or_else(|| self.sessions.get(&denial.session).cloned()).or(moved)
            }
            _ => moved,
        }
    }
}

/// Whether later events can be caused by this one. A seal and a new holder lead to nothing.
pub(crate) fn moves(body: &EventBody) -> bool {
    match body {
        EventBody::Run(event) => !matches!(event, RunEvent::Attested(_) | RunEvent::Resumed(_)),
        EventBody::Approval(_) | EventBody::Effect(_) => true,
        _ => false,
    }
}
