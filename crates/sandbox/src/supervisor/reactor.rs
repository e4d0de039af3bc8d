//! One thread that hears all sessions of a launcher, but for those that a caller hears itself, and
//! keeps all their deadlines.
//!
//! Must never know what a message means or what happens when time is up.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use super::lock;
use super::session::Shared;
use crate::error::SandboxError;
use cofferdam_contract::ids::CallId;

const WAKE: u64 = 0;

/// Names one deadline so that it can be taken back.
pub(super) type Deadline = (Instant, u64);

/// Whose time is up.
type Due = (Weak<Shared>, CallId);

#[derive(Default)]
struct Deadlines {
    next: u64,
    pending: BTreeMap<Deadline, Due>,
    /// Until when the thread sleeps; it need not be woken for what comes later.
    sleeps_until: Option<Instant>,
}

struct Inner {
    epoll: OwnedFd,
    wake: OwnedFd,
    sessions: Mutex<HashMap<u64, Weak<Shared>>>,
    deadlines: Mutex<Deadlines>,
    stopped: Mutex<bool>,
}

/// The thread. It ends when this is dropped.
pub(super) struct Reactor(Arc<Inner>);

impl Reactor {
    pub(super) fn start() -> Result<Self, SandboxError> {
        let make = || -> io::Result<Arc<Inner>> {
            let inner = Inner {
                epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
                wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
                sessions: Mutex::default(),
                deadlines: Mutex::default(),
                stopped: Mutex::new(false),
            };
            let wake = epoll::EventData::new_u64(WAKE);
            epoll::add(&inner.epoll, &inner.wake, wake, epoll::EventFlags::IN)?;
            let inner = Arc::new(inner);
            let of_thread = Arc::clone(&inner);
            let builder = std::thread::Builder::new().name("sessions".to_owned());
            builder.spawn(move || of_thread.run())?;
            Ok(inner)
        };
        make().map(Self).map_err(SandboxError::system("starting the thread that hears sessions"))
    }

    /// Hears `shared`'s socket from now on.
    pub(super) fn add(&self, shared: &Arc<Shared>) -> io::Result<()> {
        let key = key_of(shared);
        lock(&self.0.sessions).insert(key, Arc::downgrade(shared));
        let data = epoll::EventData::new_u64(key);
        Ok(epoll::add(&self.0.epoll, shared.socket(), data, epoll::EventFlags::IN)?)
    }

    /// Hears it no more until [`Reactor::unmute`].
    pub(super) fn mute(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.0.epoll, socket)?)
    }

    /// Hears it again, and what came meanwhile too.
    pub(super) fn unmute(&self, shared: &Shared) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key_of(shared));
        Ok(epoll::add(&self.0.epoll, shared.socket(), data, epoll::EventFlags::IN)?)
    }

    /// Hears it no more.
    pub(super) fn remove(&self, key: u64, socket: BorrowedFd<'_>) {
        if lock(&self.0.sessions).remove(&key).is_some() {
            let _not_added = epoll::delete(&self.0.epoll, socket);
        }
    }

    /// Calls [`Shared::time_is_up`] at `at`.
    pub(super) fn set(&self, at: Instant, shared: &Arc<Shared>, call: CallId) -> Deadline {
        let mut deadlines = lock(&self.0.deadlines);
        deadlines.next += 1;
        let deadline = (at, deadlines.next);
        deadlines.pending.insert(deadline, (Arc::downgrade(shared), call));
        if deadlines.sleeps_until.is_none_or(|until| at < until) {
            deadlines.sleeps_until = Some(at);
            drop(deadlines);
            self.0.wake();
        }
        deadline
    }

    pub(super) fn unset(&self, deadline: Deadline) {
        lock(&self.0.deadlines).pending.remove(&deadline);
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        *lock(&self.0.stopped) = true;
        self.0.wake();
    }
}

/// A name for a session that is unique as long as it is allocated.
pub(super) fn key_of(shared: &Shared) -> u64 {
    std::ptr::from_ref(shared).addr() as u64
}

impl Inner {
    fn wake(&self) {
        let _full = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let wait = self.sleep();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                wait.as_ref(),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            if *lock(&self.stopped) {
                return;
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => drop(rustix::io::read(&self.wake, &mut [0; 8])),
                    key => self.hear(key),
                }
            }
            for (shared, call) in self.take_due() {
                if let Some(shared) = shared.upgrade() {
                    shared.time_is_up(&call);
                }
            }
        }
    }

    fn hear(&self, key: u64) {
        let shared = lock(&self.sessions).get(&key).and_then(Weak::upgrade);
        if let Some(shared) = shared {
            shared.hear();
        }
    }

    /// How long to sleep. A time once chosen is kept although its deadline may be taken back:
    /// waking for nothing now and then is cheaper than being woken for every call.
    fn sleep(&self) -> Option<Timespec> {
        let mut deadlines = lock(&self.deadlines);
        let now = Instant::now();
        let next = deadlines.pending.keys().next().map(|(at, _)| *at);
        let kept = deadlines.sleeps_until.filter(|until| *until > now);
        let until = match (next, kept) {
            (Some(next), Some(kept)) => Some(next.min(kept)),
            (next, kept) => next.or(kept),
        };
        deadlines.sleeps_until = until;
        let wait = until?.saturating_duration_since(now);
        // Rounded up, so that it does not wake just before the time.
        let tv_nsec = i64::from(wait.subsec_nanos());
        Some(Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec })
    }

    fn take_due(&self) -> Vec<Due> {
        let mut deadlines = lock(&self.deadlines);
        let later = deadlines.pending.split_off(&(Instant::now(), u64::MAX));
        std::mem::replace(&mut deadlines.pending, later).into_values().collect()
    }
}
