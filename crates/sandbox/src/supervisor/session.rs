//! One open session: its socket, its calls, its end.
//!
//! Must never block the thread that hears sessions: [`Shared::hear`] and [`Shared::time_is_up`] run
//! there.

mod hearing;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cofferdam_contract::capability::{CapabilityReport, Wall};
use cofferdam_contract::denial::Attribution;
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::{CallId, SessionId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use self::hearing::Hearing;
use super::breach::{self, Breach};
use super::call::{Call, CallShared};
use super::grants::Granting;
use super::held::Looked;
use super::process::Process;
use super::reactor::key_of;
use super::{Core, lock};
use crate::error::SandboxError;
use crate::launcher::remove_group;
use crate::notify::{Onlooker, Watch};
use crate::spec::{CallIo, CallSpec, NotStarted, Program, SandboxSpec, SessionEnd, TraceGate};
use crate::sweep::Claim;
use crate::sys::socket::{Channel, Packet};
use crate::wire::{self, FromInit, Full, Order, Runnable, ToInit};

/// How long init may take to put the walls up.
const READY_WITHIN: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
/// How long the processes of a killed session may take to end.
const ENDED_WITHIN: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// How long init may take to end a call whose time is up, before the session is ended instead: on an
/// emulated machine two hundred processes were ten seconds in ending.
const CALL_ENDED_WITHIN: Duration = Duration::from_secs(20);
/// How long a freeze may take.
const FROZEN_WITHIN: Duration = Duration::from_secs(10);

/// A session between its clone and its first call. Dropped, it is killed.
pub(super) struct Opening {
    pub(super) channel: Channel,
    pub(super) process: Arc<Process>,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) groups: Vec<PathBuf>,
    /// What ends it: process 1 by force, or a warden by asking it to.
    pub(super) end: Signal,
}

/// What init says when the walls stand.
pub(super) struct Ready {
    pub(super) walls: Vec<Wall>,
    pub(super) listener: Option<OwnedFd>,
    pub(super) denials: OwnedFd,
    /// Where the session asks for grants, and where it is told of them.
    pub(super) asked: OwnedFd,
    pub(super) told: OwnedFd,
    pub(super) procfs: OwnedFd,
    pub(super) decoys: Vec<OwnedFd>,
}

impl Opening {
    /// Waits until the walls stand.
    pub(super) fn ready(&self) -> Result<Ready, SandboxError> {
        let failed = |detail: &str| SandboxError::NotOpened { detail: detail.to_owned() };
        let mut polled =
            [PollFd::new(&self.channel, PollFlags::IN), PollFd::new(&self.pidfd, PollFlags::IN)];
        if !matches!(poll(&mut polled, Some(&READY_WITHIN)), Ok(1..)) {
            return Err(failed("its walls did not stand in time"));
        }
        let packet = self.channel.receive_now::<FromInit>();
        match packet.map_err(SandboxError::system("hearing the session"))? {
            Some(Packet { message: FromInit::Ready { walls, listener }, descriptors, .. }) => {
                let mut descriptors = descriptors.into_iter();
                let listener = if listener { descriptors.next() } else { None };
                let mut next = || descriptors.next().ok_or_else(|| failed("it sent too little"));
                let (denials, asked, told, procfs) = (next()?, next()?, next()?, next()?);
                let decoys = descriptors.collect();
                Ok(Ready { walls, listener, denials, asked, told, procfs, decoys })
            }
            Some(Packet { message: FromInit::Failed(refusal), .. }) => Err(refusal.into()),
            _ => Err(failed("it ended while its walls were put up")),
        }
    }

    /// Kills every process and waits until none is left. May be repeated.
    fn kill(&self) {
        if rustix::process::pidfd_send_signal(&self.pidfd, self.end) == Err(rustix::io::Errno::PERM)
        {
            self.process.kill_session(self.pid);
        }
        // Process 1 ends when all others of its namespace have.
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        if !matches!(poll(&mut polled, Some(&ENDED_WITHIN)), Ok(1..)) {
            self.process.kill();
            let _ended = poll(&mut polled, Some(&ENDED_WITHIN));
        }
        for group in &self.groups {
            remove_group(group);
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Default)]
struct State {
    over: bool,
    calls: HashMap<CallId, Arc<CallShared>>,
    /// Scratch file systems that were full when a call last ended.
    full: Vec<Full>,
    frozen: bool,
    /// Init's last answer to a freeze or a thaw that was not taken yet.
    answer: Option<Result<(), String>>,
    end: Option<SessionEnd>,
}

/// What the session's handle, its calls and the hearing thread share.
pub(super) struct Shared {
    id: SessionId,
    opening: Opening,
    watch: Mutex<Option<Watch>>,
    state: Mutex<State>,
    changed: Condvar,
    /// One freeze, thaw or end at a time.
    turn: Mutex<()>,
    pub(super) looked: Looked,
    /// Held while messages are taken, so that they are taken in order.
    hearing: Mutex<Hearing>,
    core: Arc<Core>,
    _claim: Claim,
}

impl Shared {
    pub(super) fn new(
        spec: SandboxSpec,
        opening: Opening,
        watch: Watch,
        claim: Claim,
        core: Arc<Core>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: spec.session,
            opening,
            watch: Mutex::new(Some(watch)),
            state: Mutex::default(),
            changed: Condvar::new(),
            turn: Mutex::new(()),
            looked: Looked::new(spec.limits.open_files),
            hearing: Mutex::default(),
            core,
            _claim: claim,
        })
    }

    pub(super) fn opening(&self) -> &Opening {
        &self.opening
    }

    pub(super) fn onlooker(&self) -> Option<Onlooker> {
        lock(&self.watch).as_ref().map(Watch::onlooker)
    }

    pub(super) fn ask_before_tracing(&self, gate: Arc<dyn TraceGate>) {
        if let Some(watch) = &*lock(&self.watch) {
            watch.ask_before_tracing(gate);
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.opening.channel.as_fd()
    }

    fn take(&self, message: FromInit, sender: Option<i32>) {
        match message {
            FromInit::Started { call } => {
                if let (Some(pid), Some(watch)) = (sender, &*lock(&self.watch)) {
                    watch.call_started(call, pid);
                }
            }
            FromInit::Keeps { call } => {
                if let (Some(pid), Some(watch)) = (sender, &*lock(&self.watch)) {
                    watch.call_has_keeper(call, pid);
                }
            }
            FromInit::Gone { call } => {
                if let Some(watch) = &*lock(&self.watch) {
                    watch.call_is_gone(&call);
                }
            }
            FromInit::NotStarted { call, why } => {
                let found = lock(&self.state).calls.get(&call).map(Arc::clone);
                if let Some(call) = found {
                    if why == NotStarted::NoRoom {
                        self.deny(&call, &breach::NO_ROOM);
                    }
                    call.not_started(why);
                }
            }
            FromInit::Ended { call, exit, full } => {
                let (found, full) = {
                    let mut state = lock(&self.state);
                    let new = full.iter().filter(|it| !state.full.contains(it)).cloned();
                    let new: Vec<Full> = new.collect();
                    state.full = full;
                    (state.calls.remove(&call), new)
                };
                if let Some(call) = found {
                    self.breached(&call, exit, &full);
                    self.finish(&call, Some(exit));
                }
            }
            FromInit::Frozen { left } => self.answer(left.map_or(Ok(()), Err)),
            FromInit::Thawed => self.answer(Ok(())),
            FromInit::Ready { .. } | FromInit::Failed(_) => {}
        }
    }

    fn answer(&self, answer: Result<(), String>) {
        lock(&self.state).answer = Some(answer);
        self.changed.notify_all();
    }

    fn finish(&self, call: &CallShared, exit: Option<wire::Exit>) {
        if let Some(deadline) = call.take_deadline() {
            self.core.reactor.unset(deadline);
        }
        let ended_at = Instant::now();
        let unasked = exit.is_none() || call.is_abandoned();
        let denials = unasked.then(|| self.settle(call, false));
        call.finish(exit, denials, ended_at);
    }

    /// Has what is known of a call's denials handed over, and counts them.
    pub(super) fn settle(&self, call: &CallShared, truncated: bool) -> u64 {
        if truncated {
            self.deny(call, &breach::OUTPUT);
        }
        lock(&self.watch).as_ref().map_or(0, |watch| watch.call_ended(call.id()))
    }

    /// The session is gone: nothing more can be called, and what was called is over.
    fn lost(&self) {
        *lock(&self.hearing) = Hearing::Nobody;
        self.core.reactor.remove(key_of(self), self.socket());
        let calls = {
            let mut state = lock(&self.state);
            state.over = true;
            std::mem::take(&mut state.calls)
        };
        self.changed.notify_all();
        for call in calls.into_values() {
            self.finish(&call, None);
        }
    }

    /// A call's time, or the time for its end after that, is up.
    pub(super) fn time_is_up(self: &Arc<Self>, call: &CallId) {
        let Some(call) = lock(&self.state).calls.get(call).map(Arc::clone) else { return };
        if !call.decide_end(CallEnd::TimedOut) {
            // Init was told before and did not do it.
            let _gone = rustix::process::pidfd_send_signal(&self.opening.pidfd, self.opening.end);
            self.opening.process.kill_session(self.opening.pid);
            return;
        }
        self.deny(&call, &breach::TIME);
        self.end_call(&call);
    }

    /// Has a call ended whose end is decided.
    fn end_call(self: &Arc<Self>, call: &Arc<CallShared>) {
        let _over = self.send(&ToInit::Kill { call: call.id().clone() }, &[]);
        let at = Instant::now() + CALL_ENDED_WITHIN;
        let last = self.core.reactor.set(at, self, call.id().clone());
        if let Some(earlier) = call.put_deadline(last) {
            self.core.reactor.unset(earlier);
        }
    }

    pub(super) fn stop_call(self: &Arc<Self>, call: &Arc<CallShared>) {
        let runs = lock(&self.state).calls.contains_key(call.id());
        if !runs {
            // What it left in the background goes by its name.
            let _over = self.send(&ToInit::Kill { call: call.id().clone() }, &[]);
        } else if call.decide_end(CallEnd::Stopped) {
            self.end_call(call);
        }
    }

    /// Records that a limit took effect.
    fn deny(&self, call: &CallShared, breach: &Breach) {
        if let Some(watch) = &*lock(&self.watch) {
            watch.deny(call.id(), breach.attribution, breach.refused());
        }
    }

    /// Records the limits that are seen at the end of a call.
    fn breached(&self, call: &CallShared, exit: wire::Exit, full: &[Full]) {
        if let Some(breach) = breach::of_exit(exit) {
            self.deny(call, breach);
        }
        if let Some(watch) = &*lock(&self.watch) {
            for full in full {
                watch.deny(call.id(), Attribution::Inferred, breach::of_full(full));
            }
        }
    }

    fn send(&self, message: &ToInit, descriptors: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        let sent = self.opening.channel.send(message, descriptors);
        sent.map_err(|_| SandboxError::SessionLost)
    }

    fn start(self: &Arc<Self>, spec: CallSpec, io: CallIo) -> Result<Call, SandboxError> {
        let order = order(&spec)?;
        let (call, theirs) = Call::new(Arc::clone(self), &spec, io)?;
        let shared = call.shared();
        {
            let mut state = lock(&self.state);
            if state.over {
                return Err(SandboxError::SessionLost);
            }
            if state.frozen {
                let detail = "the session is frozen".to_owned();
                return Err(SandboxError::Invalid { detail });
            }
            if state.calls.insert(spec.id.clone(), Arc::clone(shared)).is_some() {
                let detail = "a call of that id is under way".to_owned();
                return Err(SandboxError::Invalid { detail });
            }
        }
        let at = Instant::now() + Duration::from_millis(spec.timeout_ms);
        shared.put_deadline(self.core.reactor.set(at, self, spec.id.clone()));
        let descriptors: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        if let Err(error) = self.send(&ToInit::Call(Box::new(order)), &descriptors) {
            lock(&self.state).calls.remove(&spec.id);
            self.finish(shared, None);
            return Err(error);
        }
        Ok(call)
    }

    /// Tells init to stop or go on, and waits for its answer.
    fn ask(&self, message: &ToInit, action: &str) -> Result<(), SandboxError> {
        let mut state = lock(&self.state);
        state.answer = None;
        self.send(message, &[])?;
        let until = Instant::now() + FROZEN_WITHIN;
        loop {
            if state.over {
                return Err(SandboxError::SessionLost);
            }
            if let Some(answer) = state.answer.take() {
                return answer.map_err(|detail| SandboxError::NotFrozen { detail });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SandboxError::NotFrozen { detail: format!("no answer to {action}") });
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn end(&self) -> SessionEnd {
        let _turn = lock(&self.turn);
        if let Some(end) = lock(&self.state).end {
            return end;
        }
        if let Some(watch) = &*lock(&self.watch) {
            watch.read_limits();
        }
        self.opening.kill();
        self.lost();
        let end = lock(&self.watch).take().map(Watch::close).unwrap_or_default();
        lock(&self.state).end = Some(end);
        end
    }
}

fn order(spec: &CallSpec) -> Result<Order, SandboxError> {
    let program = match &spec.program {
        Program::Execute { executable, args } => Runnable::Execute {
            executable: executable.as_os_str().into(),
            args: args.iter().map(|arg| arg.as_os_str().into()).collect(),
        },
        Program::Resident { name } => Runnable::Resident { name: (*name).to_owned() },
    };
    if !spec.cwd.is_absolute() {
        let detail = "the directory to start in is not absolute".to_owned();
        return Err(SandboxError::Invalid { detail });
    }
    Ok(Order {
        call: spec.id.clone(),
        program,
        environment: wire::environment(&spec.environment),
        cwd: spec.cwd.as_path().into(),
        keeps_processes: spec.background || spec.is_agent,
        terminal: spec.terminal,
    })
}

/// One isolation context. Dropping it ends it.
pub struct Session {
    pub(super) shared: Arc<Shared>,
    report: CapabilityReport,
    pub(super) granting: Granting,
}

impl Session {
    pub(super) fn begin(
        shared: Arc<Shared>,
        report: CapabilityReport,
        granting: Granting,
    ) -> Result<Self, SandboxError> {
        let session = Self { shared, report, granting };
        let heard = session.shared.core.reactor.add(&session.shared);
        heard.map_err(SandboxError::system("hearing the session"))?;
        Ok(session)
    }

    /// Its id.
    pub fn id(&self) -> &SessionId {
        &self.shared.id
    }

    /// The boundary as it really is.
    pub fn report(&self) -> &CapabilityReport {
        &self.report
    }

    /// Starts a call. Several may run at once.
    ///
    /// # Errors
    /// The session is over or frozen, or the specification is invalid. A program that cannot be
    /// executed is not an error here: the call's result says so.
    pub fn call(&self, spec: CallSpec, io: CallIo) -> Result<Call, SandboxError> {
        self.shared.start(spec, io)
    }

    /// Stops every process of the session until [`Session::thaw`]. Calls cannot be started
    /// meanwhile; those under way stand still, and their time runs on.
    ///
    /// # Errors
    /// The session is over, or something in it could not be stopped, and then nothing stays
    /// stopped.
    pub fn freeze(&self) -> Result<(), SandboxError> {
        let _turn = lock(&self.shared.turn);
        lock(&self.shared.state).frozen = true;
        let frozen = self.shared.ask(&ToInit::Freeze, "freeze");
        if frozen.is_err() {
            let _over = self.shared.ask(&ToInit::Thaw, "thaw");
            lock(&self.shared.state).frozen = false;
        }
        frozen
    }

    /// Lets a frozen session go on.
    ///
    /// # Errors
    /// The session is over.
    pub fn thaw(&self) -> Result<(), SandboxError> {
        let _turn = lock(&self.shared.turn);
        let thawed = self.shared.ask(&ToInit::Thaw, "thaw");
        lock(&self.shared.state).frozen = false;
        thawed
    }

    /// Ends the session. When it returns, no process of it is left. May be repeated.
    pub fn end(&self) -> SessionEnd {
        let end = self.shared.end();
        *lock(&self.granting.mounts) = None;
        end
    }

    /// Whether calls can still be made.
    pub fn is_alive(&self) -> bool {
        !lock(&self.shared.state).over
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.end();
    }
}
