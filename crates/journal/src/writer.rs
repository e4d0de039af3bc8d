//! The one writer of this process, and group commit.
//!
//! Callers queue pieces of [`Work`]; the writer applies as many as wait, each in a savepoint of
//! its own, and commits them together. A piece that is refused takes nothing of the others with
//! it. An answer is sent only after the commit that holds it.
//!
//! Durability. In WAL mode a commit under `synchronous=NORMAL` is in the page cache: it survives
//! the death of every process, not that of the power. Under `FULL` the log is synced after the
//! commit frame (<https://www.sqlite.org/pragma.html#pragma_synchronous>). The log is one file
//! written in order and each frame's checksum covers the ones before it, so that one synced
//! commit makes all earlier ones durable too, and the blobs put before it with them. The pragma
//! cannot change inside a transaction, so it is set before one, to what the most careful piece in it asks for.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use cofferdam_contract::ids::RunId;
use cofferdam_contract::ports::{Clock, Entropy};
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use crate::append::Durability;
use crate::blobs;
use crate::catch_up::catch_up;
use crate::error::JournalError;
use crate::held::Holds;

/// Pieces that wait before callers have to.
const QUEUE_MAX: usize = 1024;
/// Pieces in one transaction.
const BATCH_MAX: usize = 256;
/// Blobs that may wait for the next synced commit.
const UNSYNCED_MAX: usize = 1024;

/// What a piece of work may use.
pub(crate) struct Tx<'a> {
    pub(crate) connection: &'a mut SqliteConnection,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
    /// Files that the next synced commit must find on disk.
    pub(crate) unsynced: &'a mut Vec<PathBuf>,
    /// Where blobs are.
    pub(crate) blobs: &'a Path,
    /// Runs that this process holds.
    pub(crate) holds: &'a Holds,
    /// What is to be done once all of it is committed.
    pub(crate) after: &'a mut Vec<After>,
}

/// Something that only a commit makes true.
pub(crate) type After = Box<dyn FnOnce() + Send>;

/// One change of the database, all or nothing.
pub(crate) trait Work: Send + 'static {
    /// What its caller gets.
    type Output: Send + 'static;

    /// Whether it is a write for `FaultPlan`.
    const COUNTS: bool = true;

    /// The run whose events it must find in the database, and whether it moves the end of that
    /// run's chain or its budget.
    fn of(&self) -> Option<(&RunId, bool)> {
        None
    }

    /// Makes the change; an error undoes all of it.
    fn apply(
        &mut self,
        tx: &mut Tx<'_>,
    ) -> impl Future<Output = Result<Self::Output, JournalError>> + Send;
}

type Applied<'a> = Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + 'a>>;

/// A piece of work whose output type is forgotten, so that different ones can share a queue.
trait Piece: Send {
    fn durability(&self) -> Durability;
    fn counts(&self) -> bool;
    fn of(&self) -> Option<(&RunId, bool)>;
    fn apply<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> Applied<'a>;
    fn answer(self: Box<Self>, outcome: Result<(), JournalError>);
}

struct Queued<W: Work> {
    work: W,
    durability: Durability,
    output: Option<W::Output>,
    reply: oneshot::Sender<Result<W::Output, JournalError>>,
}

impl<W: Work> Piece for Queued<W> {
    fn durability(&self) -> Durability {
        self.durability
    }

    fn counts(&self) -> bool {
        W::COUNTS
    }

    fn of(&self) -> Option<(&RunId, bool)> {
        self.work.of()
    }

    fn apply<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> Applied<'a> {
        Box::pin(async move {
            self.output = Some(self.work.apply(tx).await?);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, outcome: Result<(), JournalError>) {
        let Self { output, reply, .. } = *self;
        // A caller that has gone away does not want to know.
        let _ = reply.send(outcome.and_then(|()| output.ok_or(JournalError::Closed)));
    }
}

/// The callers' end of the queue.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Box<dyn Piece>>,
}

impl Writer {
    /// Starts the writer on the current runtime; it ends when the last caller's end is dropped.
    pub(crate) fn start(mut desk: Desk) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, mut pieces) = mpsc::channel(QUEUE_MAX);
        let ended = tokio::spawn(async move {
            let mut batch = Vec::new();
            while pieces.recv_many(&mut batch, BATCH_MAX).await > 0 {
                desk.write(std::mem::take(&mut batch)).await;
            }
            let _ = sqlx::Connection::close(desk.connection).await;
        });
        (Self { queue }, ended)
    }

    /// Queues `work` and waits until it is committed.
    pub(crate) async fn run<W: Work>(
        &self,
        work: W,
        durability: Durability,
    ) -> Result<W::Output, JournalError> {
        let (reply, answer) = oneshot::channel();
        let piece = Box::new(Queued { work, durability, output: None, reply });
        self.queue.send(piece).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// Queues `work` that nobody waits for, if there is room: it can be asked for again.
    pub(crate) fn leave<W: Work>(&self, work: W) {
        let (reply, _nobody) = oneshot::channel();
        let durability = Durability::Commit;
        let _ = self.queue.try_send(Box::new(Queued { work, durability, output: None, reply }));
    }
}

/// The writer's own end: the connection and what every piece may use.
pub(crate) struct Desk {
    pub(crate) connection: SqliteConnection,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Blobs that were put without being synced: what a synced event may refer to.
    pub(crate) unsynced: Vec<PathBuf>,
    pub(crate) blobs: Arc<Path>,
    pub(crate) holds: Holds,
    /// What is to be done once the transaction is committed.
    pub(crate) after: Vec<After>,
    /// What the pragma was last set to, if that is known.
    pub(crate) synced: Option<bool>,
    #[cfg(feature = "fault")]
    pub(crate) faults: Option<crate::fault::Countdown>,
}

impl Desk {
    /// Writes one batch in one transaction and answers every piece of it.
    async fn write(&mut self, batch: Vec<Box<dyn Piece>>) {
        let synced = batch.iter().any(|piece| piece.durability() == Durability::Synced);
        let mut waiting = batch.into_iter();
        let mut applied = vec![];
        let stopped = match self.begin(synced).await {
            Ok(()) => self.apply_all(&mut waiting, &mut applied).await,
            Err(error) => Err(error),
        };
        let outcome = match &stopped {
            Ok(_) => self.commit(synced).await,
            Err(error) => Err(error.clone()),
        };
        let after = std::mem::take(&mut self.after);
        match outcome {
            Ok(()) => after.into_iter().for_each(|then| then()),
            // SQLite may have rolled back by itself already; then this fails, and may.
            Err(_) => drop(self.execute("ROLLBACK").await),
        }
        applied.into_iter().for_each(|piece| piece.answer(outcome.clone()));
        // Whoever is left was behind a failure or a planned death.
        let error = outcome.err().unwrap_or(JournalError::Crashed);
        let left = stopped.ok().flatten().into_iter().chain(waiting);
        left.for_each(|piece| piece.answer(Err(error.clone())));
    }

    /// Applies one piece after the other, and says at which one the plan was to die.
    async fn apply_all(
        &mut self,
        waiting: &mut std::vec::IntoIter<Box<dyn Piece>>,
        applied: &mut Vec<Box<dyn Piece>>,
    ) -> Result<Option<Box<dyn Piece>>, JournalError> {
        let alone = waiting.len() == 1;
        for mut piece in waiting {
            let counts = piece.counts();
            if counts && self.dies(Moment::Before) {
                return Ok(Some(piece));
            }
            match self.apply(piece.as_mut(), alone).await {
                Ok(()) => {}
                Err(Refusal::Piece(error)) => {
                    piece.answer(Err(error));
                    continue;
                }
                Err(Refusal::Batch(error)) => {
                    applied.push(piece);
                    return Err(error);
                }
            }
            if counts && self.dies(Moment::After) {
                return Ok(Some(piece));
            }
            applied.push(piece);
        }
        Ok(None)
    }

    async fn begin(&mut self, synced: bool) -> Result<(), JournalError> {
        self.alive()?;
        if self.synced == Some(synced) {
            return self.execute("BEGIN IMMEDIATE").await;
        }
        self.synced = None;
        let begin = match synced {
            true => "PRAGMA synchronous=FULL; BEGIN IMMEDIATE",
            false => "PRAGMA synchronous=NORMAL; BEGIN IMMEDIATE",
        };
        self.execute(begin).await?;
        self.synced = Some(synced);
        Ok(())
    }

    /// Commits. What a synced event refers to is on disk before the event is.
    async fn commit(&mut self, synced: bool) -> Result<(), JournalError> {
        if synced || self.unsynced.len() >= UNSYNCED_MAX {
            blobs::sync(self.unsynced.clone()).await?;
            self.unsynced.clear();
        }
        self.execute("COMMIT").await
    }

    /// Applies one piece. A piece that is alone needs no savepoint: what it did before it was
    /// refused is undone by never having been committed.
    async fn apply(&mut self, piece: &mut dyn Piece, alone: bool) -> Result<(), Refusal> {
        if !alone {
            self.execute("SAVEPOINT piece").await.map_err(Refusal::Batch)?;
        }
        let after = self.after.len();
        let of = piece.of().map(|(run, moves)| (run.clone(), moves));
        let mut applied = match of {
            Some((run, moves)) => catch_up(&mut self.tx(), &run, moves).await,
            None => Ok(()),
        };
        if applied.is_ok() {
            applied = piece.apply(&mut self.tx()).await;
        }
        if applied.is_err() {
            self.after.truncate(after);
        }
        match applied {
            Ok(()) if alone => Ok(()),
            Ok(()) => self.execute("RELEASE piece").await.map_err(Refusal::Batch),
            Err(error) if alone => Err(Refusal::Batch(error)),
            Err(error) => match self.execute("ROLLBACK TO piece; RELEASE piece").await {
                Ok(()) => Err(Refusal::Piece(error)),
                // A full disk makes SQLite roll the whole transaction back by itself
                // (<https://www.sqlite.org/lang_transaction.html>, "Response To Errors").
                Err(_) => Err(Refusal::Batch(error)),
            },
        }
    }

    fn tx(&mut self) -> Tx<'_> {
        Tx {
            connection: &mut self.connection,
            clock: &*self.clock,
            entropy: &*self.entropy,
            unsynced: &mut self.unsynced,
            blobs: &self.blobs,
            holds: &self.holds,
            after: &mut self.after,
        }
    }

    async fn execute(&mut self, statement: &'static str) -> Result<(), JournalError> {
        sqlx::raw_sql(statement).execute(&mut self.connection).await?;
        Ok(())
    }
}

/// How far a failure reaches.
enum Refusal {
    /// To this piece.
    Piece(JournalError),
    /// To the whole transaction.
    Batch(JournalError),
}

/// Where a planned death may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    Before,
    #[cfg_attr(not(feature = "fault"), expect(dead_code, reason = "of logs, with the feature"))]
    Amid,
    After,
}

#[cfg(feature = "fault")]
impl Desk {
    fn dies(&mut self, moment: Moment) -> bool {
        self.faults.as_mut().is_some_and(|faults| faults.dies(moment))
    }

    fn alive(&self) -> Result<(), JournalError> {
        self.faults.as_ref().map_or(Ok(()), crate::fault::Countdown::alive)
    }
}

#[cfg(not(feature = "fault"))]
#[expect(clippy::unused_self, reason = "the same signature with and without the feature")]
impl Desk {
    fn dies(&mut self, _moment: Moment) -> bool {
        false
    }

    fn alive(&self) -> Result<(), JournalError> {
        Ok(())
    }
}
