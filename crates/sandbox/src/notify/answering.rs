//! The thread that answers one session's listener: each session has its own, so that what one makes
//! the supervisor look at holds up nobody else.
//!
//! Must never know what an answer is, nor wait for a sink.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::Inner;
use super::watched::Shared;

/// Answers until it is dropped, or no process is left under the filter.
pub(super) struct Answering {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// # Errors
    /// The host has no descriptor or thread left.
    pub(super) fn start(inner: &Arc<Inner>, shared: &Arc<Shared>) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = Arc::clone(&stop);
        let (inner, shared) = (Arc::clone(inner), Arc::clone(shared));
        let builder = std::thread::Builder::new().name("denials-answer".to_owned());
        let thread = builder.spawn(move || {
            let blind = Blind(&shared);
            if answer_all(&inner, &shared, &stopped).is_ok() {
                std::mem::forget(blind);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let _full = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        // It may be the one that lets go of the session last.
        let own = std::thread::current().id();
        let other = self.thread.take().filter(|thread| thread.thread().id() != own);
        let _panicked = other.map(JoinHandle::join);
    }
}

/// Closes the listener when the thread ends by a defect, a panic included: whoever waits for an
/// answer and whoever will is refused, and nobody hangs.
struct Blind<'a>(&'a Shared);

impl Drop for Blind<'_> {
    fn drop(&mut self) {
        self.0.go_blind();
    }
}

fn answer_all(inner: &Inner, shared: &Shared, stopped: &OwnedFd) -> io::Result<()> {
    while let Some(listener) = shared.listener() {
        let mut ready = [
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            PollFd::new(stopped, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        let [asked, stop] = ready.map(|it| it.revents());
        if !stop.is_empty() {
            return Ok(());
        }
        if asked.contains(PollFlags::IN) {
            shared.answer(inner)?;
        } else {
            // No process is left under the filter.
            return Ok(());
        }
    }
    Ok(())
}
