//! Appending events: the envelope, the chain, and the checks that keep two writers apart.

use cofferdam_contract::chain;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{EVENT_VERSION, Event, EventBody};
use cofferdam_contract::ids::{CommandId, EventId, PrincipalId, RunId};
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::time::UtcTime;
use cofferdam_contract::trace::Correlation;
use sqlx::sqlite::SqlitePool;

use crate::error::JournalError;
use crate::inbox;
use crate::runs::{self, Shown};
use crate::script::Script;
use crate::store::{from_db, link, to_db};
use crate::upcast::read_event;
use crate::writer::{Tx, Work};

/// Largest event that is stored. Session text belongs in blobs.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// What an acknowledged write survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The death of this process.
    Commit,
    /// Power loss as well: for effects, approvals and terminal states.
    Synced,
}

/// Which sequence the writer thinks is next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// This one: whatever else was appended since makes the append fail.
    Sequence(u64),
    /// Whichever it is: for events that do not depend on those before them. The epoch is checked
    /// all the same.
    Any,
}

impl From<u64> for Expected {
    fn from(sequence: u64) -> Self {
        Self::Sequence(sequence)
    }
}

/// An event that is to be appended; the journal adds sequence, time, epoch and correlation.
#[derive(Clone, PartialEq, Debug)]
pub struct NewEvent {
    /// Its id, where later events are to name it as their cause; else the journal makes one.
    pub id: Option<EventId>,
    /// What happened.
    pub body: EventBody,
    /// Who did it.
    pub actor: PrincipalId,
    /// The event that led to it.
    pub cause: Option<EventId>,
}

/// Events that are appended together, with what else must change at the same instant.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Batch {
    pub(crate) events: Vec<NewEvent>,
    pub(crate) shown: Option<Shown>,
    pub(crate) finished: Vec<(CommandId, String)>,
}

impl Batch {
    /// What lists show of the run from now on.
    #[must_use]
    pub fn shows(mut self, shown: Shown) -> Self {
        self.shown = Some(shown);
        self
    }

    /// The command that these events answer is done, with this outcome (JSON).
    #[must_use]
    pub fn finishes(mut self, command: CommandId, outcome: impl Into<String>) -> Self {
        self.finished.push((command, outcome.into()));
        self
    }
}

impl From<Vec<NewEvent>> for Batch {
    fn from(events: Vec<NewEvent>) -> Self {
        Self { events, ..Self::default() }
    }
}

/// One event as it is stored.
#[derive(Clone, PartialEq, Debug)]
pub struct Stored {
    /// The event.
    pub event: Event,
    /// The bytes that the chain covers.
    pub bytes: Vec<u8>,
    /// The chain's link at this event.
    pub link: Digest,
}

/// What an append has done.
#[derive(Clone, PartialEq, Debug)]
pub struct Appended {
    /// The events, with the ids and sequences they got.
    pub events: Vec<Stored>,
    /// The next free sequence.
    pub next: u64,
}

/// The events of `run` from `from` on, after the chain was followed from the event before.
pub(crate) async fn read_chain(
    readers: &SqlitePool,
    run: &RunId,
    from: u64,
) -> Result<Vec<Stored>, JournalError> {
    let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT sequence, link, bytes FROM events WHERE run = ? AND sequence >= ?
         ORDER BY sequence",
    )
    .bind(run.as_str())
    .bind(to_db(from.saturating_sub(1)))
    .fetch_all(readers)
    .await?;
    let mut rows = rows.into_iter();
    let mut previous = match from {
        0 => chain::run_genesis(run),
        _ => match rows.next() {
            Some((_, before, _)) => link(&before)?,
            None => return Ok(vec![]),
        },
    };
    (from..)
        .zip(rows)
        .map(|(sequence, (found, stored, bytes))| {
            let expected = chain::event_link(&previous, sequence, &bytes);
            if from_db(found)? != sequence || link(&stored)? != expected {
                let place = format!("the chain of run {run} breaks at sequence {sequence}");
                return Err(JournalError::Corrupt(place));
            }
            previous = expected;
            Ok(Stored { event: read_event(&bytes)?, bytes, link: expected })
        })
        .collect()
}

/// The end of a run's chain.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) run: RunId,
    pub(crate) epoch: u64,
    pub(crate) next: u64,
    pub(crate) link: Digest,
    pub(crate) correlation: Correlation,
}

impl Chain {
    /// Adds one event and moves the end.
    pub(crate) fn extend(
        &mut self,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
        new: NewEvent,
    ) -> Result<Stored, JournalError> {
        let event = Event {
            version: EVENT_VERSION,
            id: new.id.unwrap_or_else(|| EventId::generate(clock, entropy)),
            run: self.run.clone(),
            sequence: self.next,
            epoch: self.epoch,
            at: clock.now(),
            actor: new.actor,
            correlation: self.correlation.clone(),
            cause: new.cause,
            body: new.body,
        };
        let bytes = serde_json::to_vec(&event)
            .map_err(|error| JournalError::Corrupt(format!("an event has no json: {error}")))?;
        if bytes.len() > EVENT_BYTES_MAX {
            let bytes_max = EVENT_BYTES_MAX;
            return Err(JournalError::EventTooLarge { bytes: bytes.len(), bytes_max });
        }
        let link = chain::event_link(&self.link, self.next, &bytes);
        self.next += 1;
        self.link = link;
        Ok(Stored { event, bytes, link })
    }
}

/// The end of a run's chain, as the database has it inside one transaction.
pub(crate) struct Tail {
    pub(crate) chain: Chain,
    /// What is written when the tail is.
    pub(crate) script: Script,
}

impl Tail {
    pub(crate) async fn read(tx: &mut Tx<'_>, run: &RunId) -> Result<Self, JournalError> {
        let row: Option<(i64, i64, Vec<u8>, String)> =
            sqlx::query_as("SELECT epoch, next, link, correlation FROM runs WHERE run = ?")
                .bind(run.as_str())
                .fetch_optional(&mut *tx.connection)
                .await?;
        let (epoch, next, last, correlation) =
            row.ok_or_else(|| JournalError::RunUnknown(run.clone()))?;
        let chain = Chain {
            run: run.clone(),
            epoch: from_db(epoch)?,
            next: from_db(next)?,
            link: link(&last)?,
            correlation: serde_json::from_str(&correlation)
                .map_err(|error| JournalError::Corrupt(error.to_string()))?,
        };
        Ok(Self { chain, script: Script::default() })
    }

    pub(crate) fn check_epoch(&self, given: u64) -> Result<(), JournalError> {
        let Chain { run, epoch: current, .. } = &self.chain;
        if given == *current {
            return Ok(());
        }
        Err(JournalError::StaleEpoch { run: run.clone(), given, current: *current })
    }

    fn check_sequence(&self, expected: Expected) -> Result<(), JournalError> {
        let Chain { run, next: actual, .. } = &self.chain;
        match expected {
            Expected::Sequence(expected) if expected != *actual => {
                Err(JournalError::WrongSequence { run: run.clone(), expected, actual: *actual })
            }
            _ => Ok(()),
        }
    }

    /// Adds one event and moves the tail.
    pub(crate) fn append(
        &mut self,
        tx: &mut Tx<'_>,
        new: NewEvent,
    ) -> Result<Stored, JournalError> {
        let stored = self.chain.extend(tx.clock, tx.entropy, new)?;
        self.enter(&stored)?;
        Ok(stored)
    }

    /// Adds an event by which the chain has moved already.
    pub(crate) fn enter(&mut self, stored: &Stored) -> Result<(), JournalError> {
        self.script
            .add("INSERT INTO events (run, sequence, link, bytes) VALUES (?, ?, ?, ?)")
            .bind(self.chain.run.as_str())?
            .bind(to_db(stored.event.sequence))?
            .bind(stored.link.as_bytes().as_slice())?
            .bind(stored.bytes.as_slice())?;
        Ok(())
    }

    /// Writes the events and the moved tail.
    pub(crate) async fn store(self, tx: &mut Tx<'_>) -> Result<(), JournalError> {
        let now = tx.clock.now();
        self.store_at(tx, now).await
    }

    /// As [`Tail::store`], for what happened at `at`.
    pub(crate) async fn store_at(
        mut self,
        tx: &mut Tx<'_>,
        at: UtcTime,
    ) -> Result<(), JournalError> {
        self.script
            .add("UPDATE runs SET next = ?, link = ?, updated_ms = ? WHERE run = ?")
            .bind(to_db(self.chain.next))?
            .bind(self.chain.link.as_bytes().as_slice())?
            .bind(to_db(at.unix_ms()))?
            .bind(self.chain.run.as_str())?;
        self.script.run(tx).await
    }
}

/// See [`crate::Journal::append`].
pub(crate) struct Append {
    pub(crate) run: RunId,
    pub(crate) epoch: u64,
    pub(crate) expected: Expected,
    pub(crate) batch: Batch,
}

impl Work for Append {
    type Output = Appended;

    fn of(&self) -> Option<(&RunId, bool)> {
        Some((&self.run, true))
    }

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Appended, JournalError> {
        let mut tail = Tail::read(tx, &self.run).await?;
        tail.check_epoch(self.epoch)?;
        tail.check_sequence(self.expected)?;
        let mut events = Vec::with_capacity(self.batch.events.len());
        for new in std::mem::take(&mut self.batch.events) {
            events.push(tail.append(tx, new)?);
        }
        let next = tail.chain.next;
        tail.store(tx).await?;
        if let Some(shown) = &self.batch.shown {
            runs::show(tx, &self.run, shown).await?;
        }
        for (command, outcome) in &self.batch.finished {
            inbox::finish(tx, command, outcome).await?;
        }
        Ok(Appended { events, next })
    }
}
