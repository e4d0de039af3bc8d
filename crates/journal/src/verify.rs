//! Finds what was edited, dropped, reordered or moved, and says where.
//!
//! Read-only, and independent of what wrote: it takes nothing from the projections. Up to a run's
//! last signed head, any change is found; behind it, any change that does not recompute the whole
//! rest of the chain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cofferdam_contract::chain;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::blobs;
use crate::error::JournalError;
use crate::keys::Signer;
use crate::seal::{HEAD_KIND, SignedHead};
use crate::store::{from_db, link, to_db};
use crate::upcast::read_event;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultKind {
    /// An event's bytes and its link do not belong together: edited, reordered, or from elsewhere.
    EventChanged,
    /// Events are missing.
    EventMissing,
    /// Bytes that cannot be read as an event of this run at this sequence.
    EventUnreadable,
    /// The run is not there, though a head or its events say it was.
    RunMissing,
    /// The run's row says another end of the chain than its events.
    TailChanged,
    /// The chain of heads breaks here.
    HeadChanged,
    /// A head is missing.
    HeadMissing,
    /// A head is not signed by this journal's key.
    HeadForged,
    /// The head signed another link than the events have.
    HeadMismatch,
    /// A blob is not what its digest says.
    BlobChanged,
    /// A blob that was never pruned is gone.
    BlobMissing,
}

/// One thing that is wrong, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// In which run.
    pub run: Option<RunId>,
    /// At which sequence.
    pub sequence: Option<u64>,
    /// At which head.
    pub head: Option<u64>,
    /// Which blob.
    pub blob: Option<Digest>,
}

impl Fault {
    fn of_run(kind: FaultKind, run: &RunId, sequence: impl Into<Option<u64>>) -> Self {
        let (sequence, head, blob) = (sequence.into(), None, None);
        Self { kind, run: Some(run.clone()), sequence, head, blob }
    }

    fn of_head(kind: FaultKind, head: u64, run: Option<RunId>) -> Self {
        Self { kind, run, sequence: None, head: Some(head), blob: None }
    }

    fn of_blob(kind: FaultKind, blob: Digest, run: RunId) -> Self {
        Self { kind, run: Some(run), sequence: None, head: None, blob: Some(blob) }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            FaultKind::EventChanged => "an event was changed, moved or put in",
            FaultKind::EventMissing => "events are missing",
            FaultKind::EventUnreadable => "an event cannot be read",
            FaultKind::RunMissing => "a run is missing",
            FaultKind::TailChanged => "the recorded end of the chain is not its end",
            FaultKind::HeadChanged => "a signed head was changed or moved",
            FaultKind::HeadMissing => "a signed head is missing",
            FaultKind::HeadForged => "a head is not signed by this journal's key",
            FaultKind::HeadMismatch => "the events are not those that were signed",
            FaultKind::BlobChanged => "a blob was changed",
            FaultKind::BlobMissing => "a blob is missing",
        };
        f.write_str(what)?;
        if let Some(run) = &self.run {
            write!(f, ", run {run}")?;
        }
        if let Some(sequence) = self.sequence {
            write!(f, ", sequence {sequence}")?;
        }
        if let Some(head) = self.head {
            write!(f, ", head {head}")?;
        }
        if let Some(blob) = &self.blob {
            write!(f, ", {blob}")?;
        }
        Ok(())
    }
}

/// The answer of [`crate::Journal::verify`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyReport {
    /// Everything that is wrong; empty for an intact journal.
    pub faults: Vec<Fault>,
    /// Runs that were looked at.
    pub runs: u64,
    /// Events that were looked at.
    pub events: u64,
    /// Events that a signed head covers.
    pub events_sealed: u64,
    /// Signed heads that were looked at.
    pub heads: u64,
    /// Blobs that were looked at.
    pub blobs: u64,
    /// The link of the last head: kept elsewhere, it shows that no head was taken off the end.
    pub last_head: Option<Digest>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn ok(&self) -> bool {
        self.faults.is_empty()
    }
}

/// What a run's last head, and those before it, signed: link by sequence.
type Sealed = BTreeMap<RunId, BTreeMap<u64, (u64, Digest)>>;

/// Looks at everything.
pub(crate) async fn verify(
    snapshot: &mut SqliteConnection,
    signer: &Signer,
    blobs_root: &Path,
) -> Result<VerifyReport, JournalError> {
    let mut report = VerifyReport::default();
    let sealed = heads(&mut *snapshot, signer, &mut report).await?;
    let tails = tails(&mut *snapshot).await?;
    let mut runs: BTreeSet<RunId> = tails.keys().chain(sealed.keys()).cloned().collect();
    runs.extend(runs_with_events(&mut *snapshot).await?);
    report.runs = runs.len() as u64;
    for run in &runs {
        let seals = sealed.get(run).cloned().unwrap_or_default();
        check_run(&mut *snapshot, run, tails.get(run), seals, &mut report).await?;
    }
    for (digest, run) in blobs::kept(&mut *snapshot).await? {
        report.blobs += 1;
        match blobs::read(blobs_root, &digest) {
            Ok(_) => {}
            Err(JournalError::BlobMissing(_)) => {
                report.faults.push(Fault::of_blob(FaultKind::BlobMissing, digest, run));
            }
            Err(JournalError::Corrupt(_)) => {
                report.faults.push(Fault::of_blob(FaultKind::BlobChanged, digest, run));
            }
            Err(error) => return Err(error),
        }
    }
    report.faults.sort();
    Ok(report)
}

async fn heads(
    snapshot: &mut SqliteConnection,
    signer: &Signer,
    report: &mut VerifyReport,
) -> Result<Sealed, JournalError> {
    let mut sealed = Sealed::new();
    let (mut next, mut previous) = (0, chain::heads_genesis());
    let rows = sqlx::query("SELECT * FROM heads ORDER BY number").fetch_all(&mut *snapshot).await?;
    for row in rows {
        report.heads += 1;
        let number = from_db(row.try_get("number")?)?;
        if number != next {
            report.faults.push(Fault::of_head(FaultKind::HeadMissing, next, None));
        }
        next = number + 1;
        let Ok(found) = SignedHead::read(&row) else {
            report.faults.push(Fault::of_head(FaultKind::HeadChanged, number, None));
            continue;
        };
        let head = found.head.clone();
        let fault = if !signer.verify(&found.statement, &found.signature) {
            Some(FaultKind::HeadForged)
        } else if !head_fits(&row, &found, number, &previous)? {
            Some(FaultKind::HeadChanged)
        } else {
            None
        };
        previous = found.link;
        match fault {
            Some(kind) => report.faults.push(Fault::of_head(kind, number, Some(head.run))),
            None => {
                sealed.entry(head.run).or_default().insert(head.sequence, (number, head.link));
            }
        }
    }
    report.last_head = (next > 0).then_some(previous);
    Ok(sealed)
}

/// Whether a head whose signature is good stands where it says, and the row says what it says.
fn head_fits(
    row: &SqliteRow,
    found: &SignedHead,
    number: u64,
    previous: &Digest,
) -> Result<bool, JournalError> {
    let (run, sequence): (String, i64) = (row.try_get("run")?, row.try_get("sequence")?);
    let head = &found.head;
    Ok(head.kind == HEAD_KIND
        && head.number == number
        && head.previous == *previous
        && head.run.as_str() == run
        && to_db(head.sequence) == sequence
        && chain::head_link(previous, &found.statement) == found.link)
}

async fn tails(
    snapshot: &mut SqliteConnection,
) -> Result<BTreeMap<RunId, (u64, Digest)>, JournalError> {
    let rows: Vec<(String, i64, Vec<u8>)> =
        sqlx::query_as("SELECT run, next, link FROM runs").fetch_all(&mut *snapshot).await?;
    let tail = |(run, next, last): (String, i64, Vec<u8>)| {
        Ok((crate::store::parse(run)?, (from_db(next)?, link(&last)?)))
    };
    rows.into_iter().map(tail).collect()
}

async fn runs_with_events(snapshot: &mut SqliteConnection) -> Result<Vec<RunId>, JournalError> {
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT run FROM events").fetch_all(&mut *snapshot).await?;
    rows.into_iter().map(crate::store::parse).collect()
}

/// Follows one run's chain from its beginning to its end.
async fn check_run(
    snapshot: &mut SqliteConnection,
    run: &RunId,
    tail: Option<&(u64, Digest)>,
    mut seals: BTreeMap<u64, (u64, Digest)>,
    report: &mut VerifyReport,
) -> Result<(), JournalError> {
    let sealed_through = seals.keys().next_back().copied();
    let (mut next, mut link) = (0, chain::run_genesis(run));
    loop {
        let rows = sqlx::query(
            "SELECT sequence, link, bytes FROM events WHERE run = ? AND sequence >= ?
             ORDER BY sequence LIMIT 1000",
        )
        .bind(run.as_str())
        .bind(to_db(next))
        .fetch_all(&mut *snapshot)
        .await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            report.events += 1;
            let sequence = from_db(row.try_get("sequence")?)?;
            if sequence != next {
                report.faults.push(Fault::of_run(FaultKind::EventMissing, run, next));
            }
            link = check_event(&row, run, sequence, &link, &mut report.faults)?;
            report.events_sealed += u64::from(sealed_through.is_some_and(|end| sequence <= end));
            if let Some((head, signed)) = seals.remove(&sequence)
                && signed != link
            {
                let mut fault = Fault::of_run(FaultKind::HeadMismatch, run, sequence);
                fault.head = Some(head);
                report.faults.push(fault);
            }
            next = sequence + 1;
        }
    }
    if tail.is_none() || (next == 0 && sealed_through.is_some()) {
        report.faults.push(Fault::of_run(FaultKind::RunMissing, run, None));
    } else if seals.keys().any(|sequence| *sequence >= next) || tail.is_some_and(|t| t.0 > next) {
        report.faults.push(Fault::of_run(FaultKind::EventMissing, run, next));
    } else if tail.is_some_and(|tail| *tail != (next, link)) {
        report.faults.push(Fault::of_run(FaultKind::TailChanged, run, None));
    }
    Ok(())
}

/// The stored link of one event, after what is wrong with it was noted. Going on from the stored
/// link, not the computed one, names each changed event once instead of all after it.
fn check_event(
    row: &SqliteRow,
    run: &RunId,
    sequence: u64,
    previous: &Digest,
    faults: &mut Vec<Fault>,
) -> Result<Digest, JournalError> {
    let (stored, bytes): (Vec<u8>, Vec<u8>) = (row.try_get("link")?, row.try_get("bytes")?);
    let computed = chain::event_link(previous, sequence, &bytes);
    let stored = link(&stored).unwrap_or(computed);
    if stored != computed {
        faults.push(Fault::of_run(FaultKind::EventChanged, run, sequence));
    }
    let fits =
        read_event(&bytes).is_ok_and(|event| event.run == *run && event.sequence == sequence);
    if !fits {
        faults.push(Fault::of_run(FaultKind::EventUnreadable, run, sequence));
    }
    Ok(stored)
}
