//! Death on order: before or after the n-th write, for tests that crash between any two writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::JournalError;
use crate::writer::Moment;

/// Which write is the last one. Writes are counted from 0: every change of the database and every
/// commit to a log by this journal, appends and others alike. A refused write counts; what the
/// database takes over from a log was counted when it came there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultPlan {
    /// Only count.
    Never,
    /// The write does not happen.
    Before(u64),
    /// Half of the write happens. Only where it is one to the log: the database has no halves.
    Amid(u64),
    /// The write happens, and nobody is told.
    After(u64),
}

/// What the journal and its writer share about a plan.
#[derive(Clone)]
pub(crate) struct Countdown {
    plan: FaultPlan,
    done: Arc<AtomicU64>,
    dead: Arc<AtomicBool>,
}

impl Countdown {
    pub(crate) fn new(plan: FaultPlan) -> Self {
        Self { plan, done: Arc::default(), dead: Arc::default() }
    }

    /// How many writes have been begun.
    pub(crate) fn writes(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Refuses everything after the planned death.
    pub(crate) fn alive(&self) -> Result<(), JournalError> {
        if self.dead.load(Ordering::SeqCst) { Err(JournalError::Crashed) } else { Ok(()) }
    }

    /// The process died elsewhere.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    /// Whether the journal dies now.
    pub(crate) fn dies(&mut self, moment: Moment) -> bool {
        let dies = match (self.plan, moment) {
            (FaultPlan::Before(n), Moment::Before) => n == self.writes(),
            (FaultPlan::Amid(n), Moment::Amid) => n + 1 == self.writes(),
            (FaultPlan::After(n), Moment::After) => n + 1 == self.writes(),
            _ => false,
        };
        if dies {
            self.die();
        } else if moment == Moment::Before {
            self.done.fetch_add(1, Ordering::SeqCst);
        }
        dies
    }
}
