//! What can go wrong with the journal, and the stable code that each failure has at the edge.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam_contract::budget::BudgetKind;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::{CommandId, ReservationId, RunId};
use cofferdam_contract::problem::{Code, Problem};

/// A refusal or failure of the journal.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The database said no: disk full, read-only, locked for too long.
    #[error("the journal's database failed")]
    Database(#[source] Arc<sqlx::Error>),
    /// A file beside the database could not be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was being done, such as `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// What is stored is not what was written.
    #[error("the journal is damaged: {0}")]
    Corrupt(String),
    /// The database was written by a later version.
    #[error("the journal has format {found}, this build knows up to {known}")]
    FormatUnknown {
        /// Its format.
        found: i64,
        /// The newest that this build knows.
        known: i64,
    },
    /// The SQLite library is too old to be trusted with the journal.
    #[error("sqlite {found} is older than {needed}")]
    SqliteTooOld {
        /// Its version.
        found: String,
        /// The least version.
        needed: &'static str,
    },
    /// No such run.
    #[error("there is no run {0}")]
    RunUnknown(RunId),
    /// A run with this id was started before.
    #[error("run {0} exists already")]
    RunExists(RunId),
    /// Another process, or another part of this one, holds the run.
    #[error("run {0} is held by another process")]
    RunHeld(RunId),
    /// The writer no longer holds the run: another one has taken it over.
    #[error("epoch {given} of run {run} is over, the current one is {current}")]
    StaleEpoch {
        /// The run.
        run: RunId,
        /// The writer's epoch.
        given: u64,
        /// The run's epoch.
        current: u64,
    },
    /// Something was appended that the writer has not seen.
    #[error("run {run} goes on at sequence {actual}, not at {expected}")]
    WrongSequence {
        /// The run.
        run: RunId,
        /// What the writer thought.
        expected: u64,
        /// The next free sequence.
        actual: u64,
    },
    /// One event is larger than may be stored.
    #[error("an event of {bytes} bytes is larger than {bytes_max}")]
    EventTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// One blob is larger than may be stored.
    #[error("a blob of {bytes} bytes is larger than {bytes_max}")]
    BlobTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// An idempotency or operation key was used for something else.
    #[error("the key was used before for another request")]
    KeyReused,
    /// No such command.
    #[error("there is no command {0}")]
    CommandUnknown(CommandId),
    /// The budget does not hold what was asked for.
    #[error("{asked} of {kind:?} was asked for and {left} is left")]
    BudgetExhausted {
        /// Of what.
        kind: BudgetKind,
        /// How much was asked for.
        asked: u64,
        /// How much is left.
        left: u64,
    },
    /// No open reservation of this holder has this id.
    #[error("there is no open reservation {0}")]
    ReservationUnknown(ReservationId),
    /// More was spent than was reserved.
    #[error("{spent} was spent on a reservation of {reserved}")]
    OverSettled {
        /// Spent.
        spent: u64,
        /// Reserved.
        reserved: u64,
    },
    /// A blob was pruned, or was never there.
    #[error("there is no blob {0}")]
    BlobMissing(Digest),
    /// The signing key could have been read or changed by others.
    #[error("the signing key {} is open to others: its mode must be 0600", .0.display())]
    KeyExposed(PathBuf),
    /// The signing key cannot be read as a key.
    #[error("the signing key {} is not an ed25519 key in pkcs #8 pem", .0.display())]
    KeyInvalid(PathBuf),
    /// Events that were only observed could not be written.
    #[error("the journal did not take {0} observed events")]
    ObservationsLost(u64),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// The fault plan said to die here.
    #[error("the journal crashed as planned")]
    Crashed,
}

impl JournalError {
    pub(crate) fn file(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { doing, path: path.to_owned(), source: Arc::new(source) }
    }

    fn code(&self) -> Code {
        match self {
            Self::Database(_)
            | Self::File { .. }
            | Self::KeyExposed(_)
            | Self::KeyInvalid(_)
            | Self::ObservationsLost(_)
            | Self::Closed
            | Self::Crashed => Code::StorageFailed,
            Self::Corrupt(_) => Code::JournalCorrupt,
            Self::FormatUnknown { .. } => Code::VersionUnsupported,
            Self::RunUnknown(_) => Code::RunUnknown,
            Self::RunHeld(_) | Self::StaleEpoch { .. } => Code::RunHeld,
            Self::EventTooLarge { .. } | Self::BlobTooLarge { .. } => Code::RequestInvalid,
            Self::KeyReused => Code::IdempotencyMismatch,
            Self::BudgetExhausted { .. } => Code::BudgetExhausted,
            Self::BlobMissing(_) => Code::NotInState,
            Self::SqliteTooOld { .. }
            | Self::RunExists(_)
            | Self::WrongSequence { .. }
            | Self::CommandUnknown(_)
            | Self::ReservationUnknown(_)
            | Self::OverSettled { .. } => Code::Internal,
        }
    }
}

impl From<sqlx::Error> for JournalError {
    /// Damage is told from failure by SQLite's primary result code
    /// (<https://www.sqlite.org/rescode.html>): 11 is `SQLITE_CORRUPT`, 26 `SQLITE_NOTADB`.
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code());
        let primary = code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
        match (primary, &error) {
            (Some(11 | 26), _) => Self::Corrupt(error.to_string()),
            (_, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Database(Arc::new(error)),
        }
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        let mut detail = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            detail = format!("{detail}: {cause}");
            source = cause.source();
        }
        let mut problem = Problem::new(error.code(), detail);
        problem.retryable = matches!(error, JournalError::RunHeld(_));
        // A write whose commit was not confirmed may or may not be on disk.
        problem.effect_unknown = matches!(error, JournalError::Crashed);
        problem
    }
}
