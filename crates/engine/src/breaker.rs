//! What ends a run before its stage is done: a person, the wall time, the deadline.
//!
//! Raised from timers and from the inbox's watcher while a stage may be anywhere, also between the
//! order for a session and the session. Must never decide what the interrupt means for the run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cofferdam_contract::problem::{Code, Problem};

use crate::sessions::OpenSession;

/// Why a run is to end before its stage is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupt {
    /// A person said so.
    Stop,
    /// The wall time is used up.
    Budget,
    /// The request's deadline passed.
    Deadline,
}

impl Interrupt {
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Stop => Problem::new(Code::Stopped, "the run was stopped"),
            Self::Budget => Problem::new(Code::BudgetExhausted, "the run's wall time is used up"),
            Self::Deadline => Problem::new(Code::DeadlinePassed, "the request's deadline passed"),
        }
    }
}

/// Raises an interrupt and ends what runs.
#[derive(Default)]
pub(crate) struct Breaker {
    raised: Mutex<Option<Interrupt>>,
    sessions: Mutex<Vec<Weak<dyn OpenSession>>>,
    /// Told when something is raised.
    pub(crate) bell: tokio::sync::Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Breaker {
    /// The first interrupt counts. Ends every session; blocks until they are gone.
    pub(crate) fn raise(&self, interrupt: Interrupt) {
        lock(&self.raised).get_or_insert(interrupt);
        // One permit stays, so that whoever looks away at this moment is told when it comes back.
        self.bell.notify_one();
        let sessions = lock(&self.sessions).clone();
        for session in sessions.iter().filter_map(Weak::upgrade) {
            session.end();
        }
    }

    pub(crate) fn raised(&self) -> Option<Interrupt> {
        *lock(&self.raised)
    }

    /// Makes an interrupt end this session too, also one that was raised while the session was being
    /// opened: whoever raised it may have looked before the session was here, and then the session
    /// is ended now. May block.
    pub(crate) fn guard(&self, session: &Arc<dyn OpenSession>) {
        let mut sessions = lock(&self.sessions);
        sessions.retain(|it| it.strong_count() > 0);
        sessions.push(Arc::downgrade(session));
        drop(sessions);
        if self.raised().is_some() {
            session.end();
        }
    }
}
