//! One watched session: its listener, its running calls and its ledger.
//!
//! Must never call a sink while the state is locked, since the answering thread needs that lock; nor
//! look at a process, which makes it wait as long as it likes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use cofferdam_contract::denial::{Attribution, DenialSource, DeniedProcess, Operation};
use cofferdam_contract::ids::{CallId, RunId, SessionId};

use super::calls::Calls;
use super::change::OwnDirectories;
use super::groups::Counters;
use super::ledger::{Due, HOLD_MS, Ledger, Moment, Origin, RECORDS_MAX, Refused, Seen};
use super::listener::{self, Reply};
use super::process::{self, Facts};
use super::verdict::{Verdict, judge};
use super::{Inner, lock};
use crate::spec::{DenialSink, SessionEnd, TraceGate};

const UNKNOWN: DeniedProcess = DeniedProcess { pid: None, exe: None, argv0: None };

/// A refusal whose call is not known yet: it may have been seen before its call was reported.
struct Unresolved {
    refused: Refused,
    facts: Facts,
    seen_at: Moment,
}

#[derive(Default)]
struct State {
    calls: Calls,
    unresolved: Vec<Unresolved>,
    ledger: Ledger,
}

/// Which session it is.
pub(super) struct Of {
    pub(super) session: SessionId,
    pub(super) run: Option<RunId>,
    /// Process 1, as this process numbers it.
    pub(super) init: i32,
    pub(super) procfs: OwnedFd,
}

pub(super) struct Shared {
    of: Of,
    gate: Mutex<Option<Arc<dyn TraceGate>>>,
    /// Closed, the kernel answers ENOSYS to whoever waits for it or will.
    listener: Mutex<Option<Arc<OwnedFd>>>,
    /// Held from having the listener to having recorded.
    answering: Mutex<()>,
    own: Option<OwnDirectories>,
    sink: Arc<dyn DenialSink>,
    counters: Mutex<Counters>,
    /// Held from taking records to having handed them over, so that they arrive in order and a
    /// call's are all there when its end is reported. Taken before `state`.
    delivering: Mutex<()>,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new(
        of: Of,
        listener: Option<OwnedFd>,
        own: Option<OwnDirectories>,
        counters: Counters,
        sink: Arc<dyn DenialSink>,
    ) -> Self {
        let (delivering, answering, state, gate) = Default::default();
        let (listener, counters) = (Mutex::new(listener.map(Arc::new)), Mutex::new(counters));
        Self { of, gate, listener, answering, own, sink, counters, delivering, state }
    }

    pub(super) fn listener(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.listener).clone()
    }

    /// Nothing is answered any more: what is asked from now on the kernel refuses, and what was asked
    /// before is recorded when this returns.
    pub(super) fn retire(&self) {
        lock(&self.listener).take();
        drop(lock(&self.answering));
    }

    /// Nobody answers any more: what would be told is refused untold, and counts as lost.
    pub(super) fn go_blind(&self) {
        if lock(&self.listener).take().is_some() {
            self.lose(DenialSource::Seccomp, 1);
        }
    }

    /// Answers one notification, then records what was refused.
    ///
    /// To look is to wait for the caller, whose memory is read under a lock of its own: so the state is
    /// locked only then, when nothing is waited for any more, and whoever needs it waits for no session.
    /// It stays locked from before the reply until the record is made: who gets the lock after a call's
    /// end misses nothing.
    pub(super) fn answer(&self, inner: &Inner) -> io::Result<()> {
        let _until_recorded = lock(&self.answering);
        let Some(listener) = self.listener() else { return Ok(()) };
        let listener = listener.as_fd();
        let Some(notification) = listener::receive(listener)? else { return Ok(()) };
        let (reply, refused) = match judge(&notification, self.own.as_ref(), self.of.procfs.as_fd())
        {
            Verdict::Refuse { debug: true, .. } if self.lets_trace(notification.pid) => {
                listener::answer(listener, &notification, Reply::Continue);
                return Ok(());
            }
            Verdict::Refuse { errno, refused, .. } => (Reply::Fail(errno), refused),
            Verdict::Tell(refused) => (Reply::Continue, refused),
            Verdict::Pass => {
                listener::answer(listener, &notification, Reply::Continue);
                return Ok(());
            }
            Verdict::PassUnseen => {
                self.lose(DenialSource::Seccomp, 1);
                listener::answer(listener, &notification, Reply::Continue);
                return Ok(());
            }
            Verdict::Answer(errno) => {
                listener::answer(listener, &notification, Reply::Fail(errno));
                return Ok(());
            }
            Verdict::Change(found) => {
                // Else the file was found by the numbers of a process that is gone.
                if listener::is_waiting(listener, &notification) {
                    let errno = found.change();
                    let reply = if errno == 0 { Reply::Done } else { Reply::Fail(errno) };
                    listener::answer(listener, &notification, reply);
                }
                return Ok(());
            }
        };
        let (facts, seen_at) = (self.facts(notification.pid), inner.moment());
        let mut state = lock(&self.state);
        // Gone meanwhile: what was read may be of another process with its number.
        let valid = listener::is_waiting(listener, &notification);
        listener::answer(listener, &notification, reply);
        let facts = if valid { facts } else { Facts::default() };
        if state.see(refused, facts, seen_at) {
            drop(state);
            inner.nudge();
        }
        Ok(())
    }

    pub(super) fn ask_before_tracing(&self, gate: Arc<dyn TraceGate>) {
        *lock(&self.gate) = Some(gate);
    }

    /// Whether a grant lets this thread trace. To let it go on is safe although nothing keeps it as
    /// it was looked at: who is to be traced is a number in a register, which no other thread can
    /// change, and means a process of the session, since there are no others in its namespace; and
    /// the kernel goes on to refuse what lies outside the caller's own Landlock domain (init, and
    /// every other call) or is not dumpable. A flat session shares its namespace with the host, so
    /// that nothing but the domain would stand: there no grant lets a thread trace.
    fn lets_trace(&self, tid: i32) -> bool {
        if self.own.is_some() {
            return false;
        }
        let Some(gate) = lock(&self.gate).clone() else { return false };
        let line = self.facts(tid).line;
        let call = {
            let calls = &lock(&self.state).calls;
            calls.of_line(&line).or_else(|| calls.likely(&line)).cloned()
        };
        let first = process::first_beneath(self.of.init, tid);
        first.is_some_and(|first| gate.lets_trace(call.as_ref(), first))
    }

    fn facts(&self, tid: i32) -> Facts {
        process::facts(tid, self.of.init, &|pid| lock(&self.state).calls.is_known(pid))
    }

    pub(super) fn decoy_opened(&self, inside: &Path, inner: &Inner) {
        let refused = Refused {
            source: DenialSource::Decoy,
            operation: Operation::Read,
            target: process::name(inside.as_os_str()),
            rule: "decoy.opened",
            reason_code: "decoy_opened",
            hint: "there is no credential in a session; the doors add them outside",
        };
        let changed = {
            let mut state = lock(&self.state);
            let (facts, seen_at) = (Facts::default(), inner.moment());
            let is_nobodys = state.calls.none_runs() && state.calls.only().is_none();
            if is_nobodys && state.unresolved.len() < RECORDS_MAX {
                // A program can be quicker than the word that it was started.
                state.unresolved.push(Unresolved { refused, facts, seen_at });
                true
            } else {
                state.book(refused, facts, None, seen_at)
            }
        };
        if changed {
            inner.nudge();
        }
    }

    /// Records the limits of control groups that took effect; true if there was any.
    pub(super) fn read_counters(&self, inner: &Inner) -> bool {
        let grown = lock(&self.counters).grown();
        if grown.is_empty() {
            return false;
        }
        let (mut state, at) = (lock(&self.state), inner.moment());
        for (refused, count) in grown {
            let (call, attribution) = (state.calls.only().cloned(), Attribution::Inferred);
            let seen = Seen { refused, process: UNKNOWN, call, attribution, count };
            state.ledger.record(seen, at);
        }
        true
    }

    /// The counters' files, to be polled.
    pub(super) fn with_counters(&self, mut each: impl FnMut(&std::fs::File)) {
        lock(&self.counters).files().for_each(&mut each);
    }

    pub(super) fn deny(
        &self,
        (call, attribution): (Option<&CallId>, Attribution),
        refused: Refused,
        inner: &Inner,
    ) {
        let call = call.cloned();
        let seen = Seen { refused, process: UNKNOWN, call, attribution, count: 1 };
        lock(&self.state).ledger.record(seen, inner.moment());
    }

    /// Records a limit that a process reached; true if something is newly held. Nothing is said of one
    /// that is gone: its number may be that of a process of the host meanwhile.
    pub(super) fn refused_by_limit(&self, pid: i32, refused: Refused, inner: &Inner) -> bool {
        let facts = self.facts(pid);
        if process::first_beneath(self.of.init, pid).is_none() {
            return false;
        }
        lock(&self.state).see(refused, facts, inner.moment())
    }

    /// The call whose first process it is, or was last.
    pub(super) fn call_of(&self, pid: i32) -> Option<CallId> {
        lock(&self.state).calls.of_first(pid).cloned()
    }

    /// Books a refusal of Landlock's; true if something is newly held.
    pub(super) fn refused_by_landlock(
        &self,
        call: Option<&CallId>,
        refused: Refused,
        inner: &Inner,
    ) -> bool {
        let mut state = lock(&self.state);
        state.book(refused, Facts::default(), call.cloned(), inner.moment())
    }

    pub(super) fn lose(&self, source: DenialSource, count: u64) {
        lock(&self.state).ledger.lose(source, count);
    }

    /// Joins what was seen before the call was reported; true if there was any.
    pub(super) fn call_started(&self, call: CallId, host_pid: i32) -> bool {
        self.learn(|calls| calls.started(call, host_pid))
    }

    /// The same for a call's keeper.
    pub(super) fn call_has_keeper(&self, call: CallId, host_pid: i32) -> bool {
        self.learn(|calls| calls.has_keeper(call, host_pid))
    }

    pub(super) fn call_is_gone(&self, call: &CallId) {
        lock(&self.state).calls.is_gone(call);
    }

    fn learn(&self, what: impl FnOnce(&mut Calls)) -> bool {
        let mut state = lock(&self.state);
        what(&mut state.calls);
        let mut joined = false;
        for waiting in std::mem::take(&mut state.unresolved) {
            // What no process is known of is nobody's until it is given up waiting.
            if waiting.facts.line.pids.is_empty() {
                state.unresolved.push(waiting);
            } else {
                joined |= state.see(waiting.refused, waiting.facts, waiting.seen_at);
            }
        }
        joined
    }

    pub(super) fn call_ended(&self, call: &CallId, inner: &Inner) -> u64 {
        let _in_order = lock(&self.delivering);
        let (due, count) = {
            let mut state = lock(&self.state);
            state.infer(|_, likely| likely == Some(call));
            state.calls.ends(call);
            state.ledger.end_call(call, &self.origin(inner))
        };
        self.hand_over(due);
        count
    }

    /// Hands over what is due; returns when more will be.
    pub(super) fn deliver_due(&self, inner: &Inner) -> Option<u64> {
        let _in_order = lock(&self.delivering);
        let due = {
            let mut state = lock(&self.state);
            let now = inner.elapsed_ms();
            state.infer(|seen_at, _| seen_at.elapsed_ms <= now.saturating_sub(HOLD_MS));
            let mut due = state.ledger.take_due(now, &self.origin(inner));
            let waiting = state.unresolved.iter().map(|one| one.seen_at.elapsed_ms + HOLD_MS);
            due.next_ms = due.next_ms.into_iter().chain(waiting).min();
            due
        };
        let next_ms = due.next_ms;
        self.hand_over(due);
        next_ms
    }

    pub(super) fn end(&self, inner: &Inner) -> SessionEnd {
        let _in_order = lock(&self.delivering);
        let (due, (denials, denials_lost)) = {
            let mut state = lock(&self.state);
            state.infer(|_, _| true);
            (state.ledger.end(&self.origin(inner)), state.ledger.totals())
        };
        self.hand_over(due);
        SessionEnd { denials, denials_lost }
    }

    fn origin<'a>(&'a self, inner: &'a Inner) -> Origin<'a> {
        Origin {
            session: &self.of.session,
            run: self.of.run.as_ref(),
            clock: &*inner.clock,
            entropy: &*inner.entropy,
        }
    }

    fn hand_over(&self, due: Due) {
        for denial in due.denials {
            self.sink.denied(denial);
        }
        for (source, count) in due.lost {
            self.sink.lost(count, source_name(source));
        }
    }
}

fn source_name(source: DenialSource) -> &'static str {
    match source {
        DenialSource::Seccomp => "seccomp",
        DenialSource::Decoy => "decoy",
        DenialSource::Limit => "limit",
        DenialSource::Landlock => "landlock",
        DenialSource::ToolPolicy => "tool_policy",
        DenialSource::Egress => "egress",
        DenialSource::Gateway => "gateway",
        DenialSource::Gate => "gate",
    }
}

impl State {
    /// Records a refusal, or keeps it until its call is known; true if something is newly held.
    fn see(&mut self, refused: Refused, facts: Facts, seen_at: Moment) -> bool {
        let call = self.calls.of_line(&facts.line).cloned();
        if call.is_none() && !facts.line.pids.is_empty() && self.unresolved.len() < RECORDS_MAX {
            self.unresolved.push(Unresolved { refused, facts, seen_at });
            return true;
        }
        self.book(refused, facts, call, seen_at)
    }

    fn book(&mut self, refused: Refused, facts: Facts, call: Option<CallId>, at: Moment) -> bool {
        let (call, attribution) = match call {
            Some(call) => (Some(call), Attribution::Exact),
            None => (self.calls.likely(&facts.line).cloned(), Attribution::Inferred),
        };
        let process = facts.process.unwrap_or(UNKNOWN);
        self.ledger.record(Seen { refused, process, call, attribution, count: 1 }, at)
    }

    /// Gives up waiting for the call of what `is_due`, given when it was seen and whose it likely is.
    fn infer(&mut self, is_due: impl Fn(Moment, Option<&CallId>) -> bool) {
        let unresolved = std::mem::take(&mut self.unresolved);
        for waiting in unresolved {
            if is_due(waiting.seen_at, self.calls.likely(&waiting.facts.line)) {
                self.book(waiting.refused, waiting.facts, None, waiting.seen_at);
            } else {
                self.unresolved.push(waiting);
            }
        }
    }
}

impl Inner {
    pub(super) fn moment(&self) -> Moment {
        Moment { utc: self.clock.now(), elapsed_ms: self.elapsed_ms() }
    }
}
