//! Starting a run, at most once per idempotency key, and the projection that lists show.

use cofferdam_contract::budget::BudgetKind;
use cofferdam_contract::chain;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{EventBody, RunEvent};
use cofferdam_contract::ids::{PrincipalId, RunId};
use cofferdam_contract::request::TaskType;
use cofferdam_contract::time::UtcTime;
use cofferdam_contract::trace::Correlation;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{FromRow as _, Row as _};

use crate::append::{Appended, NewEvent, Tail};
use crate::error::JournalError;
use crate::hold::Hold;
use crate::store::{from_db, parse, to_db};
use crate::writer::{Tx, Work};

/// A caller's key for one logical request, within one actor and one repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Idempotency {
    /// The key.
    pub key: String,
    /// Digest of what was asked for, without ids and times: the same key with another digest is
    /// refused.
    pub request: Digest,
}

/// What lists show of a run. Its meaning belongs to whoever appends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// State, such as `working`.
    pub state: String,
    /// The branch that was written.
    pub branch: Option<String>,
    /// Digest of the current proposal.
    pub digest: Option<Digest>,
}

impl Shown {
    /// A state, with nothing written or proposed.
    pub fn state(state: impl Into<String>) -> Self {
        Self { state: state.into(), branch: None, digest: None }
    }
}

/// A run that is to be started.
#[derive(Clone, PartialEq, Debug)]
pub struct NewRun {
    /// Its id.
    pub run: RunId,
    /// Who asks.
    pub actor: PrincipalId,
    /// What all its events share.
    pub correlation: Correlation,
    /// The repository, as lists show it and idempotency tells it from others.
    pub repository: String,
    /// Class.
    pub task_type: TaskType,
    /// Driver's name.
    pub driver: String,
    /// Its first event: the admission, or a refusal. An admission's budget is what the ledger
    /// gives out.
    pub first: EventBody,
    /// What lists show.
    pub shown: Shown,
    /// The caller's key, if it gave one.
    pub idempotency: Option<Idempotency>,
}

/// What came of starting a run.
#[derive(Debug)]
pub enum Start {
    /// It is started, and the caller holds it.
    New {
        /// The hold, of epoch 1.
        hold: Hold,
        /// The first event.
        appended: Appended,
    },
    /// The same request came before.
    Known(RunId),
}

/// One line of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// State.
    pub state: String,
    /// The repository.
    pub repository: String,
    /// Class.
    pub task_type: TaskType,
    /// Driver's name.
    pub driver: String,
    /// Who asked.
    pub actor: PrincipalId,
    /// When it was started.
    pub created: UtcTime,
    /// When its last event was appended.
    pub updated: UtcTime,
    /// The branch that was written.
    pub branch: Option<String>,
    /// Digest of the current proposal.
    pub digest: Option<Digest>,
    /// Epoch of the last hold.
    pub epoch: u64,
    /// How many events it has; the next free sequence.
    pub events: u64,
}

impl RunRow {
    fn read(row: &SqliteRow) -> Result<Self, JournalError> {
        let digest: Option<String> = row.try_get("digest")?;
        let task_type: String = row.try_get("task_type")?;
        let time = |ms: i64| from_db(ms).map(UtcTime::from_unix_ms);
        Ok(Self {
            run: parse(row.try_get("run")?)?,
            state: row.try_get("state")?,
            repository: row.try_get("repository")?,
            task_type: serde_json::from_value(task_type.into())
                .map_err(|error| JournalError::Corrupt(error.to_string()))?,
            driver: row.try_get("driver")?,
            actor: parse(row.try_get("actor")?)?,
            created: time(row.try_get("created_ms")?)?,
            updated: time(row.try_get("updated_ms")?)?,
            branch: row.try_get("branch")?,
            digest: digest.map(parse).transpose()?,
            epoch: from_db(row.try_get("epoch")?)?,
            events: from_db(row.try_get("next")?)?,
        })
    }
}

/// Every run, the newest first.
pub(crate) async fn list(readers: &SqlitePool) -> Result<Vec<RunRow>, JournalError> {
    let rows = sqlx::query("SELECT * FROM runs ORDER BY created_ms DESC, run DESC")
        .fetch_all(readers)
        .await?;
    rows.iter().map(RunRow::read).collect()
}

/// One run.
pub(crate) async fn find(readers: &SqlitePool, run: &RunId) -> Result<RunRow, JournalError> {
    let row = sqlx::query("SELECT * FROM runs WHERE run = ?")
        .bind(run.as_str())
        .fetch_optional(readers)
        .await?;
    RunRow::read(&row.ok_or_else(|| JournalError::RunUnknown(run.clone()))?)
}

/// Changes what lists show.
pub(crate) async fn show(tx: &mut Tx<'_>, run: &RunId, shown: &Shown) -> Result<(), JournalError> {
    sqlx::query("UPDATE runs SET state = ?, branch = ?, digest = ? WHERE run = ?")
        .bind(&shown.state)
        .bind(&shown.branch)
        .bind(shown.digest.map(String::from))
        .bind(run.as_str())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// See [`crate::Journal::start`].
pub(crate) struct StartRun(pub(crate) NewRun);

/// What the writer says about a start.
pub(crate) enum Started {
    New(Appended),
    Known(RunId),
}

impl Work for StartRun {
    type Output = Started;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Started, JournalError> {
        let new = self.0.clone();
        if let Some(known) = known_run(tx, &new).await? {
            return Ok(Started::Known(known));
        }
        insert(tx, &new).await?;
        if let Some(Idempotency { key, request }) = &new.idempotency {
            sqlx::query("INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)")
                .bind(key)
                .bind(new.actor.as_str())
                .bind(&new.repository)
                .bind(request.to_string())
                .bind(new.run.as_str())
                .execute(&mut *tx.connection)
                .await?;
        }
        if let EventBody::Run(RunEvent::Admitted(admitted)) = &new.first {
            for kind in [BudgetKind::WallMs, BudgetKind::ToolMs, BudgetKind::Attempts] {
                sqlx::query("INSERT INTO budgets (run, kind, total) VALUES (?, ?, ?)")
                    .bind(new.run.as_str())
                    .bind(crate::ledger::name(kind))
                    .bind(to_db(admitted.budget.of(kind)))
                    .execute(&mut *tx.connection)
                    .await?;
            }
        }
        let mut tail = Tail::read(tx, &new.run).await?;
        let first = NewEvent { id: None, body: new.first, actor: new.actor, cause: None };
        let stored = tail.append(tx, first)?;
        let next = tail.chain.next;
        tail.store(tx).await?;
        Ok(Started::New(Appended { events: vec![stored], next }))
    }
}

async fn known_run(tx: &mut Tx<'_>, new: &NewRun) -> Result<Option<RunId>, JournalError> {
    let Some(Idempotency { key, request }) = &new.idempotency else { return Ok(None) };
    let row = sqlx::query(
        "SELECT request, run FROM idempotency WHERE key = ? AND actor = ? AND repository = ?",
    )
    .bind(key)
    .bind(new.actor.as_str())
    .bind(&new.repository)
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (before, run) = <(String, String)>::from_row(&row)?;
    if before != request.to_string() {
        return Err(JournalError::KeyReused);
    }
    parse(run).map(Some)
}

async fn insert(tx: &mut Tx<'_>, new: &NewRun) -> Result<(), JournalError> {
    let json = |error: serde_json::Error| JournalError::Corrupt(error.to_string());
    let task_type = serde_json::to_value(new.task_type).map_err(json)?;
    let now_ms = to_db(tx.clock.now().unix_ms());
    let done = sqlx::query(
        "INSERT INTO runs VALUES (?, 1, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (run) DO NOTHING",
    )
    .bind(new.run.as_str())
    .bind(chain::run_genesis(&new.run).as_bytes().as_slice())
    .bind(serde_json::to_string(&new.correlation).map_err(json)?)
    .bind(&new.shown.state)
    .bind(&new.repository)
    .bind(task_type.as_str().unwrap_or_default())
    .bind(&new.driver)
    .bind(new.actor.as_str())
    .bind(now_ms)
    .bind(now_ms)
    .bind(&new.shown.branch)
    .bind(new.shown.digest.map(String::from))
    .execute(&mut *tx.connection)
    .await?;
    if done.rows_affected() == 0 {
        return Err(JournalError::RunExists(new.run.clone()));
    }
    Ok(())
}
