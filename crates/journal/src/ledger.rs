//! Budgets: an amount is reserved before it is spent and settled after, each in the transaction
//! of its event.
//!
//! A reservation belongs to the hold that made it. After a take-over nobody can settle it, so it
//! counts as spent in full: that is invariant 7 after a crash.

use std::sync::Arc;

use cofferdam_contract::budget::{BudgetKind, Spent};
use cofferdam_contract::events::{BudgetEvent, EventBody, Exhausted, Reserved, Settled};
use cofferdam_contract::ids::{PrincipalId, ReservationId, RunId};
use cofferdam_contract::ports::{PortFuture, Spend};
use cofferdam_contract::problem::Problem;
use sqlx::sqlite::SqlitePool;

use crate::append::{Durability, NewEvent, Tail};
use crate::error::JournalError;
use crate::store::{from_db, to_db};
use crate::writer::{Tx, Work, Writer};

/// A budget kind as it is stored.
pub(crate) fn name(kind: BudgetKind) -> &'static str {
    match kind {
        BudgetKind::WallMs => "wall_ms",
        BudgetKind::ToolMs => "tool_ms",
        BudgetKind::Attempts => "attempts",
    }
}

fn kind_of(name: &str) -> Result<BudgetKind, JournalError> {
    [BudgetKind::WallMs, BudgetKind::ToolMs, BudgetKind::Attempts]
        .into_iter()
        .find(|kind| self::name(*kind) == name)
        .ok_or_else(|| JournalError::Corrupt("a budget has an unknown kind".to_owned()))
}

/// The budget of one run, for its holder.
#[derive(Clone)]
pub struct Ledger {
    pub(crate) writer: Writer,
    pub(crate) account: Arc<Account>,
}

/// Whose budget, and who takes from it.
pub(crate) struct Account {
    pub(crate) run: RunId,
    pub(crate) epoch: u64,
    pub(crate) actor: PrincipalId,
}

impl Ledger {
    /// Sets `amount` aside.
    ///
    /// # Errors
    /// [`JournalError::BudgetExhausted`], after the refusal was recorded as an event.
    pub async fn take(&self, kind: BudgetKind, amount: u64) -> Result<ReservationId, JournalError> {
        let work = Reserve { account: Arc::clone(&self.account), kind, amount };
        let exhausted = match self.writer.run(work, Durability::Commit).await? {
            Ok(reservation) => return Ok(reservation),
            Err(exhausted) => exhausted,
        };
        let Exhausted { kind, asked, left } = exhausted;
        Err(JournalError::BudgetExhausted { kind, asked, left })
    }

    /// Replaces a reservation by what was really spent.
    ///
    /// # Errors
    /// [`JournalError::OverSettled`] and [`JournalError::ReservationUnknown`]; the reservation is
    /// then as it was.
    pub async fn close(&self, reservation: ReservationId, spent: u64) -> Result<(), JournalError> {
        let work = Settle { account: Arc::clone(&self.account), reservation, spent };
        self.writer.run(work, Durability::Commit).await
    }
}

impl Spend for Ledger {
    fn reserve(&self, kind: BudgetKind, amount: u64) -> PortFuture<'_, ReservationId> {
        Box::pin(async move { self.take(kind, amount).await.map_err(Problem::from) })
    }

    fn settle(&self, reservation: ReservationId, spent: u64) -> PortFuture<'_, ()> {
        Box::pin(async move { self.close(reservation, spent).await.map_err(Problem::from) })
    }
}

/// What `run` has spent, open reservations included.
pub(crate) async fn spent(readers: &SqlitePool, run: &RunId) -> Result<Spent, JournalError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT kind, settled + (SELECT coalesce(sum(amount), 0) FROM reservations
                                 WHERE reservations.run = budgets.run
                                   AND reservations.kind = budgets.kind)
         FROM budgets WHERE run = ?",
    )
    .bind(run.as_str())
    .fetch_all(readers)
    .await?;
    let mut spent = Spent::default();
    for (kind, amount) in rows {
        let amount = from_db(amount)?;
        match kind_of(&kind)? {
            BudgetKind::WallMs => spent.wall_ms = amount,
            BudgetKind::ToolMs => spent.tool_ms = amount,
            BudgetKind::Attempts => spent.attempts = amount,
        }
    }
    Ok(spent)
}

impl Account {
    async fn record(&self, tx: &mut Tx<'_>, event: BudgetEvent) -> Result<(), JournalError> {
        let mut tail = Tail::read(tx, &self.run).await?;
        tail.check_epoch(self.epoch)?;
        let body = EventBody::Budget(event);
        tail.append(tx, NewEvent { body, actor: self.actor.clone(), cause: None }).await?;
        tail.store(tx).await
    }

    async fn left(&self, tx: &mut Tx<'_>, kind: BudgetKind) -> Result<u64, JournalError> {
        let left: Option<i64> = sqlx::query_scalar(
            "SELECT total - settled - (SELECT coalesce(sum(amount), 0) FROM reservations
                                       WHERE run = ?1 AND kind = ?2)
             FROM budgets WHERE run = ?1 AND kind = ?2",
        )
        .bind(self.run.as_str())
        .bind(name(kind))
        .fetch_optional(&mut *tx.connection)
        .await?;
        // A run that was refused has no budget at all.
        from_db(left.unwrap_or(0))
    }
}

struct Reserve {
    account: Arc<Account>,
    kind: BudgetKind,
    amount: u64,
}

impl Work for Reserve {
    /// A refusal is an outcome, not an error: its event must stay.
    type Output = Result<ReservationId, Exhausted>;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, JournalError> {
        let Self { account, kind, amount } = self;
        let left = account.left(tx, *kind).await?;
        if *amount > left {
            let exhausted = Exhausted { kind: *kind, asked: *amount, left };
            account.record(tx, BudgetEvent::Exhausted(exhausted.clone())).await?;
            return Ok(Err(exhausted));
        }
        let reservation = ReservationId::generate(tx.clock, tx.entropy);
        sqlx::query("INSERT INTO reservations VALUES (?, ?, ?, ?, ?)")
            .bind(reservation.as_str())
            .bind(account.run.as_str())
            .bind(name(*kind))
            .bind(to_db(account.epoch))
            .bind(to_db(*amount))
            .execute(&mut *tx.connection)
            .await?;
        let reserved = Reserved { reservation: reservation.clone(), kind: *kind, amount: *amount };
        account.record(tx, BudgetEvent::Reserved(reserved)).await?;
        Ok(Ok(reservation))
    }
}

struct Settle {
    account: Arc<Account>,
    reservation: ReservationId,
    spent: u64,
}

impl Work for Settle {
    type Output = ();

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), JournalError> {
        let Self { account, reservation, spent } = self;
        let open: Option<(String, i64)> = sqlx::query_as(
            "DELETE FROM reservations WHERE id = ? AND run = ? AND epoch = ? RETURNING kind, amount",
        )
        .bind(reservation.as_str())
        .bind(account.run.as_str())
        .bind(to_db(account.epoch))
        .fetch_optional(&mut *tx.connection)
        .await?;
        let (kind, reserved) =
            open.ok_or_else(|| JournalError::ReservationUnknown(reservation.clone()))?;
        let (kind, reserved, spent) = (kind_of(&kind)?, from_db(reserved)?, *spent);
        if spent > reserved {
            return Err(JournalError::OverSettled { spent, reserved });
        }
        sqlx::query("UPDATE budgets SET settled = settled + ? WHERE run = ? AND kind = ?")
            .bind(to_db(spent))
            .bind(account.run.as_str())
            .bind(name(kind))
            .execute(&mut *tx.connection)
            .await?;
        let settled = Settled { reservation: reservation.clone(), kind, spent };
        account.record(tx, BudgetEvent::Settled(settled)).await
    }
}
