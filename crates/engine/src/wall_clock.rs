//! Wall time while it is being spent: reserved in slices, each before it begins, and the run's
//! sessions ended when there is no further slice.
//!
//! A slice that was never settled counts as spent. Slices are short, so that the death of a holder
//! costs the run a slice and not its whole budget.

use std::sync::Arc;
use std::time::Duration;

use cofferdam_contract::budget::BudgetKind;
use cofferdam_contract::ids::ReservationId;
use cofferdam_contract::ports::Spend;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::time::UtcTime;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::breaker::{Breaker, Interrupt};
use crate::live::Live;

/// Longest slice.
const SLICE_MS: u64 = 30_000;

/// Wall time that is being spent.
pub(crate) struct WallClock {
    slice: Arc<Mutex<Option<Slice>>>,
    timer: Timer,
}

/// What is set aside at this moment.
struct Slice {
    reservation: ReservationId,
    started: UtcTime,
    length_ms: u64,
}

/// Stops when it is dropped.
struct Timer(JoinHandle<()>);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl WallClock {
    /// Reserves the first slice and starts the clock.
    ///
    /// # Errors
    /// `budget_exhausted`.
    pub(crate) async fn start(live: &Live) -> Result<Self, Problem> {
        let spent_ms = live.spent().await?.wall_ms;
        let left_ms = live.policy.budget().wall_ms.saturating_sub(spent_ms);
        let started = live.parts.clock.now();
        let first = reserve(&*live.spend, left_ms.clamp(1, SLICE_MS), started).await?;
        let slice = Arc::new(Mutex::new(Some(first)));
        let ticking = Ticking {
            slice: Arc::clone(&slice),
            spend: Arc::clone(&live.spend),
            breaker: Arc::clone(&live.breaker),
            deadline_ms: live.request.deadline_utc.map(|deadline| deadline.ms_since(started)),
        };
        Ok(Self { slice, timer: Timer(tokio::spawn(ticking.tick(left_ms))) })
    }

    /// Stops the clock and settles.
    ///
    /// # Errors
    /// What the ledger says.
    pub(crate) async fn settle(self, live: &Live) -> Result<(), Problem> {
        drop(self.timer);
        let Some(slice) = self.slice.lock().await.take() else {
            return Ok(());
        };
        let spent_ms = live.parts.clock.now().ms_since(slice.started).min(slice.length_ms);
        live.spend.settle(slice.reservation, spent_ms).await
    }
}

async fn reserve(spend: &dyn Spend, length_ms: u64, started: UtcTime) -> Result<Slice, Problem> {
    let reservation = spend.reserve(BudgetKind::WallMs, length_ms).await?;
    Ok(Slice { reservation, started, length_ms })
}

struct Ticking {
    slice: Arc<Mutex<Option<Slice>>>,
    spend: Arc<dyn Spend>,
    breaker: Arc<Breaker>,
    deadline_ms: Option<u64>,
}

impl Ticking {
    /// Turns slice into slice until the budget, the deadline or the ledger says no.
    async fn tick(self, mut left_ms: u64) {
        let mut passed_ms = 0;
        let interrupt = loop {
            let length_ms = left_ms.clamp(1, SLICE_MS);
            let until_deadline_ms = self.deadline_ms.map(|at| at.saturating_sub(passed_ms));
            if let Some(rest_ms) = until_deadline_ms.filter(|rest_ms| *rest_ms <= length_ms) {
                tokio::time::sleep(Duration::from_millis(rest_ms)).await;
                break Interrupt::Deadline;
            }
            tokio::time::sleep(Duration::from_millis(length_ms)).await;
            (left_ms, passed_ms) = (left_ms.saturating_sub(length_ms), passed_ms + length_ms);
            if left_ms == 0 || self.next_slice(left_ms).await.is_err() {
                break Interrupt::Budget;
            }
        };
        let breaker = self.breaker;
        let _ = tokio::task::spawn_blocking(move || breaker.raise(interrupt)).await;
    }

    async fn next_slice(&self, left_ms: u64) -> Result<(), Problem> {
        let mut slice = self.slice.lock().await;
        let Some(over) = slice.take() else { return Ok(()) };
        let started = over.started.plus_ms(over.length_ms);
        self.spend.settle(over.reservation, over.length_ms).await?;
        *slice = Some(reserve(&*self.spend, left_ms.min(SLICE_MS), started).await?);
        Ok(())
    }
}
