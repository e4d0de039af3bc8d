//! What a run may spend, and what it has spent.
//!
//! Invariant 7: an amount is reserved before it is spent and settled after; an unsettled
//! reservation counts as spent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that is spent.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum BudgetKind {
    /// From admission to the freeze of the result, less pauses.
    WallMs,
    /// Sum over calls.
    ToolMs,
    /// Rounds of work: one, and one more for each revision.
    Attempts,
}

/// Upper bounds for one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Budget {
    /// See [`BudgetKind::WallMs`].
    pub wall_ms: u64,
    /// See [`BudgetKind::ToolMs`].
    pub tool_ms: u64,
    /// See [`BudgetKind::Attempts`].
    pub attempts: u64,
}

impl Budget {
    /// The bound of one kind.
    pub fn of(&self, kind: BudgetKind) -> u64 {
        match kind {
            BudgetKind::WallMs => self.wall_ms,
            BudgetKind::ToolMs => self.tool_ms,
            BudgetKind::Attempts => self.attempts,
        }
    }

    /// The smaller of each.
    pub fn narrowest(self, other: Self) -> Self {
        Self {
            wall_ms: self.wall_ms.min(other.wall_ms),
            tool_ms: self.tool_ms.min(other.tool_ms),
            attempts: self.attempts.min(other.attempts),
        }
    }
}

/// What a run has spent, reservations that were never settled included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Wall time.
    pub wall_ms: u64,
    /// Tool time.
    pub tool_ms: u64,
    /// Attempts.
    pub attempts: u64,
}

impl Spent {
    /// Adds what a settled reservation has cost.
    pub fn add(&mut self, settled: &crate::events::Settled) {
        let sum = match settled.kind {
            BudgetKind::WallMs => &mut self.wall_ms,
            BudgetKind::ToolMs => &mut self.tool_ms,
            BudgetKind::Attempts => &mut self.attempts,
        };
        *sum = sum.saturating_add(settled.spent);
    }
}
