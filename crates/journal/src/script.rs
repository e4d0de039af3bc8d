//! Statements that are carried out together.
//!
//! The connection has a thread of its own, and a trip to it and back costs more than most
//! statements (see docs/decisions/0009). Must never know what a statement is for.

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Sqlite, Type};

use crate::error::JournalError;
use crate::writer::Tx;

/// Longer scripts differ from each other and are not worth being remembered as prepared.
const REMEMBERED_BYTES_MAX: usize = 1024;

/// Statements with their arguments, in order.
#[derive(Default)]
pub(crate) struct Script {
    sql: String,
    arguments: SqliteArguments,
}

impl Script {
    /// Adds a statement; its arguments come next, in the order of its question marks.
    pub(crate) fn add(&mut self, statement: &'static str) -> &mut Self {
        self.sql.push_str(statement);
        self.sql.push(';');
        self
    }

    /// Adds an argument.
    ///
    /// # Errors
    /// If it cannot be encoded, which text, numbers and bytes can.
    pub(crate) fn bind<'q, T>(&mut self, value: T) -> Result<&mut Self, JournalError>
    where
        T: Encode<'q, Sqlite> + Type<Sqlite>,
    {
        self.arguments.add(value).map_err(sqlx::Error::Encode)?;
        Ok(self)
    }

    /// Carries all of it out.
    pub(crate) async fn run(self, tx: &mut Tx<'_>) -> Result<(), JournalError> {
        let remembered = self.sql.len() <= REMEMBERED_BYTES_MAX;
        // The text is put together from statements that are in this program.
        sqlx::query_with(AssertSqlSafe(self.sql), self.arguments)
            .persistent(remembered)
            .execute(&mut *tx.connection)
            .await?;
        Ok(())
    }
}
