//! What is taken from a run's budget.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::BudgetKind;
use crate::ids::ReservationId;

/// An amount was set aside.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reserved {
    /// The reservation.
    pub reservation: ReservationId,
    /// Of what.
    pub kind: BudgetKind,
    /// How much.
    pub amount: u64,
}

/// A reservation became what was really spent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// The reservation.
    pub reservation: ReservationId,
    /// Of what.
    pub kind: BudgetKind,
    /// How much.
    pub spent: u64,
}

/// A reservation was refused.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exhausted {
    /// Of what.
    pub kind: BudgetKind,
    /// How much was asked for.
    pub asked: u64,
    /// How much was left.
    pub left: u64,
}

events! {
    /// To the budget.
    BudgetEvent {
        /// See [`Reserved`].
        Reserved(Reserved) = "budget.reserved",
        /// See [`Settled`].
        Settled(Settled) = "budget.settled",
        /// See [`Exhausted`].
        Exhausted(Exhausted) = "budget.exhausted",
    }
}
