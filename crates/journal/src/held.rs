//! The end of a held run's chain in memory, and the commits that need no transaction.
//!
//! Whoever holds a run is the only one who appends to it, so its holder need not ask the database
//! where the chain ends and what is left of the budget: it knows, from its last look. A commit is
//! then one write to the [`crate::log`]; the database takes it over later, in order, and before
//! anything else is done or read there. What cannot be decided here, such as a refusal, is left to
//! the database. Must never know what waits for a commit.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cofferdam_contract::budget::BudgetKind;
use cofferdam_contract::events::{BudgetEvent, Reserved, Settled};
use cofferdam_contract::ids::{ReservationId, RunId};
use cofferdam_contract::ports::{Clock, Entropy};

use crate::append::{Chain, Durability, EVENT_BYTES_MAX, NewEvent};
use crate::blobs::{Blob, INLINE_BYTES_MAX};
use crate::catch_up::{CatchUp, Look};
use crate::error::JournalError;
use crate::ledger::{Account, Page};
use crate::log::{Log, LoggedBlob, Record, place};
#[cfg(feature = "fault")]
use crate::writer::Moment;
use crate::writer::Writer;

/// The database is asked to take over what it lacks from so many bytes on.
const BEHIND_BYTES: u64 = 256 << 10;
/// With so many bytes lacking, commits wait for the database.
const BEHIND_BYTES_MAX: u64 = 16 << 20;

/// What the database last said of a run, and what was committed since.
pub(crate) struct End {
    pub(crate) chain: Chain,
    /// What can still be reserved.
    pub(crate) left: HashMap<BudgetKind, u64>,
    /// Reservations of this hold.
    pub(crate) open: HashMap<ReservationId, (BudgetKind, u64)>,
}

/// What became of a commit that was tried here.
pub(crate) enum Tried<T> {
    /// It survives this process.
    Done(T),
    /// The end of the chain is not known.
    Unknown,
    /// The database must decide.
    Undecided,
}

struct State {
    log: Log,
    /// None until the database was asked, and again once it moved the chain itself.
    end: Option<End>,
    /// Counts how often it did.
    moved: u64,
    /// The database has everything up to here.
    taken: u64,
    /// How often the log began anew.
    cleared: u64,
    /// It was asked to take over the rest.
    asked: bool,
    over: bool,
}

/// One held run. It is over when its hold is dropped.
pub(crate) struct Held {
    run: RunId,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    state: Mutex<State>,
    #[cfg(feature = "fault")]
    faults: crate::fault::Countdown,
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// Commits events. An event that is too large is left to the database to refuse.
    pub(crate) fn append(&self, events: &[NewEvent]) -> Result<Tried<()>, JournalError> {
        self.commit(|draft| draft.events(events.iter().cloned()))
    }

    /// Sets as much within `bounds` aside as there is, and commits what it is for.
    pub(crate) fn reserve(
        &self,
        by: &Account,
        (kind, bounds): (BudgetKind, &RangeInclusive<u64>),
        page: &Page,
    ) -> Result<Tried<(ReservationId, u64)>, JournalError> {
        self.commit(|draft| {
            let left = draft.end.left.get(&kind).copied().unwrap_or(0);
            let amount = left.min(*bounds.end());
            if amount < *bounds.start() {
                return None;
            }
            let reservation = ReservationId::generate(&*self.clock, &*self.entropy);
            let reserved = Reserved { reservation: reservation.clone(), kind, amount };
            let reserved = by.event(BudgetEvent::Reserved(reserved), &page.cause);
            draft.blobs(&page.blobs)?;
            draft.events(std::iter::once(reserved).chain(page.events.iter().cloned()))?;
            draft.then = Then::Reserve(reservation.clone(), kind, amount);
            Some((reservation, amount))
        })
    }

    /// Commits what came of it and replaces a reservation.
    pub(crate) fn settle(
        &self,
        by: &Account,
        (reservation, spent): (&ReservationId, u64),
        page: &Page,
    ) -> Result<Tried<()>, JournalError> {
        self.commit(|draft| {
            let (kind, amount) = *draft.end.open.get(reservation)?;
            let unspent = amount.checked_sub(spent)?;
            let settled = Settled { reservation: reservation.clone(), kind, spent };
            let settled = by.event(BudgetEvent::Settled(settled), &page.cause);
            draft.blobs(&page.blobs)?;
            draft.events(page.events.iter().cloned().chain([settled]))?;
            draft.then = Then::Settle(reservation.clone(), kind, unspent);
            Some(())
        })
    }

    /// Makes a record and writes it; without one, the database must decide.
    fn commit<T>(
        &self,
        make: impl FnOnce(&mut Draft<'_>) -> Option<T>,
    ) -> Result<Tried<T>, JournalError> {
        let mut state = self.state();
        if state.over || state.log.length() - state.taken > BEHIND_BYTES_MAX {
            return Ok(Tried::Undecided);
        }
        let Some(end) = &state.end else { return Ok(Tried::Unknown) };
        let mut draft = Draft {
            end,
            by: self,
            chain: end.chain.clone(),
            events: vec![],
            blobs: vec![],
            then: Then::Nothing,
        };
        let Some(made) = make(&mut draft) else { return Ok(Tried::Undecided) };
        let Draft { chain, events, blobs, then, .. } = draft;
        let (first, link) = (end.chain.next, chain.link);
        let at_ms = self.clock.now().unix_ms();
        self.write(&mut state.log, &Record { first, link, at_ms, events, blobs })?;
        if let Some(end) = &mut state.end {
            end.chain = chain;
            match then {
                Then::Nothing => {}
                Then::Reserve(reservation, kind, amount) => {
                    *end.left.entry(kind).or_default() -= amount;
                    end.open.insert(reservation, (kind, amount));
                }
                Then::Settle(reservation, kind, unspent) => {
                    *end.left.entry(kind).or_default() += unspent;
                    end.open.remove(&reservation);
                }
            }
        }
        Ok(Tried::Done(made))
    }

    #[cfg(not(feature = "fault"))]
    fn write(&self, log: &mut Log, record: &Record) -> Result<(), JournalError> {
        log.append(record).map_err(|error| JournalError::file("write", log.path(), error))
    }

    /// As without the feature, or with a death before, in the middle of, or after the write.
    #[cfg(feature = "fault")]
    fn write(&self, log: &mut Log, record: &Record) -> Result<(), JournalError> {
        let mut faults = self.faults.clone();
        faults.alive()?;
        if faults.dies(Moment::Before) {
            return Err(JournalError::Crashed);
        }
        let torn = faults.dies(Moment::Amid);
        let written = if torn { log.tear(record) } else { log.append(record) };
        written.map_err(|error| JournalError::file("write", log.path(), error))?;
        if torn || faults.dies(Moment::After) { Err(JournalError::Crashed) } else { Ok(()) }
    }

    /// Whether the database is to be asked now to take over what it lacks; says so once.
    pub(crate) fn is_to_be_taken(&self) -> bool {
        let mut state = self.state();
        let due = !state.asked && state.log.length() - state.taken > BEHIND_BYTES;
        state.asked |= due;
        due
    }

    /// What the database lacks of the log.
    fn lacking(&self) -> Lacking {
        let state = self.state();
        let (path, to) = (state.log.path().to_owned(), Some(state.log.length()));
        Lacking { path, from: state.taken, to, cleared: state.cleared }
    }

    /// The database is about to move the chain itself.
    pub(crate) fn moves(&self) {
        let mut state = self.state();
        state.end = None;
        state.moved += 1;
    }

    /// How often it did.
    pub(crate) fn moved(&self) -> u64 {
        self.state().moved
    }

    /// Takes what the database said, unless it moved the chain since or another look came first.
    pub(crate) fn know(&self, moved: u64, end: End) {
        let mut state = self.state();
        if state.moved == moved && state.end.is_none() && !state.over {
            state.end = Some(end);
        }
    }

    /// The database has everything up to `end` for good, unless that was of an earlier log.
    pub(crate) fn took(&self, cleared: u64, end: u64) {
        let mut state = self.state();
        if state.cleared != cleared {
            return;
        }
        state.asked = false;
        state.taken = state.taken.max(end);
        let all = state.taken == state.log.length();
        if all && state.taken > BEHIND_BYTES && state.log.clear().is_ok() {
            (state.taken, state.cleared) = (0, state.cleared + 1);
        }
    }

    /// Nothing is committed here any more. A log that the database has is of no use then.
    fn close(&self) {
        let mut state = self.state();
        (state.over, state.end) = (true, None);
        if state.taken == state.log.length() {
            let _ = state.log.clear();
        }
    }
}

/// Tries a commit until the end of the chain is known. `None`: the database must decide.
pub(crate) async fn commit<T>(
    writer: &Writer,
    held: &Arc<Held>,
    epoch: u64,
    attempt: impl Fn() -> Result<Tried<T>, JournalError>,
) -> Result<Option<T>, JournalError> {
    loop {
        match attempt()? {
            Tried::Done(done) => {
                if held.is_to_be_taken() {
                    writer.leave(CatchUp(held.run().clone()));
                }
                return Ok(Some(done));
            }
            Tried::Undecided => return Ok(None),
            Tried::Unknown => {
                let look = Look { held: Arc::clone(held), epoch };
                writer.run(look, Durability::Commit).await?;
            }
        }
    }
}

/// What a commit does to the budget.
enum Then {
    Nothing,
    Reserve(ReservationId, BudgetKind, u64),
    Settle(ReservationId, BudgetKind, u64),
}

/// A record in the making.
struct Draft<'a> {
    end: &'a End,
    by: &'a Held,
    chain: Chain,
    events: Vec<Vec<u8>>,
    blobs: Vec<LoggedBlob>,
    then: Then,
}

impl Draft<'_> {
    fn events(&mut self, new: impl Iterator<Item = NewEvent>) -> Option<()> {
        for event in new {
            let stored = self.chain.extend(&*self.by.clock, &*self.by.entropy, event).ok()?;
            self.events.push(stored.bytes);
        }
        // Larger commits are rare, and would fill the log.
        let bytes: usize = self.events.iter().map(Vec::len).sum();
        (bytes <= EVENT_BYTES_MAX).then_some(())
    }

    fn blobs(&mut self, blobs: &[Blob]) -> Option<()> {
        for blob in blobs {
            let bytes = blob.bytes();
            if bytes.len() > INLINE_BYTES_MAX {
                return None;
            }
            let (digest, retention) = (blob.digest(), blob.retention());
            self.blobs.push(LoggedBlob { digest, retention, bytes: bytes.to_vec() });
        }
        Some(())
    }
}

/// A part of a log.
pub(crate) struct Lacking {
    pub(crate) path: PathBuf,
    pub(crate) from: u64,
    /// At least up to here, where the holder is asked.
    pub(crate) to: Option<u64>,
    /// Which log of the hold it is.
    pub(crate) cleared: u64,
}

/// The runs that this process holds, for its writer.
#[derive(Clone)]
pub(crate) struct Holds {
    logs: Arc<Path>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    by_run: Arc<Mutex<HashMap<RunId, Weak<Held>>>>,
    #[cfg(feature = "fault")]
    pub(crate) faults: crate::fault::Countdown,
}

impl Holds {
    pub(crate) fn new(
        logs: Arc<Path>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        #[cfg(feature = "fault")] faults: crate::fault::Countdown,
    ) -> Self {
        Self {
            logs,
            clock,
            entropy,
            by_run: Arc::default(),
            #[cfg(feature = "fault")]
            faults,
        }
    }

    fn by_run(&self) -> MutexGuard<'_, HashMap<RunId, Weak<Held>>> {
        self.by_run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, run: &RunId) -> Option<Arc<Held>> {
        self.by_run().get(run).and_then(Weak::upgrade)
    }

    /// Begins a hold of a run whose lock is held and whose log the database has.
    pub(crate) fn begin(&self, run: &RunId) -> Result<Arc<Held>, JournalError> {
        let log = Log::new(&self.logs, run)
            .map_err(|error| JournalError::file("remove", &place(&self.logs, run), error))?;
        let state =
            State { log, end: None, moved: 0, taken: 0, cleared: 0, asked: false, over: false };
        let held = Arc::new(Held {
            run: run.clone(),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            state: Mutex::new(state),
            #[cfg(feature = "fault")]
            faults: self.faults.clone(),
        });
        self.by_run().insert(run.clone(), Arc::downgrade(&held));
        Ok(held)
    }

    pub(crate) fn end(&self, held: &Held) {
        held.close();
        self.by_run().remove(&held.run);
    }

    /// What the database may lack of the log of a run.
    pub(crate) fn lacking(&self, run: &RunId) -> Lacking {
        let (path, from, to, cleared) = (place(&self.logs, run), 0, None, 0);
        let unheld = Lacking { path, from, to, cleared };
        self.find(run).map_or(unheld, |held| held.lacking())
    }

    /// Whether the database may lack something of `run`.
    pub(crate) fn is_behind(&self, run: &RunId) -> bool {
        let Lacking { path, from, to, .. } = self.lacking(run);
        to.map_or_else(|| path.exists(), |to| from < to)
    }

    /// Every run that has a log.
    pub(crate) fn logged(&self) -> Result<Vec<RunId>, JournalError> {
        let failed = |error| JournalError::file("read", &self.logs, error);
        let entries = std::fs::read_dir(&self.logs).map_err(failed)?;
        let run = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".log")?.parse().ok();
        Ok(entries.flatten().filter_map(|entry| run(entry.file_name())).collect())
    }
}
