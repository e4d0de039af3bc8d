//! The process that reads Landlock's audit records, as the supervisor holds it.
//!
//! It is not tied to the supervisor's life: it ends when the socket closes, so that it can leave the
//! host as it was found also when the supervisor is killed. Must never know what a record means.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::process::{self, Tie};
use crate::audit::{self, FromReader};
use crate::error::SandboxError;
use crate::notify::Feed;
use crate::sys::{landlock, socket::Channel};

/// The ABI from which on the kernel tells.
const TELLS_SINCE: u32 = 7;
/// How long the reader may take to turn audit on.
const READY_WITHIN: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// Whether Landlock's refusals are told here.
pub(crate) enum Audit {
    /// Nobody asked for it.
    Off,
    /// Somebody did, and it cannot be had: why.
    Unavailable(String),
    /// They are, for as long as this is held.
    On { _reader: Reader },
}

impl Audit {
    /// Starts the reader if `wanted`. What keeps it from starting is no error: it is reported.
    pub(super) fn start(wanted: bool, image: BorrowedFd<'_>, feed: Feed) -> Self {
        let abi = landlock::abi();
        match wanted {
            false => Self::Off,
            true if !rustix::process::geteuid().is_root() => {
                Self::Unavailable("reading audit records takes root".to_owned())
            }
            true if abi < TELLS_SINCE => Self::Unavailable(format!(
                "Landlock ABI {abi}: the kernel tells since {TELLS_SINCE}"
            )),
            true => match Reader::start(image, feed) {
                Ok(Ok(reader)) => Self::On { _reader: reader },
                Ok(Err(why)) => Self::Unavailable(why),
                Err(error) => Self::Unavailable(error.to_string()),
            },
        }
    }

    pub(super) fn is_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }
}

/// The running reader. Dropped, it ends, and the host's audit is as it was.
pub(crate) struct Reader {
    channel: Arc<Channel>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(image: BorrowedFd<'_>, feed: Feed) -> Result<Result<Self, String>, SandboxError> {
        let failed = || SandboxError::system("starting the reader of audit records");
        let (ours, theirs) = Channel::pair().map_err(failed())?;
        let image = image.try_clone_to_owned().map_err(failed())?;
        let tie = Tie { arguments: &[audit::ARGUMENT], to_the_thread: false };
        let (mut child, _pidfd) = process::spawn(&image, &theirs, &tie).map_err(failed())?;
        drop(theirs);
        let mut polled = [PollFd::new(&ours, PollFlags::IN)];
        let answered = matches!(poll(&mut polled, Some(&READY_WITHIN)), Ok(1..));
        let answer = answered.then(|| ours.receive::<FromReader>()).transpose().map_err(failed())?;
        let why = match answer.flatten().map(|packet| packet.message) {
            Some(FromReader::Ready) => None,
            Some(FromReader::Refused(why)) => Some(why),
            _ => Some("the reader did not answer".to_owned()),
        };
        if let Some(why) = why {
            drop(ours);
            let _ended = child.wait();
            return Ok(Err(why));
        }
        let channel = Arc::new(ours);
        let of_thread = Arc::clone(&channel);
        let listen = move || {
            hear(&of_thread, &feed);
            let _ended = child.wait();
        };
        let builder = std::thread::Builder::new().name("denials-audit".to_owned());
        let thread = Some(builder.spawn(listen).map_err(failed())?);
        Ok(Ok(Self { channel, thread }))
    }
}

/// Feeds until the reader is gone. One that goes before it is told to leaves its records lost.
fn hear(channel: &Channel, feed: &Feed) {
    loop {
        match channel.receive::<FromReader>() {
            Ok(Some(packet)) => match packet.message {
                FromReader::Records(records) => {
                    records.into_iter().for_each(|it| feed.landlock(it))
                }
                FromReader::Lost => feed.landlock_lost(),
                FromReader::Ready | FromReader::Refused(_) => {}
            },
            Ok(None) | Err(_) => return feed.landlock_lost(),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _gone = rustix::net::shutdown(self.channel.as_fd(), rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
