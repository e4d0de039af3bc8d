//! Opens the SQLite database: version, format, pragmas. Knows no table's meaning.

use std::path::Path;
use std::time::Duration;

use cofferdam_contract::digest::Digest;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::error::JournalError;

/// The newest format of the database that this build knows, in `PRAGMA user_version`.
const FORMAT: i64 = 1;
/// Older versions can corrupt a WAL database when two connections write and checkpoint at once
/// (<https://www.sqlite.org/wal.html#walresetbug>).
const SQLITE_NEEDED: (&str, [u32; 3]) = ("3.51.3", [3, 51, 3]);
/// How long another process may hold the write lock before an append fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections for reading.
const READERS_MAX: u32 = 4;

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// The one connection that writes.
pub(crate) async fn open_writer(path: &Path) -> Result<SqliteConnection, JournalError> {
    let options = options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    check_version(&mut connection).await?;
    make_schema(&mut connection).await?;
    Ok(connection)
}

/// The connections that read. They cannot write.
pub(crate) fn open_readers(path: &Path) -> SqlitePool {
    let options = options(path).pragma("query_only", "ON");
    SqlitePoolOptions::new().max_connections(READERS_MAX).connect_lazy_with(options)
}

async fn check_version(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    let found: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut *connection).await?;
    let mut parts = found.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version: [u32; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    if version < SQLITE_NEEDED.1 {
        return Err(JournalError::SqliteTooOld { found, needed: SQLITE_NEEDED.0 });
    }
    Ok(())
}

async fn make_schema(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *tx).await?;
    match found {
        FORMAT => return Ok(tx.rollback().await?),
        0 => {}
        _ => return Err(JournalError::FormatUnknown { found, known: FORMAT }),
    }
    sqlx::raw_sql(include_str!("schema.sql")).execute(&mut *tx).await?;
    sqlx::raw_sql("PRAGMA user_version = 1").execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

/// A number as SQLite has it: 63 bits. Larger ones become the largest, which only budgets meet.
pub(crate) fn to_db(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that was stored by [`to_db`].
pub(crate) fn from_db(number: i64) -> Result<u64, JournalError> {
    u64::try_from(number).map_err(|_| JournalError::Corrupt("a number is negative".to_owned()))
}

/// A stored value in its type.
pub(crate) fn parse<T>(text: String) -> Result<T, JournalError>
where
    T: TryFrom<String>,
    T::Error: std::fmt::Display,
{
    T::try_from(text).map_err(|error| JournalError::Corrupt(error.to_string()))
}

/// A stored link.
pub(crate) fn link(bytes: &[u8]) -> Result<Digest, JournalError> {
    let bytes = bytes.try_into().map_err(|_| JournalError::Corrupt("a link is cut".to_owned()))?;
    Ok(Digest::from_bytes(bytes))
}
