//! What the events of a run tell of its refusals, and whether that can be all.
//!
//! One reading for whoever shows a run, checks it or signs it, so that none of them calls a record
//! complete that another calls incomplete. Must never know where events are kept.

use std::collections::BTreeSet;

use crate::events::{DenialEvent, EventBody, RunEvent, SessionEvent};
use crate::ids::SessionId;

/// Where the journal's own queue is named as the source of a loss.
pub const JOURNAL_SOURCE: &str = "journal";

/// Refusals and losses, added up event by event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refusals {
    records: u64,
    denials: u64,
    lost_in_journal: u64,
    /// As it was told while sessions ran.
    lost_in_sessions: u64,
    /// As sessions said at their end; the same losses once more.
    lost_at_ends: u64,
    open: BTreeSet<SessionId>,
    cut_short: u64,
    said_incomplete: bool,
}

impl Refusals {
    /// Of a whole run.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a EventBody>) -> Self {
        let mut refusals = Self::default();
        events.into_iter().for_each(|event| refusals.add(event));
        refusals
    }

    /// Adds the next event.
    pub fn add(&mut self, event: &EventBody) {
        match event {
            EventBody::Denial(DenialEvent::Recorded(denial)) => {
                self.records += 1;
                self.denials = self.denials.saturating_add(denial.count);
            }
            EventBody::Denial(DenialEvent::Lost(lost)) => {
                let sum = match lost.source.as_str() {
                    JOURNAL_SOURCE => &mut self.lost_in_journal,
                    _ => &mut self.lost_in_sessions,
                };
                *sum = sum.saturating_add(lost.count);
            }
            EventBody::Session(SessionEvent::Opened(opened)) => {
                self.open.insert(opened.session.clone());
            }
            EventBody::Session(SessionEvent::Closed(closed)) => {
                self.open.remove(&closed.session);
                self.lost_at_ends = self.lost_at_ends.saturating_add(closed.denials_lost);
            }
            EventBody::Run(event) => self.add_run(event),
            _ => {}
        }
    }

    /// A stage that follows sessions finds them closed, unless their holder died: what that held
    /// back to coalesce it died with it.
    fn add_run(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Worked(worked) => self.said_incomplete |= worked.events_incomplete,
            RunEvent::Checked(_)
            | RunEvent::Ended(_)
            | RunEvent::Resumed(_)
            | RunEvent::Rechecking(_) => {}
            _ => return,
        }
        self.cut_short += self.open.len() as u64;
        self.open.clear();
    }

    /// Records, coalesced ones counted once.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Refusals, coalesced ones counted each.
    pub fn denials(&self) -> u64 {
        self.denials
    }

    /// Refusals that were noticed and that no record tells of.
    pub fn lost(&self) -> u64 {
        self.lost_in_sessions.max(self.lost_at_ends).saturating_add(self.lost_in_journal)
    }

    /// Sessions that ended without a word, because their holder died.
    pub fn cut_short(&self) -> u64 {
        self.cut_short
    }

    /// Whether refusals may be missing from the record.
    pub fn is_incomplete(&self) -> bool {
        self.said_incomplete || self.lost() > 0 || self.cut_short > 0
    }
}

#[cfg(test)]
mod tests {
    use super::Refusals;
    use crate::events::{Closed, DenialEvent, EventBody, Lost, SessionEvent};

    fn lost(count: u64, source: &str) -> EventBody {
        EventBody::Denial(DenialEvent::Lost(Lost { count, source: source.to_owned() }))
    }

    fn closed(denials_lost: u64) -> EventBody {
        let session = "ses_01jd0000000000000000000001".parse().unwrap();
        EventBody::Session(SessionEvent::Closed(Closed { session, denials: 9, denials_lost }))
    }

    #[test]
    fn a_loss_that_is_told_twice_counts_once() {
        let refusals = Refusals::of(&[lost(2, "seccomp"), lost(3, "decoy"), closed(5)]);
        assert_eq!((refusals.lost(), refusals.is_incomplete()), (5, true));
        // What the journal lost no session knows of.
        let refusals = Refusals::of(&[lost(7, "journal"), closed(5)]);
        assert_eq!((refusals.lost(), refusals.is_incomplete()), (12, true));
        let refusals = Refusals::of(&[closed(0)]);
        assert_eq!((refusals.lost(), refusals.is_incomplete()), (0, false));
    }
}
