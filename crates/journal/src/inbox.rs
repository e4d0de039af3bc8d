//! Commands for a run that somebody else holds: inserted by whoever asks, taken by the holder.
//!
//! An operation key is unique: asking twice is asking once. A command stays until the events that
//! answer it are appended, in the same transaction ([`crate::Batch::finishes`]).

use std::collections::HashSet;

use cofferdam_contract::ids::{CommandId, PrincipalId, RunId};
use cofferdam_contract::time::UtcTime;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{FromRow as _, Row as _};

use crate::error::JournalError;
use crate::store::{from_db, parse, to_db};
use crate::writer::{Tx, Work};

/// A command that is to be inserted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewCommand {
    /// Its id, unless its operation key was used before.
    pub id: CommandId,
    /// For which run.
    pub run: RunId,
    /// The same key with the same body is the same command.
    pub operation_key: String,
    /// Who asks.
    pub actor: PrincipalId,
    /// What is asked for (JSON).
    pub body: String,
}

/// A command as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandRow {
    /// Its id.
    pub id: CommandId,
    /// For which run.
    pub run: RunId,
    /// The key.
    pub operation_key: String,
    /// Who asks.
    pub actor: PrincipalId,
    /// When.
    pub created: UtcTime,
    /// What is asked for (JSON).
    pub body: String,
    /// What came of it (JSON), once it is done.
    pub outcome: Option<String>,
}

impl CommandRow {
    fn read(row: &SqliteRow) -> Result<Self, JournalError> {
        Ok(Self {
            id: parse(row.try_get("id")?)?,
            run: parse(row.try_get("run")?)?,
            operation_key: row.try_get("operation_key")?,
            actor: parse(row.try_get("actor")?)?,
            created: UtcTime::from_unix_ms(from_db(row.try_get("created_ms")?)?),
            body: row.try_get("body")?,
            outcome: row.try_get("outcome")?,
        })
    }
}

/// The commands of `run` that are not done, oldest first.
pub(crate) async fn waiting(
    readers: &SqlitePool,
    run: &RunId,
) -> Result<Vec<CommandRow>, JournalError> {
    let rows = sqlx::query("SELECT * FROM inbox WHERE run = ? AND outcome IS NULL ORDER BY number")
        .bind(run.as_str())
        .fetch_all(readers)
        .await?;
    rows.iter().map(CommandRow::read).collect()
}

/// The runs with commands that are not done.
pub(crate) async fn waiting_runs(readers: &SqlitePool) -> Result<HashSet<RunId>, JournalError> {
    let rows = sqlx::query("SELECT DISTINCT run FROM inbox WHERE outcome IS NULL")
        .fetch_all(readers)
        .await?;
    rows.iter().map(|row| parse(row.try_get("run")?)).collect()
}

/// One command.
pub(crate) async fn find(readers: &SqlitePool, id: &CommandId) -> Result<CommandRow, JournalError> {
    let row = sqlx::query("SELECT * FROM inbox WHERE id = ?")
        .bind(id.as_str())
        .fetch_optional(readers)
        .await?;
    CommandRow::read(&row.ok_or_else(|| JournalError::CommandUnknown(id.clone()))?)
}

/// Marks a command done; a repeat changes nothing.
pub(crate) async fn finish(
    tx: &mut Tx<'_>,
    id: &CommandId,
    outcome: &str,
) -> Result<(), JournalError> {
    let done = sqlx::query("UPDATE inbox SET outcome = coalesce(outcome, ?) WHERE id = ?")
        .bind(outcome)
        .bind(id.as_str())
        .execute(&mut *tx.connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(JournalError::CommandUnknown(id.clone()));
    }
    Ok(())
}

/// See [`crate::Journal::command`].
pub(crate) struct Insert(pub(crate) NewCommand);

impl Work for Insert {
    type Output = CommandId;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<CommandId, JournalError> {
        let new = &self.0;
        let before = sqlx::query("SELECT id, run, body FROM inbox WHERE operation_key = ?")
            .bind(&new.operation_key)
            .fetch_optional(&mut *tx.connection)
            .await?;
        if let Some(before) = before {
            let (id, run, body) = <(String, String, String)>::from_row(&before)?;
            let same = run == new.run.as_str() && body == new.body;
            return if same { parse(id) } else { Err(JournalError::KeyReused) };
        }
        let done = sqlx::query(
            "INSERT INTO inbox (id, run, operation_key, actor, created_ms, body)
             SELECT ?, run, ?, ?, ?, ? FROM runs WHERE run = ?",
        )
        .bind(new.id.as_str())
        .bind(&new.operation_key)
        .bind(new.actor.as_str())
        .bind(to_db(tx.clock.now().unix_ms()))
        .bind(&new.body)
        .bind(new.run.as_str())
        .execute(&mut *tx.connection)
        .await?;
        if done.rows_affected() == 0 {
            return Err(JournalError::RunUnknown(new.run.clone()));
        }
        Ok(new.id.clone())
    }
}

/// See [`crate::Journal::finish_command`].
pub(crate) struct Finish {
    pub(crate) id: CommandId,
    pub(crate) outcome: String,
}

impl Work for Finish {
    type Output = ();

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), JournalError> {
        finish(tx, &self.id, &self.outcome).await
    }
}
