//! The `Record` port: what leaves write through, bound to one run and one hold.
//!
//! `commit` waits for the writer. `observe` puts the event into a bounded queue and returns; a
//! background pump appends what waits. What the queue could not take is counted, and the count
//! becomes a `denial.lost` event as soon as the pump has room, so that the loss itself is never
//! lost while the journal works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cofferdam_contract::events::{DenialEvent, EventBody, Lost};
use cofferdam_contract::ids::{EventId, PrincipalId};
use cofferdam_contract::ports::{PortFuture, Record};
use cofferdam_contract::problem::Problem;
use tokio::sync::{mpsc, oneshot};

use crate::append::{Append, Durability, Expected, NewEvent};
use crate::error::JournalError;
use crate::held::{self, Held};
use crate::writer::Writer;

/// Observed events that wait before more of them are counted as lost.
const OBSERVED_MAX: usize = 4096;
/// Observed events in one append.
const PUMPED_MAX: usize = 256;

/// Writes events of one run for whoever holds it.
#[derive(Clone)]
pub struct Recorder {
    scribe: Arc<Scribe>,
    queue: mpsc::Sender<Observed>,
}

enum Observed {
    Event(Box<NewEvent>),
    Flush(oneshot::Sender<Result<(), JournalError>>),
}

/// What `commit` and the pump share.
struct Scribe {
    writer: Writer,
    held: Arc<Held>,
    epoch: u64,
    actor: PrincipalId,
    cause: Option<EventId>,
    /// Observed events that are lost and not yet told of.
    untold: AtomicU64,
    /// Observed events that are lost.
    lost: AtomicU64,
}

impl Recorder {
    pub(crate) fn start(
        writer: Writer,
        (held, epoch): (Arc<Held>, u64),
        actor: PrincipalId,
        cause: Option<EventId>,
    ) -> Self {
        let (untold, lost) = (AtomicU64::new(0), AtomicU64::new(0));
        let scribe = Arc::new(Scribe { writer, held, epoch, actor, cause, untold, lost });
        let (queue, observed) = mpsc::channel(OBSERVED_MAX);
        tokio::spawn(pump(Arc::clone(&scribe), observed));
        Self { scribe, queue }
    }

    /// Waits until everything observed so far is written, the loss included.
    ///
    /// # Errors
    /// [`JournalError::ObservationsLost`] if the journal did not take them.
    pub async fn flush(&self) -> Result<(), JournalError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Observed::Flush(reply)).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// How many observed events were lost so far; above zero, the run's events are incomplete.
    pub fn lost(&self) -> u64 {
        self.scribe.lost.load(Ordering::Acquire)
    }
}

impl Recorder {
    /// [`Record::commit`] of events whose ids and causes are known.
    pub fn commit_caused(&self, events: Vec<NewEvent>) -> PortFuture<'_, ()> {
        Box::pin(async move { self.scribe.append(events).await.map_err(Problem::from) })
    }

    /// [`Record::observe`] of an event whose id and cause are known.
    pub fn observe_caused(&self, event: NewEvent) {
        if self.queue.try_send(Observed::Event(Box::new(event))).is_err() {
            self.scribe.lose(1);
        }
    }
}

impl Record for Recorder {
    fn commit(&self, events: Vec<EventBody>) -> PortFuture<'_, ()> {
        self.commit_caused(events.into_iter().map(|body| self.scribe.event(body)).collect())
    }

    fn observe(&self, event: EventBody) {
        self.observe_caused(self.scribe.event(event));
    }
}

impl Scribe {
    fn lose(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::AcqRel);
        self.untold.fetch_add(count, Ordering::AcqRel);
    }

    fn event(&self, body: EventBody) -> NewEvent {
        NewEvent { id: None, body, actor: self.actor.clone(), cause: self.cause.clone() }
    }

    async fn append(&self, events: Vec<NewEvent>) -> Result<(), JournalError> {
        let held = &self.held;
        let done = held::commit(&self.writer, held, self.epoch, || held.append(&events)).await?;
        if done.is_some() {
            return Ok(());
        }
        let work = Append {
            run: held.run().clone(),
            epoch: self.epoch,
            expected: Expected::Any,
            batch: events.into(),
        };
        self.writer.run(work, Durability::Commit).await.map(|_| ())
    }

    /// Appends `events` and tells of the loss. What the journal refuses is lost as well.
    async fn write(&self, mut events: Vec<NewEvent>) -> Result<(), JournalError> {
        let observed = events.len() as u64;
        let untold = self.untold.swap(0, Ordering::AcqRel);
        if untold > 0 {
            let lost = Lost { count: untold, source: "journal".to_owned() };
            events.push(self.event(EventBody::Denial(DenialEvent::Lost(lost))));
        }
        if events.is_empty() {
            return Ok(());
        }
        match self.append(events.clone()).await {
            Ok(()) => Ok(()),
            Err(JournalError::EventTooLarge { .. }) => self.write_each(events).await,
            Err(error) => {
                self.lost.fetch_add(observed, Ordering::AcqRel);
                self.untold.fetch_add(observed + untold, Ordering::AcqRel);
                Err(error)
            }
        }
    }

    /// One event that is too large must not take the others of its append with it.
    async fn write_each(&self, events: Vec<NewEvent>) -> Result<(), JournalError> {
        for event in events {
            match self.append(vec![event]).await {
                Ok(()) => {}
                Err(JournalError::EventTooLarge { .. }) => self.lose(1),
                Err(error) => {
                    self.lose(1);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

async fn pump(scribe: Arc<Scribe>, mut queue: mpsc::Receiver<Observed>) {
    let mut waiting = Vec::with_capacity(PUMPED_MAX);
    let mut failed = false;
    while queue.recv_many(&mut waiting, PUMPED_MAX).await > 0 {
        let (mut events, mut flushes) = (vec![], vec![]);
        for observed in waiting.drain(..) {
            match observed {
                Observed::Event(event) => events.push(*event),
                Observed::Flush(reply) => flushes.push(reply),
            }
        }
        failed |= scribe.write(events).await.is_err();
        for reply in flushes {
            let lost = scribe.untold.load(Ordering::Acquire);
            let outcome = if failed { Err(JournalError::ObservationsLost(lost)) } else { Ok(()) };
            let _ = reply.send(outcome);
            failed = false;
        }
    }
    // The last recorder is gone; a loss that nobody asked about is still told.
    let _ = scribe.write(vec![]).await;
}
