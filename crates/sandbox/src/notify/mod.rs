//! Tells of refusals: answers seccomp listeners, watches decoys, and hands records to sinks.
//!
//! A thread of each session answers: it looks, replies, and only then writes into the session's
//! bounded [`ledger`]; nothing it does waits for a sink or for another session. Two threads serve
//! all sessions of a supervisor. One sees decoys opened and limits reached; the other takes records
//! that are due and hands them over, so that a slow sink slows records and never a workload. If an
//! answering thread dies its listener closes, and the kernel answers ENOSYS: refused, untold, and
//! nothing hangs. Never runs in init, whose children could then wait for the very process that waits
//! for them (vfork). Must never know what is done with a record.

mod address;
mod answering;
mod calls;
mod change;
mod groups;
mod landlock;
mod ledger;
mod listener;
mod process;
mod target;
mod verdict;
mod watched;
mod writes;

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cofferdam_contract::denial::{Attribution, DenialSource};
use cofferdam_contract::ids::{CallId, RunId, SessionId};
use cofferdam_contract::ports::{Clock, Entropy};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::inotify;

#[cfg(fuzzing)]
pub(crate) use self::address::far as far_address;
pub(crate) use self::change::OwnDirectories;
pub(crate) use self::ledger::Refused;
use self::watched::{Of, Shared};
use crate::decoy::Decoys;
use crate::error::SandboxError;
use crate::spec::{DenialSink, SessionEnd, TraceGate};

/// What is watched of one session.
pub(crate) struct Watched {
    pub(crate) session: SessionId,
    pub(crate) run: Option<RunId>,
    /// Process 1 of the session, as this process numbers it.
    pub(crate) init: i32,
    /// The listener of init's filter; none where an outer one takes its place.
    pub(crate) listener: Option<OwnedFd>,
    /// Its `/proc`, which numbers processes as the session does.
    pub(crate) procfs: OwnedFd,
    pub(crate) decoys: Option<Decoys>,
    /// Its control groups.
    pub(crate) groups: Vec<PathBuf>,
    /// Of a flat session: where the changes that it may make are made for it.
    pub(crate) own: Option<OwnDirectories>,
    pub(crate) sink: Arc<dyn DenialSink>,
}

const WAKE: u64 = 0;
const DECOYS: u64 = 1;
const FIRST_SESSION: u64 = 2;

/// Keeps going when another thread panicked: what these locks guard is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Opened {
    session: u64,
    inside: PathBuf,
}

#[derive(Default)]
struct Sessions {
    next: u64,
    by_key: HashMap<u64, Arc<Shared>>,
}

#[derive(Default)]
struct Delivery {
    stopped: bool,
    pending: bool,
}

struct Inner {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    started: Instant,
    epoll: OwnedFd,
    wake: OwnedFd,
    inotify: OwnedFd,
    /// By watch descriptor. Held while events are read, so that whoever reads nothing knows that
    /// all has been recorded.
    decoys: Mutex<HashMap<i32, Opened>>,
    sessions: Mutex<Sessions>,
    domains: Mutex<landlock::Domains>,
    domains_changed: Condvar,
    delivery: Mutex<Delivery>,
    delivery_changed: Condvar,
}

/// Watches all sessions of this process until it is dropped.
pub(crate) struct Watcher {
    inner: Arc<Inner>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Watcher {
    /// Starts the two threads.
    ///
    /// # Errors
    /// The host has no descriptor, inotify instance or thread left.
    pub(crate) fn start(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, SandboxError> {
        let failed = SandboxError::system;
        let action = "starting the watcher of denials";
        let inner = Arc::new(Inner::new(clock, entropy).map_err(failed(action))?);
        let mut watcher = Self { inner, threads: Vec::new() };
        // Dropped half started, it stops what it has.
        watcher.spawn("denials-watch", Inner::watch_all).map_err(failed(action))?;
        watcher.spawn("denials-tell", Inner::deliver_all).map_err(failed(action))?;
        Ok(watcher)
    }

    fn spawn(&mut self, name: &str, body: fn(&Inner)) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        let builder = std::thread::Builder::new().name(name.to_owned());
        self.threads.push(builder.spawn(move || body(&inner))?);
        Ok(())
    }

    /// For the reader of audit records.
    pub(crate) fn feed(&self) -> Feed {
        Feed(Arc::clone(&self.inner))
    }

    /// Watches one more session, from before anything runs in it.
    ///
    /// # Errors
    /// The host has no descriptor or thread left to answer it.
    pub(crate) fn watch(&self, watched: Watched) -> Result<Watch, SandboxError> {
        let inner = Arc::clone(&self.inner);
        let Watched { session, run, init, listener, procfs, decoys, groups, own, sink } = watched;
        if let Some(listener) = &listener {
            listener::wake_synchronously(listener.as_fd());
        }
        let counters = groups::Counters::of(&groups);
        let of = Of { session, run, init, procfs };
        let asks = listener.is_some();
        let shared = Arc::new(Shared::new(of, listener, own, counters, sink));
        if asks {
            let started = answering::start(&inner, &shared);
            started.map_err(SandboxError::system("starting the thread that answers a session"))?;
        }
        let key = {
            let mut sessions = lock(&inner.sessions);
            let key = FIRST_SESSION + sessions.next;
            sessions.next += 1;
            sessions.by_key.insert(key, Arc::clone(&shared));
            key
        };
        inner.listen_to_groups(key, &shared);
        for (inside, file) in decoys.into_iter().flat_map(|decoys| decoys.files) {
            inner.watch_decoy(key, &shared, inside, &file);
        }
        Ok(Watch { inner, shared, key })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        lock(&self.inner.delivery).stopped = true;
        self.inner.delivery_changed.notify_all();
        let _full = rustix::io::write(&self.inner.wake, &1_u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// Where Landlock's audit records go.
pub(crate) struct Feed(Arc<Inner>);

impl Feed {
    /// Takes one record.
    pub(crate) fn landlock(&self, record: crate::audit::Record) {
        self.0.landlock(record);
    }

    /// Some are missing.
    pub(crate) fn landlock_lost(&self) {
        self.0.landlock_lost();
    }
}

/// Who sees a session's processes from outside. A look waits for what it looks at, so nothing of the
/// session waits for who looks.
pub(crate) struct Onlooker {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
}

impl Onlooker {
    /// Records a refusal of the process `host_pid`, as this process numbers it.
    pub(crate) fn deny(&self, host_pid: i32, refused: Refused) {
        if self.shared.refused_by_limit(host_pid, refused, &self.inner) {
            self.inner.nudge();
        }
    }
}

/// One watched session. Dropped, it is no longer watched.
pub(crate) struct Watch {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    key: u64,
}

impl Watch {
    /// A call runs as `host_pid` (as this process numbers it) and that process's children. May come
    /// after the call's first denials.
    pub(crate) fn call_started(&self, call: CallId, host_pid: i32) {
        let joined = self.shared.call_started(call, host_pid);
        self.inner.owner_is_known(host_pid);
        if joined {
            self.inner.nudge();
        }
    }

    /// What a call leaves stays beneath `host_pid`, until [`Watch::call_is_gone`].
    pub(crate) fn call_has_keeper(&self, call: CallId, host_pid: i32) {
        if self.shared.call_has_keeper(call, host_pid) {
            self.inner.nudge();
        }
    }

    /// Nothing is left of a call that had a keeper.
    pub(crate) fn call_is_gone(&self, call: &CallId) {
        self.shared.call_is_gone(call);
    }

    /// The call's processes are gone: hands over what is held of it and returns the number of its
    /// denials. Costs two system calls where there was none, and one for each control group.
    pub(crate) fn call_ended(&self, call: &CallId) -> u64 {
        self.inner.read_decoys();
        self.shared.read_counters(&self.inner);
        self.shared.call_ended(call, &self.inner)
    }

    /// Records a refusal that another part of the boundary made, such as a limit.
    pub(crate) fn deny(&self, call: &CallId, attribution: Attribution, refused: Refused) {
        self.shared.deny((Some(call), attribution), refused, &self.inner);
        self.inner.nudge();
    }

    /// Who records what is seen of its processes.
    pub(crate) fn onlooker(&self) -> Onlooker {
        Onlooker { inner: Arc::clone(&self.inner), shared: Arc::clone(&self.shared) }
    }

    /// Records what control groups counted, before they are removed.
    pub(crate) fn read_limits(&self) {
        self.shared.read_counters(&self.inner);
    }

    /// From now on `gate` is asked before a process of the session may trace another.
    pub(crate) fn ask_before_tracing(&self, gate: Arc<dyn TraceGate>) {
        self.shared.ask_before_tracing(gate);
    }

    /// Ends the watch, hands over everything that is held, and tells how much there was.
    pub(crate) fn close(self) -> SessionEnd {
        self.shared.retire();
        self.inner.read_decoys();
        self.inner.settle_domains(self.key, &self.shared);
        self.inner.forget(self.key, &self.shared);
        self.shared.end(&self.inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.retire();
        self.inner.forget(self.key, &self.shared);
    }
}

impl Inner {
    fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> io::Result<Self> {
        let inner = Self {
            clock,
            entropy,
            started: Instant::now(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            inotify: inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?,
            decoys: Mutex::default(),
            sessions: Mutex::default(),
            domains: Mutex::default(),
            domains_changed: Condvar::new(),
            delivery: Mutex::default(),
            delivery_changed: Condvar::new(),
        };
        for (descriptor, key) in [(&inner.wake, WAKE), (&inner.inotify, DECOYS)] {
            let data = epoll::EventData::new_u64(key);
            epoll::add(&inner.epoll, descriptor, data, epoll::EventFlags::IN)?;
        }
        Ok(inner)
    }

    /// Edges alone: a group that is gone would be ready for ever.
    fn listen_to_groups(&self, key: u64, shared: &Shared) {
        let flags = epoll::EventFlags::PRI | epoll::EventFlags::ET;
        shared.with_counters(|file| {
            // What cannot be polled is read at the end of each call.
            let _not_polled = epoll::add(&self.epoll, file, epoll::EventData::new_u64(key), flags);
        });
    }

    fn watch_decoy(&self, key: u64, shared: &Shared, inside: PathBuf, file: &std::path::Path) {
        // Before the lock is free no event can be read, so none can come for an unknown watch.
        let mut decoys = lock(&self.decoys);
        match inotify::add_watch(&self.inotify, file, inotify::WatchFlags::OPEN) {
            Ok(watch) => drop(decoys.insert(watch, Opened { session: key, inside })),
            Err(_) => shared.lose(DenialSource::Decoy, 1),
        }
    }

    fn forget(&self, key: u64, shared: &Shared) {
        if lock(&self.sessions).by_key.remove(&key).is_none() {
            return;
        }
        shared.with_counters(|file| {
            let _not_added = epoll::delete(&self.epoll, file);
        });
        lock(&self.decoys).retain(|watch, opened| {
            let keep = opened.session != key;
            if !keep {
                let _gone_with_its_file = inotify::remove_watch(&self.inotify, *watch);
            }
            keep
        });
    }

    fn session(&self, key: u64) -> Option<Arc<Shared>> {
        lock(&self.sessions).by_key.get(&key).map(Arc::clone)
    }

    /// The first thread: sees decoys opened and limits reached. Both are looked at again at each
    /// call's end, so that without it records only come later.
    fn watch_all(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &events {
                match event.data.u64() {
                    WAKE if lock(&self.delivery).stopped => return,
                    WAKE => {}
                    DECOYS => self.read_decoys(),
                    key => self.groups_changed(key),
                }
            }
        }
    }

    fn groups_changed(&self, key: u64) {
        if self.session(key).is_some_and(|shared| shared.read_counters(self)) {
            self.nudge();
        }
    }

    /// Reads all opens of decoys that there are. Any thread may do it.
    fn read_decoys(&self) {
        let decoys = lock(&self.decoys);
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                for shared in lock(&self.sessions).by_key.values() {
                    shared.lose(DenialSource::Decoy, 1);
                }
            } else if event.events().contains(inotify::ReadFlags::OPEN)
                && let Some(opened) = decoys.get(&event.wd())
                && let Some(shared) = self.session(opened.session)
            {
                shared.decoy_opened(&opened.inside, self);
            }
        }
    }

    /// The second thread: hands over what is due.
    fn deliver_all(&self) {
        let mut next = None;
        loop {
            {
                let mut delivery = lock(&self.delivery);
                while !delivery.stopped && !delivery.pending {
                    let Some(wait) = self.until(next) else { break };
                    let result = self.delivery_changed.wait_timeout(delivery, wait);
                    delivery = result.unwrap_or_else(PoisonError::into_inner).0;
                }
                if delivery.stopped {
                    return;
                }
                delivery.pending = false;
            }
            let sessions: Vec<_> = lock(&self.sessions).by_key.values().cloned().collect();
            next = sessions.iter().filter_map(|shared| shared.deliver_due(self)).min();
        }
    }

    /// How long until `next_ms`; none if it is past. With nothing held: very long.
    fn until(&self, next_ms: Option<u64>) -> Option<Duration> {
        let Some(next_ms) = next_ms else { return Some(Duration::from_hours(1)) };
        next_ms.checked_sub(self.elapsed_ms()).filter(|wait| *wait > 0).map(Duration::from_millis)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells the second thread that something is held.
    fn nudge(&self) {
        lock(&self.delivery).pending = true;
        self.delivery_changed.notify_one();
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod stalls;
#[cfg(test)]
mod tests;
