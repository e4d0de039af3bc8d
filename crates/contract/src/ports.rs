//! The ports that a leaf may call, and the two that make it repeatable.
//!
//! `wiring.rs` in the binary connects them. A leaf that needs more than these asks for it as an
//! argument.

use std::future::Future;
use std::pin::Pin;

use crate::budget::BudgetKind;
use crate::decision::PolicyDecision;
use crate::events::EventBody;
use crate::ids::ReservationId;
use crate::problem::Problem;
use crate::time::UtcTime;

/// A future that a port returns.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'a>>;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> UtcTime;
}

/// Gives randomness.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with unpredictable bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// Asks policy. A look-up: it never waits.
pub trait Decide: Send + Sync {
    /// The answer to `scope` (such as `call:exec`) for `inputs` (names, not payloads).
    fn decide(&self, scope: &str, inputs: &[String]) -> PolicyDecision;
}

/// Writes events of one run.
pub trait Record: Send + Sync {
    /// Appends and waits until the events survive the death of this process. Its failure stops
    /// the caller's next effect.
    fn commit(&self, events: Vec<EventBody>) -> PortFuture<'_, ()>;

    /// Appends when there is time: never blocks, is bounded, and counts what it had to drop, which
    /// makes the run's events incomplete.
    fn observe(&self, event: EventBody);
}

/// Takes from a run's budget.
pub trait Spend: Send + Sync {
    /// Reserves `amount`, or refuses with `budget_exhausted`.
    fn reserve(&self, kind: BudgetKind, amount: u64) -> PortFuture<'_, ReservationId>;

    /// Replaces a reservation by what was really spent, which may not exceed it.
    fn settle(&self, reservation: ReservationId, spent: u64) -> PortFuture<'_, ()>;
}
