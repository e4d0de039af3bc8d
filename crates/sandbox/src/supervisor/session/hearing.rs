//! Who hears a session: the thread that hears all of them, or a caller that waits for its call.
//!
//! A message that ends a call then wakes its caller, and nobody in between. Must never know what a
//! message means.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::epoll;

use super::Shared;
use crate::supervisor::lock;
use crate::wire::FromInit;

/// Who hears a session.
#[derive(Default, PartialEq, Eq)]
pub(super) enum Hearing {
    /// The thread that hears sessions.
    #[default]
    Thread,
    /// A caller that waits for its call.
    Caller,
    /// Nobody: it is over.
    Nobody,
}

impl Shared {
    /// Lets `bell` ring for this session in place of the thread that hears sessions; false if
    /// another bell does.
    pub(in crate::supervisor) fn be_heard_by(&self, bell: BorrowedFd<'_>) -> bool {
        let mut hearing = lock(&self.hearing);
        if *hearing != Hearing::Thread {
            return false;
        }
        let data = epoll::EventData::new_u64(0);
        if epoll::add(bell, self.socket(), data, epoll::EventFlags::IN).is_err() {
            return false;
        }
        // Should it fail both are told, and whoever comes first takes the message.
        let _told_as_well = self.core.reactor.mute(self.socket());
        *hearing = Hearing::Caller;
        true
    }

    /// Ends [`Shared::be_heard_by`].
    pub(in crate::supervisor) fn be_heard_by_thread(&self, bell: BorrowedFd<'_>) {
        let mut hearing = lock(&self.hearing);
        let _gone = epoll::delete(bell, self.socket());
        if *hearing == Hearing::Caller {
            *hearing = Hearing::Thread;
            if self.core.reactor.unmute(self).is_err() {
                // Nobody would hear it any more.
                drop(hearing);
                self.lost();
            }
        }
    }

    /// Reads everything that init has to say.
    pub(in crate::supervisor) fn hear(&self) {
        let hearing = lock(&self.hearing);
        if *hearing == Hearing::Nobody {
            return;
        }
        loop {
            match self.opening.channel.receive_now::<FromInit>() {
                Ok(Some(packet)) => self.take(packet.message, packet.sender),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Closed, or nonsense, which only a broken init sends.
                Ok(None) | Err(_) => {
                    drop(hearing);
                    return self.lost();
                }
            }
        }
    }
}
