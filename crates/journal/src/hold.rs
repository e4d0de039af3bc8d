//! Who may append to a run (a kernel file lock, and an epoch that outlives it) and open a journal.
//!
//! The lock (flock(2)) belongs to the open file, so the kernel frees it however its holder dies.
//! The epoch is bumped by every take-over, so that a former holder that is still running, and
//! thinks that it holds the run, is refused by the database.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;

use cofferdam_contract::ids::RunId;
use tokio::task::spawn_blocking;

use crate::error::JournalError;
use crate::held::{Held, Holds};
use crate::store::from_db;
use crate::writer::{Tx, Work};

/// The right to append to a run, until it is dropped.
pub struct Hold {
    epoch: u64,
    held: Arc<Held>,
    holds: Holds,
    _lock: Lock,
}

impl Hold {
    /// With the lock, and after the database has what a former holder committed.
    pub(crate) fn new(
        run: &RunId,
        epoch: u64,
        holds: &Holds,
        lock: Lock,
    ) -> Result<Self, JournalError> {
        Ok(Self { epoch, held: holds.begin(run)?, holds: holds.clone(), _lock: lock })
    }

    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        self.held.run()
    }

    /// Which holder this is.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Drop for Hold {
    /// Before the lock is free, so that no commit comes after another holder's first.
    fn drop(&mut self) {
        self.holds.end(&self.held);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("run", self.run()).field("epoch", &self.epoch).finish()
    }
}

/// The locked file. It is never removed: a new file under the same name would be another lock.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `run` at once or not at all.
    pub(crate) fn take(locks: &Path, run: &RunId) -> Result<Self, JournalError> {
        let path = locks.join(format!("{run}.lock"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| JournalError::file("open", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(JournalError::RunHeld(run.clone())),
            Err(TryLockError::Error(error)) => Err(JournalError::file("lock", &path, error)),
        }
    }
}

/// The right to open the journal in a directory, and to make it if there is none, until dropped.
///
/// SQLite does not wait for its locks while a database is made into one with a write-ahead log,
/// whatever time it was given: two processes that found none would refuse each other.
pub(crate) struct Opening {
    _directory: File,
}

impl Opening {
    /// Waits until nobody else opens the journal in `dir`.
    pub(crate) async fn wait(dir: &Path) -> Result<Self, JournalError> {
        let dir = dir.to_owned();
        spawn_blocking(move || {
            let locked = File::open(&dir).and_then(|opened| opened.lock().map(|()| opened));
            let directory = locked.map_err(|error| JournalError::file("lock", &dir, error))?;
            Ok(Self { _directory: directory })
        })
        .await
        .map_err(|_| JournalError::Closed)?
    }
}

/// Begins a new epoch.
pub(crate) struct BumpEpoch(pub(crate) RunId);

impl Work for BumpEpoch {
    type Output = u64;

    fn of(&self) -> Option<(&RunId, bool)> {
        Some((&self.0, true))
    }

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<u64, JournalError> {
        let epoch: Option<i64> =
            sqlx::query_scalar("UPDATE runs SET epoch = epoch + 1 WHERE run = ? RETURNING epoch")
                .bind(self.0.as_str())
                .fetch_optional(&mut *tx.connection)
                .await?;
        from_db(epoch.ok_or_else(|| JournalError::RunUnknown(self.0.clone()))?)
    }
}
