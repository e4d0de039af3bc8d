//! The second chain: signed heads across runs.
//!
//! A head says, signed, where a run's chain stood. Each head carries the link of the head before
//! it, so that a run cannot be taken out without breaking the chain of heads. Integrity is
//! promised up to the last signed head.

use cofferdam_contract::chain;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::time::UtcTime;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use crate::append::Tail;
use crate::error::JournalError;
use crate::keys::Signer;
use crate::store::{from_db, link, to_db};
use crate::writer::{Tx, Work};

/// What is signed, as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadStatement {
    /// What this is: `cofferdam.head.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Position in the chain of heads, from 0.
    pub number: u64,
    /// The run.
    pub run: RunId,
    /// The last sequence that it covers.
    pub sequence: u64,
    /// The run's link there.
    pub link: Digest,
    /// When it was signed.
    pub at: UtcTime,
    /// The link of the head before.
    pub previous: Digest,
    /// Which key signed it.
    pub key_id: String,
}

/// The type of every head that this build writes.
pub(crate) const HEAD_KIND: &str = "cofferdam.head.v1";

/// A head as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedHead {
    /// What it says.
    pub head: HeadStatement,
    /// The bytes that are signed.
    pub statement: Vec<u8>,
    /// Ed25519 over them.
    pub signature: Vec<u8>,
    /// The link of the chain of heads at this head.
    pub link: Digest,
}

impl SignedHead {
    pub(crate) fn read(row: &SqliteRow) -> Result<Self, JournalError> {
        let statement: Vec<u8> = row.try_get("statement")?;
        let head = serde_json::from_slice(&statement)
            .map_err(|error| JournalError::Corrupt(format!("no head: {error}")))?;
        let stored: Vec<u8> = row.try_get("link")?;
        Ok(Self { head, statement, signature: row.try_get("signature")?, link: link(&stored)? })
    }
}

/// The heads of one run, oldest first.
pub(crate) async fn of_run(
    readers: &SqlitePool,
    run: &RunId,
) -> Result<Vec<SignedHead>, JournalError> {
    let rows = sqlx::query("SELECT * FROM heads WHERE run = ? ORDER BY number")
        .bind(run.as_str())
        .fetch_all(readers)
        .await?;
    rows.iter().map(SignedHead::read).collect()
}

/// See [`crate::Journal::seal`].
pub(crate) struct Seal {
    pub(crate) run: RunId,
    pub(crate) signer: Signer,
}

impl Work for Seal {
    type Output = SignedHead;

    fn of(&self) -> Option<(&RunId, bool)> {
        Some((&self.run, false))
    }

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<SignedHead, JournalError> {
        let tail = Tail::read(tx, &self.run).await?;
        let last = last_of(
            tx,
            "SELECT * FROM heads WHERE run = ? ORDER BY number DESC LIMIT 1",
            Some(&self.run),
        )
        .await?;
        if let Some(last) = &last
            && last.head.sequence + 1 == tail.chain.next
            && last.head.link == tail.chain.link
        {
            return Ok(last.clone());
        }
        check_since(tx, &tail, last.as_ref()).await?;
        let before = last_of(tx, "SELECT * FROM heads ORDER BY number DESC LIMIT 1", None).await?;
        let head = HeadStatement {
            kind: HEAD_KIND.to_owned(),
            number: before.as_ref().map_or(0, |before| before.head.number + 1),
            run: self.run.clone(),
            sequence: tail.chain.next.saturating_sub(1),
            link: tail.chain.link,
            at: tx.clock.now(),
            previous: before.map_or_else(chain::heads_genesis, |before| before.link),
            key_id: self.signer.key_id().to_owned(),
        };
        let statement =
            serde_json::to_vec(&head).map_err(|error| JournalError::Corrupt(error.to_string()))?;
        let signature = self.signer.sign(&statement).to_vec();
        let link = chain::head_link(&head.previous, &statement);
        sqlx::query("INSERT INTO heads VALUES (?, ?, ?, ?, ?, ?)")
            .bind(to_db(head.number))
            .bind(self.run.as_str())
            .bind(to_db(head.sequence))
            .bind(statement.as_slice())
            .bind(signature.as_slice())
            .bind(link.as_bytes().as_slice())
            .execute(&mut *tx.connection)
            .await?;
        Ok(SignedHead { head, statement, signature, link })
    }
}

async fn last_of(
    tx: &mut Tx<'_>,
    query: &'static str,
    run: Option<&RunId>,
) -> Result<Option<SignedHead>, JournalError> {
    let mut query = sqlx::query(query);
    if let Some(run) = run {
        query = query.bind(run.as_str());
    }
    let row = query.fetch_optional(&mut *tx.connection).await?;
    row.as_ref().map(SignedHead::read).transpose()
}

/// Follows the chain from the last signed head to the tail: a head must never sign what was
/// edited before it.
async fn check_since(
    tx: &mut Tx<'_>,
    tail: &Tail,
    last: Option<&SignedHead>,
) -> Result<(), JournalError> {
    let (mut sequence, mut link) = match last {
        Some(last) => (last.head.sequence + 1, last.head.link),
        None => (0, chain::run_genesis(&tail.chain.run)),
    };
    while sequence < tail.chain.next {
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "SELECT sequence, bytes FROM events WHERE run = ? AND sequence >= ?
             ORDER BY sequence LIMIT 1000",
        )
        .bind(tail.chain.run.as_str())
        .bind(to_db(sequence))
        .fetch_all(&mut *tx.connection)
        .await?;
        if rows.is_empty() {
            break;
        }
        for (found, bytes) in rows {
            if from_db(found)? != sequence {
                break;
            }
            link = chain::event_link(&link, sequence, &bytes);
            sequence += 1;
        }
    }
    if sequence == tail.chain.next && link == tail.chain.link {
        return Ok(());
    }
    Err(JournalError::Corrupt(format!(
        "the chain of run {} breaks and is not signed",
        tail.chain.run
    )))
}
