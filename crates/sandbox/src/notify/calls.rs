//! Which process belongs to which call.
//!
//! Init keeps the calls apart (see its service): what a call with a keeper leaves stays beneath the
//! keeper, also when the call is over, and what is beneath init without one is of the plain call.
//! So a line of parents up to init names the call, and only where no line can be had, or its call
//! is not reported yet, is there something to guess. Must never know what a record is.

use std::collections::{HashMap, VecDeque};

use cofferdam_contract::ids::CallId;

use super::process::Line;

/// Ended calls that are remembered.
const ENDED_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Calls {
    /// Calls that run, by their first process, as this process numbers it.
    running: HashMap<i32, CallId>,
    /// Calls of which something may be left, by their keeper.
    kept: HashMap<i32, CallId>,
    /// The last that ended: audit records may come later than the end of their call.
    ended: VecDeque<(i32, CallId)>,
}

impl Calls {
    pub(super) fn started(&mut self, call: CallId, first: i32) {
        self.running.insert(first, call);
    }

    pub(super) fn has_keeper(&mut self, call: CallId, keeper: i32) {
        self.kept.insert(keeper, call);
    }

    /// Nothing is left of a call that had a keeper.
    pub(super) fn is_gone(&mut self, call: &CallId) {
        self.kept.retain(|_, kept| kept != call);
    }

    pub(super) fn ends(&mut self, call: &CallId) {
        let pid = self.running.iter().find(|(_, running)| *running == call).map(|(pid, _)| *pid);
        if let Some(pid) = pid {
            self.running.remove(&pid);
            self.ended.push_front((pid, call.clone()));
            self.ended.truncate(ENDED_MAX);
        }
    }

    /// Whether a line of parents need not be followed further than this.
    pub(super) fn is_known(&self, pid: i32) -> bool {
        self.running.contains_key(&pid) || self.kept.contains_key(&pid)
    }

    pub(super) fn none_runs(&self) -> bool {
        self.running.is_empty()
    }

    /// The call that a line belongs to.
    pub(super) fn of_line(&self, line: &Line) -> Option<&CallId> {
        let known = |pid| self.running.get(pid).or_else(|| self.kept.get(pid));
        line.pids.iter().find_map(known)
    }

    /// The call that a line belongs to where [`Calls::of_line`] does not know it: the plain one's,
    /// whose orphans init adopts. Without a line the only call of which anything runs.
    pub(super) fn likely(&self, line: &Line) -> Option<&CallId> {
        if line.pids.is_empty() {
            return self.only();
        }
        let has_keeper = |call: &&CallId| self.kept.values().any(|kept| kept == *call);
        let mut plain = self.running.values().filter(|call| !has_keeper(call));
        plain.next().filter(|_| line.is_whole && plain.next().is_none())
    }

    /// The only call of which anything runs.
    pub(super) fn only(&self) -> Option<&CallId> {
        let mut calls = self.running.values().chain(self.kept.values());
        let first = calls.next()?;
        calls.all(|call| call == first).then_some(first)
    }

    /// The call whose first process it is, or was last.
    pub(super) fn of_first(&self, pid: i32) -> Option<&CallId> {
        let ended = || self.ended.iter().find(|(it, _)| *it == pid).map(|(_, call)| call);
        self.running.get(&pid).or_else(ended)
    }
}

#[cfg(test)]
mod tests {
    use cofferdam_contract::ids::CallId;

    use super::{Calls, Line};

    fn call(number: u8) -> CallId {
        format!("call_{number:026}").parse().unwrap()
    }

    fn line(pids: &[i32]) -> Line {
        Line { pids: pids.to_vec(), is_whole: true }
    }

    /// A kept call (keeper 10) that ended, a plain one (20), and another kept one (keeper 30).
    fn three() -> Calls {
        let mut calls = Calls::default();
        calls.has_keeper(call(1), 10);
        calls.started(call(1), 11);
        calls.ends(&call(1));
        calls.started(call(2), 20);
        calls.has_keeper(call(3), 30);
        calls.started(call(3), 31);
        calls
    }

    #[test]
    fn a_line_names_its_call_also_when_that_is_over() {
        let calls = three();
        for (pids, expected) in [
            (&[99, 12, 10][..], Some(call(1))),
            (&[22, 20], Some(call(2))),
            (&[40, 31], Some(call(3))),
            (&[41, 30], Some(call(3))),
            (&[50, 51], None),
        ] {
            assert_eq!(calls.of_line(&line(pids)), expected.as_ref(), "{pids:?}");
        }
    }

    #[test]
    fn an_orphan_without_a_keeper_is_likely_the_plain_calls() {
        let mut calls = three();
        assert_eq!(calls.likely(&line(&[50, 51])), Some(&call(2)));
        let cut = Line { is_whole: false, ..line(&[50, 51]) };
        assert_eq!(calls.likely(&cut), None, "its keeper may be further up");
        calls.ends(&call(2));
        assert_eq!(calls.likely(&line(&[50, 51])), None);
    }

    #[test]
    fn without_a_line_only_one_that_is_alone_is_named() {
        let mut calls = three();
        assert_eq!(calls.likely(&Line::default()), None);
        calls.ends(&call(2));
        calls.is_gone(&call(1));
        assert_eq!(calls.likely(&Line::default()), Some(&call(3)));
        calls.ends(&call(3));
        assert_eq!(calls.likely(&Line::default()), Some(&call(3)), "something of it is left");
        calls.is_gone(&call(3));
        assert_eq!(calls.likely(&Line::default()), None);
        assert_eq!(calls.of_first(31), Some(&call(3)), "an audit record may come late");
    }
}
