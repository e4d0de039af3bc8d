//! The journal's one door: opening it, and every operation on it.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam_contract::budget::Spent;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::{CommandId, EventId, PrincipalId, RunId};
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::request::Retention;
use sqlx::sqlite::SqlitePool;
use tokio::task::spawn_blocking;

use crate::append::{self, Append, Appended, Batch, Durability, Expected, Stored};
use crate::bell::{Bell, Inbox};
use crate::blobs::{self, Blob, Put};
use crate::catch_up::CatchUp;
use crate::error::JournalError;
use crate::held::Holds;
use crate::hold::{BumpEpoch, Hold, Lock, Opening};
use crate::inbox::{self, CommandRow, NewCommand};
use crate::keys::Signer;
use crate::ledger::{self, Account, Ledger};
use crate::record::Recorder;
use crate::redact::Redacted;
use crate::runs::{self, NewRun, RunRow, Start, StartRun, Started};
use crate::seal::{self, Seal, SignedHead};
use crate::store::{from_db, open_readers, open_writer};
use crate::verify::{self, VerifyReport};
use crate::writer::{Desk, Writer};

/// Where a journal is, and what it is made with.
#[derive(Clone)]
pub struct JournalOptions {
    /// Database and blobs: `journal/` of the state directory.
    pub dir: PathBuf,
    /// The signing key: `keys/`.
    pub keys: PathBuf,
    /// The lock file of each run: `locks/`.
    pub locks: PathBuf,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// An open journal. Clones share it.
#[derive(Clone)]
pub struct Journal {
    writer: Writer,
    readers: SqlitePool,
    signer: Signer,
    blobs: Arc<Path>,
    locks: Arc<Path>,
    holds: Holds,
    bell: Arc<Bell>,
    ended: Arc<tokio::sync::Mutex<Option<tokio::task::JoinHandle<()>>>>,
    #[cfg(feature = "fault")]
    faults: crate::fault::Countdown,
}

impl Journal {
    /// Opens the journal, or makes an empty one. Directories are made with mode 0700.
    ///
    /// # Errors
    /// [`JournalError::File`] or [`JournalError::Database`] where the directory cannot be written,
    /// [`JournalError::Corrupt`] for a database that is none, [`JournalError::SqliteTooOld`],
    /// [`JournalError::FormatUnknown`], [`JournalError::KeyExposed`].
    pub async fn open(options: JournalOptions) -> Result<Self, JournalError> {
        #[cfg(feature = "fault")]
        return Self::with_faults(options, crate::fault::FaultPlan::Never).await;
        #[cfg(not(feature = "fault"))]
        Self::build(options).await
    }

    /// Opens a journal that dies as planned, as if its process had: everything that was not
    /// acknowledged may or may not be there, and everything afterwards is refused.
    ///
    /// # Errors
    /// Those of [`Journal::open`].
    #[cfg(feature = "fault")]
    pub async fn with_faults(
        options: JournalOptions,
        plan: crate::fault::FaultPlan,
    ) -> Result<Self, JournalError> {
        Self::build(options, crate::fault::Countdown::new(plan)).await
    }

    async fn build(
        options: JournalOptions,
        #[cfg(feature = "fault")] faults: crate::fault::Countdown,
    ) -> Result<Self, JournalError> {
        let JournalOptions { dir, keys, locks, clock, entropy } = options;
        let (blobs, logs) = (dir.join("blobs"), dir.join("logs"));
        for directory in [&dir, &blobs, &logs, &keys, &locks] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|error| JournalError::file("create", directory, error))?;
        }
        let alone = Opening::wait(&dir).await?;
        let signer = Signer::open(&keys, &*entropy)?;
        let database = dir.join("journal.db");
        let new = !database.exists();
        if new && (holds_anything(&blobs)? || holds_anything(&logs)?) {
            // Every run has blobs: a journal that has some and no database has lost it.
            return Err(JournalError::Corrupt("the database is gone".to_owned()));
        }
        let connection = open_writer(&database).await?;
        if new {
            sync_directories(&dir)?;
        }
        drop(alone);
        let readers = open_readers(&database);
        let bell = Arc::new(Bell::new(&dir, readers.clone())?);
        let holds = Holds::new(
            logs.into(),
            Arc::clone(&clock),
            Arc::clone(&entropy),
            #[cfg(feature = "fault")]
            faults.clone(),
        );
        let blobs: Arc<Path> = blobs.into();
        let desk = Desk {
            connection,
            clock,
            entropy,
            unsynced: vec![],
            blobs: Arc::clone(&blobs),
            holds: holds.clone(),
            after: vec![],
            synced: None,
            #[cfg(feature = "fault")]
            faults: Some(faults.clone()),
        };
        let (writer, ended) = Writer::start(desk);
        Ok(Self {
            writer,
            readers,
            signer,
            blobs,
            locks: locks.into(),
            holds,
            bell,
            ended: Arc::new(tokio::sync::Mutex::new(Some(ended))),
            #[cfg(feature = "fault")]
            faults,
        })
    }

    /// How many writes were begun, for planning faults.
    #[cfg(feature = "fault")]
    pub fn writes(&self) -> u64 {
        self.faults.writes()
    }

    /// From now on everything is refused, as if the process had died.
    #[cfg(feature = "fault")]
    pub fn die(&self) {
        self.faults.die();
    }

    /// Waits until everything queued is written and the files are closed. What still has a clone,
    /// a recorder or a ledger keeps the journal open until it is dropped.
    pub async fn close(self) {
        let Self { writer, readers, ended, .. } = self;
        drop(writer);
        readers.close().await;
        if let Some(ended) = ended.lock().await.take() {
            let _ = ended.await;
        }
    }

    /// Signs with this journal's key.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Has the database take over what was committed to the log of `run`, by whoever holds it.
    async fn catch_up(&self, run: &RunId) -> Result<(), JournalError> {
        match self.holds.is_behind(run) {
            true => self.writer.run(CatchUp(run.clone()), Durability::Commit).await,
            false => Ok(()),
        }
    }

    async fn catch_up_all(&self) -> Result<(), JournalError> {
        for run in self.holds.logged()? {
            self.catch_up(&run).await?;
        }
        Ok(())
    }

    fn readers(&self) -> Result<&SqlitePool, JournalError> {
        #[cfg(feature = "fault")]
        self.faults.alive()?;
        Ok(&self.readers)
    }

    // ── Runs ────────────────────────────────────────────────────────────────────────────────────

    /// Starts a run with its first event and takes its hold, or finds the run that the same
    /// request started before. Synced.
    ///
    /// # Errors
    /// [`JournalError::KeyReused`] if the idempotency key was used for something else,
    /// [`JournalError::RunExists`], [`JournalError::RunHeld`].
    pub async fn start(&self, new: NewRun) -> Result<Start, JournalError> {
        let run = new.run.clone();
        let lock = Lock::take(&self.locks, &run)?;
        match self.writer.run(StartRun(new), Durability::Synced).await? {
            Started::New(appended) => {
                let hold = Hold::new(&run, 1, &self.holds, lock)?;
                Ok(Start::New { hold, appended })
            }
            Started::Known(known) => {
                // Nobody else knows this id: its lock file is of no use.
                let _ = std::fs::remove_file(self.locks.join(format!("{run}.lock")));
                Ok(Start::Known(known))
            }
        }
    }

    /// Takes a run over: its lock, and a new epoch. Who held it before can append no more.
    ///
    /// # Errors
    /// [`JournalError::RunHeld`] at once if another holder lives; [`JournalError::RunUnknown`].
    pub async fn hold(&self, run: &RunId) -> Result<Hold, JournalError> {
        self.run(run).await?;
        let lock = Lock::take(&self.locks, run)?;
        let epoch = self.writer.run(BumpEpoch(run.clone()), Durability::Commit).await?;
        Hold::new(run, epoch, &self.holds, lock)
    }

    /// Every run, the newest first.
    ///
    /// # Errors
    /// [`JournalError::Database`], [`JournalError::Corrupt`].
    pub async fn runs(&self) -> Result<Vec<RunRow>, JournalError> {
        self.catch_up_all().await?;
        runs::list(self.readers()?).await
    }

    /// One run.
    ///
    /// # Errors
    /// [`JournalError::RunUnknown`].
    pub async fn run(&self, run: &RunId) -> Result<RunRow, JournalError> {
        self.catch_up(run).await?;
        runs::find(self.readers()?, run).await
    }

    // ── Events ──────────────────────────────────────────────────────────────────────────────────

    /// Appends events, with what must change with them, in one transaction.
    ///
    /// # Errors
    /// [`JournalError::StaleEpoch`] if the run was taken over, [`JournalError::WrongSequence`] if
    /// something else was appended, [`JournalError::EventTooLarge`].
    pub async fn append(
        &self,
        run: &RunId,
        epoch: u64,
        expected: impl Into<Expected>,
        batch: impl Into<Batch>,
        durability: Durability,
    ) -> Result<Appended, JournalError> {
        let (run, expected, batch) = (run.clone(), expected.into(), batch.into());
        self.writer.run(Append { run, epoch, expected, batch }, durability).await
    }

    /// The events of a run from sequence `from` on. The chain is followed: what was changed is
    /// never acted upon.
    ///
    /// # Errors
    /// [`JournalError::RunUnknown`], [`JournalError::Corrupt`].
    pub async fn events(&self, run: &RunId, from: u64) -> Result<Vec<Stored>, JournalError> {
        self.run(run).await?;
        append::read_chain(self.readers()?, run, from).await
    }

    /// The next free sequence of a run.
    ///
    /// # Errors
    /// [`JournalError::RunUnknown`].
    pub async fn next_sequence(&self, run: &RunId) -> Result<u64, JournalError> {
        self.catch_up(run).await?;
        let next: Option<i64> = sqlx::query_scalar("SELECT next FROM runs WHERE run = ?")
            .bind(run.as_str())
            .fetch_optional(self.readers()?)
            .await?;
        from_db(next.ok_or_else(|| JournalError::RunUnknown(run.clone()))?)
    }

    /// The `Record` port for the holder of a run. Must be called within a runtime.
    pub fn recorder(&self, hold: &Hold, actor: PrincipalId, cause: Option<EventId>) -> Recorder {
        let of = (Arc::clone(hold.held()), hold.epoch());
        Recorder::start(self.writer.clone(), of, actor, cause)
    }

    // ── Budgets ─────────────────────────────────────────────────────────────────────────────────

    /// The `Spend` port for the holder of a run.
    pub fn ledger(&self, hold: &Hold, actor: PrincipalId) -> Ledger {
        let account = Account { run: hold.run().clone(), epoch: hold.epoch(), actor };
        let (writer, blobs) = (self.writer.clone(), Arc::clone(&self.blobs));
        Ledger { writer, blobs, account: Arc::new(account), held: Arc::clone(hold.held()) }
    }

    /// What a run has spent, open reservations included.
    ///
    /// # Errors
    /// [`JournalError::RunUnknown`].
    pub async fn spent(&self, run: &RunId) -> Result<Spent, JournalError> {
        self.run(run).await?;
        ledger::spent(self.readers()?, run).await
    }

    // ── Blobs ───────────────────────────────────────────────────────────────────────────────────

    /// Keeps redacted bytes for a run, and names them. With [`Durability::Synced`] they are on
    /// disk before the name is given, else before the next synced append of this journal is.
    ///
    /// # Errors
    /// [`JournalError::BlobTooLarge`], [`JournalError::File`].
    pub async fn put_blob(
        &self,
        run: &RunId,
        bytes: Redacted<Vec<u8>>,
        retention: Retention,
        durability: Durability,
    ) -> Result<Digest, JournalError> {
        self.readers()?;
        let blob = Blob::new(bytes, retention);
        let put = Put::begin(&self.blobs, run, blob, durability).await?;
        self.writer.run(put, durability).await
    }

    /// The bytes of a blob, after they were compared with its digest.
    ///
    /// # Errors
    /// [`JournalError::BlobMissing`] for one that was pruned or never there,
    /// [`JournalError::Corrupt`] for one that was changed.
    pub async fn blob(&self, digest: &Digest) -> Result<Vec<u8>, JournalError> {
        self.readers()?;
        match self.stored_blob(digest).await {
            // A small one may be in a log still.
            Err(JournalError::BlobMissing(_)) => {}
            found => return found,
        }
        self.catch_up_all().await?;
        self.stored_blob(digest).await
    }

    async fn stored_blob(&self, digest: &Digest) -> Result<Vec<u8>, JournalError> {
        let (root, digest) = (Arc::clone(&self.blobs), *digest);
        spawn_blocking(move || blobs::read(&root, &digest))
            .await
            .map_err(|_| JournalError::Closed)?
    }

    /// Deletes what a run keeps only as long as itself, and says how many files went. Events and
    /// chains stay whole; a blob that another run keeps stays too.
    ///
    /// # Errors
    /// [`JournalError::File`].
    pub async fn prune(&self, run: &RunId) -> Result<u64, JournalError> {
        let work = blobs::MarkPruned(run.clone());
        self.writer.run(work, Durability::Synced).await?;
        let work = blobs::RemovePruned { root: self.blobs.to_path_buf(), run: run.clone() };
        self.writer.run(work, Durability::Commit).await
    }

    // ── Inbox ───────────────────────────────────────────────────────────────────────────────────

    /// Inserts a command for whoever holds the run; the same operation key is the same command.
    ///
    /// # Errors
    /// [`JournalError::KeyReused`], [`JournalError::RunUnknown`].
    pub async fn command(&self, new: NewCommand) -> Result<CommandId, JournalError> {
        let id = self.writer.run(inbox::Insert(new), Durability::Synced).await?;
        self.bell.ring();
        Ok(id)
    }

    /// Tells whoever holds a run when to look into its inbox, which is before the first time it
    /// rings and whenever it does. Called within a runtime.
    pub fn inbox(&self, run: &RunId) -> Inbox {
        self.bell.inbox(run)
    }

    /// The commands for a run that are not done, oldest first. They stay until they are finished:
    /// by [`Batch::finishes`], or by [`Journal::finish_command`].
    ///
    /// # Errors
    /// [`JournalError::Database`].
    pub async fn take_commands(&self, run: &RunId) -> Result<Vec<CommandRow>, JournalError> {
        inbox::waiting(self.readers()?, run).await
    }

    /// One command, with its outcome once it has one.
    ///
    /// # Errors
    /// [`JournalError::CommandUnknown`].
    pub async fn find_command(&self, id: &CommandId) -> Result<CommandRow, JournalError> {
        inbox::find(self.readers()?, id).await
    }

    /// Marks a command done that led to no event. The first outcome stays.
    ///
    /// # Errors
    /// [`JournalError::CommandUnknown`].
    pub async fn finish_command(
        &self,
        id: &CommandId,
        outcome: impl Into<String>,
    ) -> Result<(), JournalError> {
        let work = inbox::Finish { id: id.clone(), outcome: outcome.into() };
        self.writer.run(work, Durability::Commit).await
    }

    // ── Integrity ───────────────────────────────────────────────────────────────────────────────

    /// Signs where a run's chain stands, into the chain of heads. Synced. Sealing again without
    /// a new event gives the same head.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] if the chain breaks: what was edited is not signed.
    pub async fn seal(&self, run: &RunId) -> Result<SignedHead, JournalError> {
        let work = Seal { run: run.clone(), signer: self.signer.clone() };
        self.writer.run(work, Durability::Synced).await
    }

    /// The signed heads of a run, oldest first.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`].
    pub async fn heads(&self, run: &RunId) -> Result<Vec<SignedHead>, JournalError> {
        seal::of_run(self.readers()?, run).await
    }

    /// Looks for anything edited, dropped, reordered or moved.
    ///
    /// # Errors
    /// Only where the journal cannot be read at all; what is wrong with it is in the report.
    pub async fn verify(&self) -> Result<VerifyReport, JournalError> {
        self.catch_up_all().await?;
        // One transaction, so that nobody's append comes between two look-ups.
        let mut snapshot = self.readers()?.begin().await?;
        verify::verify(&mut snapshot, &self.signer, &self.blobs).await
    }
}

/// Makes the names of a new journal as durable as what is written under them.
fn sync_directories(dir: &Path) -> Result<(), JournalError> {
    for directory in dir.ancestors().take(2) {
        std::fs::File::open(directory)
            .and_then(|open| open.sync_all())
            .map_err(|error| JournalError::file("sync", directory, error))?;
    }
    Ok(())
}

fn holds_anything(dir: &Path) -> Result<bool, JournalError> {
    let entries = std::fs::read_dir(dir).map_err(|error| JournalError::file("read", dir, error))?;
    Ok(entries.flatten().next().is_some())
}
