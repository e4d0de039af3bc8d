//! The thread that answers one session's listener: each session has its own, so that what one makes
//! the supervisor look at holds up nobody else.
//!
//! It ends with the last process under the filter, or when it is asked something and nobody wants it
//! answered any more: then it lets go of the listener, and the kernel answers. Nobody waits for that,
//! so that it takes no descriptor to be told of it. Must never know what an answer is, nor wait for a
//! sink.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};

use super::Inner;
use super::watched::Shared;

/// Starts it.
///
/// # Errors
/// The host has no thread left.
pub(super) fn start(inner: &Arc<Inner>, shared: &Arc<Shared>) -> io::Result<()> {
    let (inner, shared) = (Arc::clone(inner), Arc::clone(shared));
    let builder = std::thread::Builder::new().name("denials-answer".to_owned());
    let _detached = builder.spawn(move || {
        let blind = Blind(&shared);
        if answer_all(&inner, &shared).is_ok() {
            std::mem::forget(blind);
        }
    })?;
    Ok(())
}

/// Closes the listener when the thread ends by a defect, a panic included: whoever waits for an
/// answer and whoever will is refused, and nobody hangs.
struct Blind<'a>(&'a Shared);

impl Drop for Blind<'_> {
    fn drop(&mut self) {
        self.0.go_blind();
    }
}

fn answer_all(inner: &Inner, shared: &Shared) -> io::Result<()> {
    while let Some(listener) = shared.listener() {
        let mut asked = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
        match poll(&mut asked, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        if !asked[0].revents().contains(PollFlags::IN) {
            // No process is left under the filter.
            return Ok(());
        }
        shared.answer(inner)?;
    }
    Ok(())
}
