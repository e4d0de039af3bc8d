//! Budgets: an amount is reserved before it is spent and settled after, each in the transaction
//! of its event.
//!
//! What the holder can decide by what it knows is decided there and committed by the log
//! ([`crate::held`]); the rest, and every refusal, here. A reservation belongs to the hold that made it. After a take-over nobody can settle it, so it
//! counts as spent in full: that is invariant 7 after a crash.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use cofferdam_contract::budget::{BudgetKind, Spent};
use cofferdam_contract::events::{BudgetEvent, EventBody, Exhausted, Reserved, Settled};
use cofferdam_contract::ids::{EventId, PrincipalId, ReservationId, RunId};
use cofferdam_contract::ports::{PortFuture, Spend};
use cofferdam_contract::problem::Problem;
use sqlx::sqlite::SqlitePool;

use crate::append::{Durability, NewEvent, Tail};
use crate::blobs::{Blob, Put};
use crate::error::JournalError;
use crate::held::{self, Held};
use crate::script::Script;
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

pub(crate) fn kind_of(name: &str) -> Result<BudgetKind, JournalError> {
    [BudgetKind::WallMs, BudgetKind::ToolMs, BudgetKind::Attempts]
        .into_iter()
        .find(|kind| self::name(*kind) == name)
        .ok_or_else(|| JournalError::Corrupt("a budget has an unknown kind".to_owned()))
}

/// What is written in the same transaction as a reservation or its settlement.
#[derive(Debug, Default)]
pub struct Page {
    /// Events, of whoever takes from the budget.
    pub events: Vec<NewEvent>,
    /// What led to the reservation or the settlement.
    pub cause: Option<EventId>,
    /// What they refer to.
    pub blobs: Vec<Blob>,
}

/// The budget of one run, for its holder.
#[derive(Clone)]
pub struct Ledger {
    pub(crate) writer: Writer,
    /// Where blobs are.
    pub(crate) blobs: Arc<Path>,
    pub(crate) account: Arc<Account>,
    pub(crate) held: Arc<Held>,
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
        self.take_for(kind, amount, Page::default()).await
    }

    /// Sets `amount` aside and writes what it is for: both, or with the refusal neither.
    ///
    /// # Errors
    /// As [`Ledger::take`].
    pub async fn take_for(
        &self,
        kind: BudgetKind,
        amount: u64,
        page: Page,
    ) -> Result<ReservationId, JournalError> {
        let taken = self.take_within(kind, amount..=amount, page).await?;
        Ok(taken.0)
    }

    /// Sets aside as much of `most` as there is, if there is anything, and writes what it is for.
    /// Also gives how much that is.
    ///
    /// # Errors
    /// As [`Ledger::take`].
    pub async fn take_up_to(
        &self,
        kind: BudgetKind,
        most: u64,
        page: Page,
    ) -> Result<(ReservationId, u64), JournalError> {
        self.take_within(kind, most.min(1)..=most, page).await
    }

    /// Sets aside as much within `bounds` as there is.
    async fn take_within(
        &self,
        kind: BudgetKind,
        bounds: RangeInclusive<u64>,
        page: Page,
    ) -> Result<(ReservationId, u64), JournalError> {
        let (held, by) = (&self.held, &*self.account);
        if let Some(done) =
            held::commit(&self.writer, held, by.epoch, || held.reserve(by, (kind, &bounds), &page))
                .await?
        {
            return Ok(done);
        }
        let page = self.begin(page).await?;
        let work = Reserve { account: Arc::clone(&self.account), kind, bounds, page };
        let exhausted = match self.writer.run(work, Durability::Commit).await? {
            Ok(taken) => return Ok(taken),
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
        self.close_with(reservation, spent, Page::default()).await
    }

    /// Writes what came of it and replaces the reservation: both or neither.
    ///
    /// # Errors
    /// As [`Ledger::close`].
    pub async fn close_with(
        &self,
        reservation: ReservationId,
        spent: u64,
        page: Page,
    ) -> Result<(), JournalError> {
        let (held, by) = (&self.held, &*self.account);
        let done = held::commit(&self.writer, held, by.epoch, || {
            held.settle(by, (&reservation, spent), &page)
        });
        if done.await?.is_some() {
            return Ok(());
        }
        let page = self.begin(page).await?;
        let work = Settle { account: Arc::clone(&self.account), reservation, spent, page };
        self.writer.run(work, Durability::Commit).await
    }

    /// Writes the large files of a page, which would keep the writer too long.
    async fn begin(&self, page: Page) -> Result<Begun, JournalError> {
        let mut puts = Vec::with_capacity(page.blobs.len());
        for blob in page.blobs {
            let put = Put::begin(&self.blobs, &self.account.run, blob, Durability::Commit).await?;
            puts.push(put);
        }
        Ok(Begun { events: page.events, cause: page.cause, puts })
    }
}

/// A page whose large files are written.
struct Begun {
    events: Vec<NewEvent>,
    cause: Option<EventId>,
    puts: Vec<Put>,
}

impl Begun {
    fn enter(&mut self, tx: &mut Tx<'_>, tail: &mut Tail) -> Result<(), JournalError> {
        for put in &self.puts {
            put.enter(tx, &mut tail.script)?;
        }
        let mut events = std::mem::take(&mut self.events).into_iter();
        events.try_for_each(|event| tail.append(tx, event).map(|_| ()))
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
    /// The end of the run's chain, if this account still holds the run.
    async fn tail(&self, tx: &mut Tx<'_>) -> Result<Tail, JournalError> {
        let tail = Tail::read(tx, &self.run).await?;
        tail.check_epoch(self.epoch)?;
        Ok(tail)
    }

    fn append(
        &self,
        tx: &mut Tx<'_>,
        tail: &mut Tail,
        (event, cause): (BudgetEvent, &Option<EventId>),
    ) -> Result<(), JournalError> {
        tail.append(tx, self.event(event, cause)).map(|_| ())
    }

    /// An event of whoever takes from the budget.
    pub(crate) fn event(&self, event: BudgetEvent, cause: &Option<EventId>) -> NewEvent {
        let (actor, cause) = (self.actor.clone(), cause.clone());
        NewEvent { id: None, body: EventBody::Budget(event), actor, cause }
    }
}

/// What is left of each budget of `run`. A run that was refused has none at all.
pub(crate) async fn left(
    tx: &mut Tx<'_>,
    run: &RunId,
) -> Result<HashMap<BudgetKind, u64>, JournalError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT kind, total - settled - (SELECT coalesce(sum(amount), 0) FROM reservations
                                         WHERE reservations.run = budgets.run
                                           AND reservations.kind = budgets.kind)
         FROM budgets WHERE run = ?",
    )
    .bind(run.as_str())
    .fetch_all(&mut *tx.connection)
    .await?;
    rows.into_iter().map(|(kind, left)| Ok((kind_of(&kind)?, from_db(left)?))).collect()
}

/// What a reservation changes besides its event.
pub(crate) fn enter_reserved(
    script: &mut Script,
    run: &RunId,
    epoch: u64,
    reserved: &Reserved,
) -> Result<(), JournalError> {
    script
        .add("INSERT INTO reservations VALUES (?, ?, ?, ?, ?)")
        .bind(reserved.reservation.as_str())?
        .bind(run.as_str())?
        .bind(name(reserved.kind))?
        .bind(to_db(epoch))?
        .bind(to_db(reserved.amount))?;
    Ok(())
}

/// What a settlement changes besides its event.
pub(crate) fn enter_settled(
    script: &mut Script,
    run: &RunId,
    settled: &Settled,
) -> Result<(), JournalError> {
    script
        .add("DELETE FROM reservations WHERE id = ?")
        .bind(settled.reservation.as_str())?
        .add("UPDATE budgets SET settled = settled + ? WHERE run = ? AND kind = ?")
        .bind(to_db(settled.spent))?
        .bind(run.as_str())?
        .bind(name(settled.kind))?;
    Ok(())
}

struct Reserve {
    account: Arc<Account>,
    kind: BudgetKind,
    /// With less than its start left it is a refusal.
    bounds: RangeInclusive<u64>,
    page: Begun,
}

impl Work for Reserve {
    /// A refusal is an outcome, not an error: its event must stay.
    type Output = Result<(ReservationId, u64), Exhausted>;

    fn of(&self) -> Option<(&RunId, bool)> {
        Some((&self.account.run, true))
    }

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, JournalError> {
        let Self { account, kind, bounds, page } = self;
        let kind = *kind;
        let left = left(tx, &account.run).await?.get(&kind).copied().unwrap_or(0);
        let mut tail = account.tail(tx).await?;
        if *bounds.start() > left {
            let exhausted = Exhausted { kind, asked: *bounds.end(), left };
            let event = BudgetEvent::Exhausted(exhausted.clone());
            account.append(tx, &mut tail, (event, &page.cause))?;
            tail.store(tx).await?;
            for put in &page.puts {
                put.withdraw(tx).await?;
            }
            return Ok(Err(exhausted));
        }
        let amount = left.min(*bounds.end());
        let reservation = ReservationId::generate(tx.clock, tx.entropy);
        let reserved = Reserved { reservation: reservation.clone(), kind, amount };
        enter_reserved(&mut tail.script, &account.run, account.epoch, &reserved)?;
        account.append(tx, &mut tail, (BudgetEvent::Reserved(reserved), &page.cause))?;
        page.enter(tx, &mut tail)?;
        tail.store(tx).await?;
        Ok(Ok((reservation, amount)))
    }
}

struct Settle {
    account: Arc<Account>,
    reservation: ReservationId,
    spent: u64,
    page: Begun,
}

impl Work for Settle {
    type Output = ();

    fn of(&self) -> Option<(&RunId, bool)> {
        Some((&self.account.run, true))
    }

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), JournalError> {
        let Self { account, reservation, spent, page } = self;
        let open: Option<(String, i64)> = sqlx::query_as(
            "SELECT kind, amount FROM reservations WHERE id = ? AND run = ? AND epoch = ?",
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
        let mut tail = account.tail(tx).await?;
        let settled = Settled { reservation: reservation.clone(), kind, spent };
        enter_settled(&mut tail.script, &account.run, &settled)?;
        page.enter(tx, &mut tail)?;
        account.append(tx, &mut tail, (BudgetEvent::Settled(settled), &page.cause))?;
        tail.store(tx).await
    }
}
