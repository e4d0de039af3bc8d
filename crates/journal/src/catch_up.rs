//! What the log has and the database lacks goes into the database: in order, once, and before
//! anything is appended or read there.
//!
//! Anybody may do it, whoever holds the run: the records are numbered by the chain, and one that
//! the database has already is compared with it and passed over. What else a record changes
//! follows from its events.

use std::sync::Arc;

use cofferdam_contract::chain;
use cofferdam_contract::events::{BudgetEvent, EventBody};
use cofferdam_contract::ids::RunId;
use cofferdam_contract::time::UtcTime;
use sqlx::Row as _;

use crate::append::{Durability, Stored, Tail};
use crate::blobs::{self, Kept};
use crate::error::JournalError;
use crate::held::{End, Held, Lacking};
use crate::ledger;
use crate::log::{self, Record};
use crate::store::{from_db, link, to_db};
use crate::upcast::read_event;
use crate::writer::{Tx, Work};

/// Takes over what the database lacks of `run`; `moves` if whoever asks is about to move its chain.
pub(crate) async fn catch_up(
    tx: &mut Tx<'_>,
    run: &RunId,
    moves: bool,
) -> Result<(), JournalError> {
    let held = tx.holds.find(run);
    if let Some(held) = held.as_ref().filter(|_| moves) {
        held.moves();
    }
    let Lacking { path, from, to, cleared } = tx.holds.lacking(run);
    if to == Some(from) {
        return Ok(());
    }
    let found = log::read(&path, from).map_err(|error| JournalError::file("read", &path, error))?;
    if to.is_some_and(|to| found.end < to) {
        return Err(corrupt(run, "what was committed cannot be read again"));
    }
    if found.records.is_empty() {
        return Ok(());
    }
    take(tx, run, &found).await?;
    if let Some(held) = held {
        tx.after.push(Box::new(move || held.took(cleared, found.end)));
    }
    Ok(())
}

fn corrupt(run: &RunId, what: &str) -> JournalError {
    JournalError::Corrupt(format!("the log of run {run}: {what}"))
}

async fn take(tx: &mut Tx<'_>, run: &RunId, found: &log::Found) -> Result<(), JournalError> {
    let mut next = Tail::read(tx, run).await?.chain.next;
    let (had, lacking): (Vec<_>, Vec<_>) =
        found.records.iter().partition(|record| record.next() <= next);
    if let Some(record) = had.last() {
        check_had(tx, run, record).await?;
    }
    for record in lacking {
        if record.first > next && !found.same_boot {
            // What came before was lost with the power, which a commit does not survive.
            return Ok(());
        }
        if record.first != next {
            return Err(corrupt(run, "it does not go on where the database ends"));
        }
        enter(tx, run, record).await?;
        next = record.next();
    }
    Ok(())
}

/// That the database has the same as a record that it has.
async fn check_had(tx: &mut Tx<'_>, run: &RunId, record: &Record) -> Result<(), JournalError> {
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT link FROM events WHERE run = ? AND sequence = ?")
            .bind(run.as_str())
            .bind(to_db(record.next().saturating_sub(1)))
            .fetch_optional(&mut *tx.connection)
            .await?;
    match stored {
        Some(stored) if link(&stored)? == record.link => Ok(()),
        _ => Err(corrupt(run, "the database has other events in its place")),
    }
}

/// Enters the events of a record, and what follows from them.
async fn enter(tx: &mut Tx<'_>, run: &RunId, record: &Record) -> Result<(), JournalError> {
    let mut tail = Tail::read(tx, run).await?;
    for blob in &record.blobs {
        let kept =
            Kept { run, digest: &blob.digest, bytes: &blob.bytes, retention: blob.retention };
        blobs::enter(tx, &mut tail.script, &kept, Durability::Commit)?;
    }
    for bytes in &record.events {
        let event = read_event(bytes)?;
        if event.run != *run || event.sequence != tail.chain.next {
            return Err(corrupt(run, "an event is not of its place"));
        }
        let script = &mut tail.script;
        match &event.body {
            EventBody::Budget(BudgetEvent::Reserved(reserved)) => {
                ledger::enter_reserved(script, run, event.epoch, reserved)?;
            }
            EventBody::Budget(BudgetEvent::Settled(settled)) => {
                ledger::enter_settled(script, run, settled)?;
            }
            _ => {}
        }
        let link = chain::event_link(&tail.chain.link, tail.chain.next, bytes);
        (tail.chain.next, tail.chain.link) = (tail.chain.next + 1, link);
        tail.enter(&Stored { event, bytes: bytes.clone(), link })?;
    }
    if tail.chain.link != record.link {
        return Err(corrupt(run, "its events are not those of its chain"));
    }
    tail.store_at(tx, UtcTime::from_unix_ms(record.at_ms)).await
}

/// Nothing but taking over, for whoever is about to read.
pub(crate) struct CatchUp(pub(crate) RunId);

impl Work for CatchUp {
    type Output = ();

    const COUNTS: bool = false;

    fn of(&self) -> Option<(&RunId, bool)> {
        Some((&self.0, false))
    }

    async fn apply(&mut self, _tx: &mut Tx<'_>) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Tells a holder where its chain ends and what is left of its budget.
pub(crate) struct Look {
    pub(crate) held: Arc<Held>,
    pub(crate) epoch: u64,
}

impl Work for Look {
    type Output = ();

    const COUNTS: bool = false;

    fn of(&self) -> Option<(&RunId, bool)> {
        Some((self.held.run(), false))
    }

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), JournalError> {
        let moved = self.held.moved();
        let tail = Tail::read(tx, self.held.run()).await?;
        tail.check_epoch(self.epoch)?;
        let left = ledger::left(tx, self.held.run()).await?;
        let rows =
            sqlx::query("SELECT id, kind, amount FROM reservations WHERE run = ? AND epoch = ?")
                .bind(self.held.run().as_str())
                .bind(to_db(self.epoch))
                .fetch_all(&mut *tx.connection)
                .await?;
        let open = rows.iter().map(|row| {
            let id = crate::store::parse(row.try_get("id")?)?;
            let kind: String = row.try_get("kind")?;
            Ok((id, (ledger::kind_of(&kind)?, from_db(row.try_get("amount")?)?)))
        });
        let open = open.collect::<Result<_, JournalError>>()?;
        let (held, end) = (Arc::clone(&self.held), End { chain: tail.chain, left, open });
        tx.after.push(Box::new(move || held.know(moved, end)));
        Ok(())
    }
}
