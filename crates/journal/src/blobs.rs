//! Content-addressed files for what is too large or too private for an event.
//!
//! Only what went through redaction can be put. A blob is a file named by its SHA-256, written
//! beside its place and renamed into it, so that a file under its name is whole. Who refers to it,
//! and for how long it is kept, is in the database; several runs may share one file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::request::Retention;
use sqlx::sqlite::SqliteConnection;

use crate::append::Durability;
use crate::error::JournalError;
use crate::redact::Redacted;
use crate::script::Script;
use crate::store::parse;
use crate::writer::{Tx, Work};

/// Largest blob that is stored.
pub const BLOB_BYTES_MAX: usize = 256 << 20;

/// Blobs up to this size are written in the transaction that makes them known: the write goes to
/// memory and takes less than the way to another thread.
pub(crate) const INLINE_BYTES_MAX: usize = 64 << 10;

/// Numbers the unfinished files of this process.
static UNFINISHED: AtomicU64 = AtomicU64::new(0);

fn place(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    root.join(&hex[..2]).join(&hex)
}

/// Whether the file is there: it came under its name as a whole, but power may have failed since.
fn is_whole(path: &Path, bytes: &[u8]) -> bool {
    fs::metadata(path).is_ok_and(|found| found.len() == bytes.len() as u64)
}

/// Writes `bytes` under `digest`, unless they are there already.
fn write(
    root: &Path,
    digest: &Digest,
    bytes: &[u8],
    durability: Durability,
) -> std::io::Result<()> {
    let path = place(root, digest);
    let directory = root.join(&digest.hex()[..2]);
    if !is_whole(&path, bytes) {
        fs::create_dir_all(&directory)?;
        // A name of this writer's own, whoever else writes the same content now.
        let number = UNFINISHED.fetch_add(1, Ordering::Relaxed);
        let unfinished = root.join(format!("{}.{number}.tmp", std::process::id()));
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        fs::rename(&unfinished, &path)?;
    }
    if durability == Durability::Synced {
        File::open(&path)?.sync_all()?;
        File::open(&directory)?.sync_all()?;
        File::open(root)?.sync_all()?;
    }
    Ok(())
}

/// Makes blobs durable that were put without being synced: files, and the names on the way to
/// them. One that was pruned meanwhile needs no syncing.
pub(crate) async fn sync(places: Vec<PathBuf>) -> Result<(), JournalError> {
    let sync = |path: &Path| match File::open(path).and_then(|open| open.sync_all()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(JournalError::file("sync", path, error))
        }
        _ => Ok(()),
    };
    if places.is_empty() {
        return Ok(());
    }
    let done = tokio::task::spawn_blocking(move || {
        let names: BTreeSet<&Path> =
            places.iter().flat_map(|place| place.ancestors().take(3)).collect();
        names.into_iter().try_for_each(sync)
    });
    done.await.map_err(|_| JournalError::Closed)?
}

/// The bytes under `digest`, if they are what the digest says.
pub(crate) fn read(root: &Path, digest: &Digest) -> Result<Vec<u8>, JournalError> {
    let path = place(root, digest);
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => JournalError::BlobMissing(*digest),
        _ => JournalError::file("read", &path, error),
    };
    let file = File::open(&path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(BLOB_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if Digest::of(&bytes) != *digest {
        return Err(JournalError::Corrupt(format!("blob {digest} is not what it was")));
    }
    Ok(bytes)
}

/// Every blob that must be there, with one run that refers to it.
pub(crate) async fn kept(
    connection: &mut SqliteConnection,
) -> Result<Vec<(Digest, RunId)>, JournalError> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT digest, min(run) FROM blobs WHERE pruned = 0 GROUP BY digest ORDER BY digest",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|(digest, run)| Ok((parse(digest)?, parse(run)?))).collect()
}

/// Redacted bytes that are to be kept.
#[derive(Debug)]
pub struct Blob {
    digest: Digest,
    bytes: Redacted<Vec<u8>>,
    retention: Retention,
}

impl Blob {
    /// These bytes, for so long.
    pub fn new(bytes: Redacted<Vec<u8>>, retention: Retention) -> Self {
        Self { digest: Digest::of(bytes.get()), bytes, retention }
    }

    /// The name that they are found by.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get()
    }

    pub(crate) fn retention(&self) -> Retention {
        self.retention
    }
}

/// A blob on its way, of which the database does not know yet.
pub(crate) struct Put {
    root: Arc<Path>,
    run: RunId,
    blob: Blob,
    durability: Durability,
}

impl Put {
    /// Writes the file outside of any transaction, unless it is small.
    pub(crate) async fn begin(
        root: &Arc<Path>,
        run: &RunId,
        blob: Blob,
        durability: Durability,
    ) -> Result<Self, JournalError> {
        let bytes = blob.bytes.get().len();
        if bytes > BLOB_BYTES_MAX {
            return Err(JournalError::BlobTooLarge { bytes, bytes_max: BLOB_BYTES_MAX });
        }
        let put = Self { root: Arc::clone(root), run: run.clone(), blob, durability };
        if bytes <= INLINE_BYTES_MAX && durability == Durability::Commit {
            return Ok(put);
        }
        let written = tokio::task::spawn_blocking(move || put.write().map(|()| put));
        written.await.map_err(|_| JournalError::Closed)?
    }

    fn write(&self) -> Result<(), JournalError> {
        let Blob { digest, bytes, .. } = &self.blob;
        write(&self.root, digest, bytes.get(), self.durability)
            .map_err(|error| JournalError::file("write", &place(&self.root, digest), error))
    }

    /// Adds the row that says who keeps it.
    pub(crate) fn enter(&self, tx: &mut Tx<'_>, script: &mut Script) -> Result<(), JournalError> {
        let Blob { digest, bytes, retention } = &self.blob;
        let (run, retention) = (&self.run, *retention);
        let kept = Kept { run, digest, bytes: bytes.get(), retention };
        enter(tx, script, &kept, self.durability)
    }

    /// Takes the file away again, if nobody keeps it: whoever writes the same content now looks
    /// for it once more in a transaction of its own.
    pub(crate) async fn withdraw(&self, tx: &mut Tx<'_>) -> Result<(), JournalError> {
        let digest = &self.blob.digest;
        let kept: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM blobs WHERE digest = ? AND pruned = 0 LIMIT 1")
                .bind(digest.to_string())
                .fetch_optional(&mut *tx.connection)
                .await?;
        if kept.is_none() {
            let _ = fs::remove_file(place(&self.root, digest));
        }
        Ok(())
    }
}

/// What a run keeps.
pub(crate) struct Kept<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) digest: &'a Digest,
    pub(crate) bytes: &'a [u8],
    pub(crate) retention: Retention,
}

/// Adds the row that says who keeps it, and makes sure of the file.
pub(crate) fn enter(
    tx: &mut Tx<'_>,
    script: &mut Script,
    kept: &Kept<'_>,
    durability: Durability,
) -> Result<(), JournalError> {
    // The longer retention wins; "journal" is less than "run" as text.
    script
        .add(
            "INSERT INTO blobs (digest, run, retention) VALUES (?, ?, ?)
             ON CONFLICT (digest, run) DO UPDATE
             SET pruned = 0, retention = min(retention, excluded.retention)",
        )
        .bind(kept.digest.to_string())?
        .bind(kept.run.as_str())?
        .bind(name(kept.retention))?;
    // A small one is not there yet, and one that was may have been pruned meanwhile.
    let path = place(tx.blobs, kept.digest);
    if !is_whole(&path, kept.bytes) {
        write(tx.blobs, kept.digest, kept.bytes, durability)
            .map_err(|error| JournalError::file("write", &path, error))?;
    }
    if durability == Durability::Commit {
        tx.unsynced.push(path);
    }
    Ok(())
}

impl Work for Put {
    type Output = Digest;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Digest, JournalError> {
        let mut script = Script::default();
        self.enter(tx, &mut script)?;
        script.run(tx).await?;
        Ok(self.blob.digest)
    }
}

fn name(retention: Retention) -> &'static str {
    match retention {
        Retention::Run => "run",
        Retention::Journal => "journal",
    }
}

/// The first half of [`crate::Journal::prune`]: notes what is to go.
pub(crate) struct MarkPruned(pub(crate) RunId);

impl Work for MarkPruned {
    type Output = ();

    fn of(&self) -> Option<(&RunId, bool)> {
        Some((&self.0, false))
    }

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), JournalError> {
        sqlx::query("UPDATE blobs SET pruned = 1 WHERE run = ? AND retention = 'run'")
            .bind(self.0.as_str())
            .execute(&mut *tx.connection)
            .await?;
        Ok(())
    }
}

/// The second half: removes the files, once it is on record that they may be missing. It changes
/// no row, and is a piece of work so that nobody puts the same content meanwhile.
pub(crate) struct RemovePruned {
    pub(crate) root: PathBuf,
    pub(crate) run: RunId,
}

impl Work for RemovePruned {
    type Output = u64;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<u64, JournalError> {
        let digests: Vec<String> = sqlx::query_scalar(
            "SELECT digest FROM blobs WHERE run = ? AND pruned = 1 AND NOT EXISTS (
                 SELECT 1 FROM blobs AS other WHERE other.digest = blobs.digest AND pruned = 0)",
        )
        .bind(self.run.as_str())
        .fetch_all(&mut *tx.connection)
        .await?;
        let mut removed = 0;
        for digest in digests {
            let path = place(&self.root, &parse(digest)?);
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(JournalError::file("remove", &path, error)),
            }
        }
        Ok(removed)
    }
}
