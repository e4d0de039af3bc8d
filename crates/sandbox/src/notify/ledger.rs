//! The denials of one session, between being seen and being told: joined to calls, coalesced,
//! bounded, counted.
//!
//! An equal denial within a call adds to a count instead of making a record. A record is held for a
//! moment, so that a burst becomes one, and each time the same one comes again it is held twice as
//! long: a flood of whatever length costs a handful of records. A call has room for
//! [`RECORDS_MAX`] distinct ones; what comes after is counted as lost. Must never wait, and never
//! know how a denial was seen or where it goes.

use std::collections::HashMap;

use cofferdam_contract::denial::{Attribution, Denial, DenialSource, DeniedProcess, Operation};
use cofferdam_contract::ids::{CallId, DenialId, RunId, SessionId};
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::time::UtcTime;

/// Distinct records of one call; and of everything in a session that belongs to no call.
pub(super) const RECORDS_MAX: usize = 1000;
/// How long a record is first held.
pub(super) const HOLD_MS: u64 = 200;

/// A refusal before it is known whose it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Refused {
    /// Which enforcement point.
    pub(crate) source: DenialSource,
    /// What was attempted.
    pub(crate) operation: Operation,
    /// On what, escaped.
    pub(crate) target: String,
    /// The rule.
    pub(crate) rule: &'static str,
    /// Why.
    pub(crate) reason_code: &'static str,
    /// What may be done instead.
    pub(crate) hint: &'static str,
}

/// A refusal with who tried and, where it is known, in which call.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) refused: Refused,
    pub(super) process: DeniedProcess,
    pub(super) call: Option<CallId>,
    pub(super) attribution: Attribution,
    /// How often, at once.
    pub(super) count: u64,
}

/// When something is recorded: for people, and for the holding time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) utc: UtcTime,
    /// From any fixed point on; never goes back.
    pub(super) elapsed_ms: u64,
}

/// Records that are due and losses that were counted since the last time.
#[derive(Default, Debug)]
pub(super) struct Due {
    pub(super) denials: Vec<Denial>,
    pub(super) lost: Vec<(DenialSource, u64)>,
    /// When the next record falls due, if one is held.
    pub(super) next_ms: Option<u64>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    refused: Refused,
    attribution: Attribution,
    exe: Option<String>,
    argv0: Option<String>,
}

struct Entry {
    seen: Seen,
    first: UtcTime,
    /// Times that no record has told of yet.
    count: u64,
    hold_ms: u64,
    due_ms: u64,
}

#[derive(Default)]
struct Page {
    entries: Vec<Entry>,
    index: HashMap<Key, usize>,
    /// All of the call, told or not, lost or not.
    count: u64,
}

/// What the ids of records are made of.
pub(super) struct Origin<'a> {
    pub(super) session: &'a SessionId,
    pub(super) run: Option<&'a RunId>,
    pub(super) clock: &'a dyn Clock,
    pub(super) entropy: &'a dyn Entropy,
}

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    pages: HashMap<Option<CallId>, Page>,
    untold_loss: HashMap<DenialSource, u64>,
    total: u64,
    lost: u64,
}

impl Ledger {
    /// Adds a denial; true if a record is held that was not held before.
    pub(super) fn record(&mut self, seen: Seen, now: Moment) -> bool {
        let count = seen.count;
        self.total += count;
        let page = self.pages.entry(seen.call.clone()).or_default();
        page.count += count;
        let key = Key {
            refused: seen.refused.clone(),
            attribution: seen.attribution,
            exe: seen.process.exe.clone(),
            argv0: seen.process.argv0.clone(),
        };
        if let Some(entry) = page.index.get(&key).and_then(|at| page.entries.get_mut(*at)) {
            let is_new = entry.count == 0;
            entry.count += count;
            if is_new {
                (entry.first, entry.seen) = (now.utc, seen);
                entry.due_ms = now.elapsed_ms + entry.hold_ms;
            }
            return is_new;
        }
        if page.entries.len() == RECORDS_MAX {
            self.lose(seen.refused.source, count);
            return true;
        }
        page.index.insert(key, page.entries.len());
        let due_ms = now.elapsed_ms + HOLD_MS;
        page.entries.push(Entry { seen, first: now.utc, count, hold_ms: HOLD_MS, due_ms });
        true
    }

    /// Counts denials that were noticed and could not be read.
    pub(super) fn lose(&mut self, source: DenialSource, count: u64) {
        *self.untold_loss.entry(source).or_default() += count;
        self.lost += count;
    }

    /// Takes what is due.
    pub(super) fn take_due(&mut self, elapsed_ms: u64, origin: &Origin<'_>) -> Due {
        let mut due = Due { lost: self.untold_loss.drain().collect(), ..Due::default() };
        for entry in self.pages.values_mut().flat_map(|page| &mut page.entries) {
            if entry.count == 0 {
                continue;
            }
            if entry.due_ms <= elapsed_ms {
                due.denials.push(entry.tell(origin));
            } else {
                due.next_ms = Some(due.next_ms.map_or(entry.due_ms, |at| at.min(entry.due_ms)));
            }
        }
        due.denials.sort_by_key(|denial| denial.at);
        due
    }

    /// Takes all of a call that is still held, closes its page, and counts all there was.
    pub(super) fn end_call(&mut self, call: &CallId, origin: &Origin<'_>) -> (Due, u64) {
        let mut page = self.pages.remove(&Some(call.clone())).unwrap_or_default();
        (Due { denials: page.told(origin), ..self.loss() }, page.count)
    }

    /// Takes everything.
    pub(super) fn end(&mut self, origin: &Origin<'_>) -> Due {
        let pages = std::mem::take(&mut self.pages);
        let mut denials: Vec<_> =
            pages.into_values().flat_map(|mut page| page.told(origin)).collect();
        denials.sort_by_key(|denial| denial.at);
        Due { denials, ..self.loss() }
    }

    fn loss(&mut self) -> Due {
        Due { lost: self.untold_loss.drain().collect(), ..Due::default() }
    }

    /// All denials so far, and how many of them no record tells of.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.total, self.lost)
    }
}

impl Entry {
    /// The record of what is held; the next one is held twice as long.
    fn tell(&mut self, origin: &Origin<'_>) -> Denial {
        let count = std::mem::take(&mut self.count);
        self.hold_ms = self.hold_ms.saturating_mul(2);
        let Seen { refused, process, call, attribution, count: _ } = self.seen.clone();
        Denial {
            id: DenialId::generate(origin.clock, origin.entropy),
            run: origin.run.cloned(),
            session: origin.session.clone(),
            call,
            attribution,
            at: self.first,
            source: refused.source,
            operation: refused.operation,
            target: refused.target,
            rule: refused.rule.to_owned(),
            reason_code: refused.reason_code.to_owned(),
            process,
            count,
            hint: refused.hint.to_owned(),
        }
    }
}

impl Page {
    fn told(&mut self, origin: &Origin<'_>) -> Vec<Denial> {
        let held = self.entries.iter_mut().filter(|entry| entry.count > 0);
        held.map(|entry| entry.tell(origin)).collect()
    }
}
