//! Landlock's refusals as the kernel's audit tells of them: a process that reads the records.
//!
//! It is this binary executed once more, like the launcher, and the only process that keeps
//! `CAP_AUDIT_CONTROL` and `CAP_AUDIT_READ`. It ends when its socket closes, however the supervisor
//! ended, and leaves the host's audit as it was found. It waits for nobody but its supervisor; while
//! it waits, the kernel drops records and it says so. Must never know sessions or calls.

mod host;
mod netlink;
mod record;

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use self::host::Host;
use self::netlink::{Heard, Records};
pub(crate) use self::record::Record;
#[cfg(fuzzing)]
pub(crate) use self::record::parse as parse_record;
use crate::sys::socket::Channel;

/// Second argument of the hidden subcommand.
pub(crate) const ARGUMENT: &str = "audit";

/// What the host's audit is set to, for whoever may ask: root, in the initial namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostAudit {
    /// 0: off. 1: on. 2: on until the next boot.
    pub enabled: u32,
    /// What a lost record does; 2 panics the kernel.
    pub failure: u32,
    /// Records that may wait.
    pub backlog_limit: u32,
    /// How many rules it has.
    pub rules: u64,
    /// One of them keeps system calls of new processes from being audited.
    pub task_never: bool,
}

impl HostAudit {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The kernel's answer, such as `EPERM`.
    pub fn ask() -> io::Result<Self> {
        let control = netlink::Control::open()?;
        let netlink::Status { enabled, failure, backlog_limit, .. } = control.status()?;
        let (rules, task_never) = control.rules()?;
        Ok(Self { enabled, failure, backlog_limit, rules, task_never })
    }
}

/// Records in one message.
const BATCH_MAX: usize = 64;

/// What the reader says.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum FromReader {
    /// It listens.
    Ready,
    /// It cannot; nothing was changed.
    Refused(String),
    /// In the kernel's order.
    Records(Vec<Record>),
    /// Records are missing, nobody knows how many.
    Lost,
}

/// Serves until the other end of `channel` is closed.
pub(crate) fn read(channel: &Channel) -> io::Result<()> {
    let begun = Records::open()
        .map_err(|error| format!("listening to audit: {error}"))
        .and_then(|records| Host::begin().map(|host| (records, host)));
    let (records, mut host) = match begun {
        Ok(begun) => begun,
        Err(why) => return channel.send(&FromReader::Refused(why), &[]),
    };
    let heard = keep_two_capabilities()
        .and_then(|()| channel.send(&FromReader::Ready, &[]))
        .and_then(|()| pass_on(channel, &records, &mut host));
    host.end().and(heard)
}

fn keep_two_capabilities() -> io::Result<()> {
    let two = CapabilitySet::AUDIT_CONTROL | CapabilitySet::AUDIT_READ;
    let sets =
        CapabilitySets { effective: two, permitted: two, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn pass_on(channel: &Channel, records: &Records, host: &mut Host) -> io::Result<()> {
    loop {
        let mut polled = [
            PollFd::new(channel, PollFlags::IN),
            PollFd::from_borrowed_fd(records.as_fd(), PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let closed = !polled[0].revents().is_empty();
        if closed {
            return Ok(());
        }
        if !take(channel, records, host)? {
            return Ok(());
        }
    }
}

/// Takes what there is; false if the supervisor is gone.
fn take(channel: &Channel, records: &Records, host: &mut Host) -> io::Result<bool> {
    let (mut batch, mut lost, mut buffer) = (Vec::new(), false, Vec::new());
    while batch.len() < BATCH_MAX {
        match records.next(&mut buffer)? {
            Heard::Record(kind, text) => match record::parse(kind, text) {
                Some(Ok(record)) => batch.push(record),
                Some(Err(record::Malformed)) => lost = true,
                None => {}
            },
            Heard::Lost => lost = true,
            Heard::Nothing => break,
        }
    }
    lost |= host.has_lost()?;
    let sent = (|| {
        if !batch.is_empty() {
            channel.send(&FromReader::Records(batch), &[])?;
        }
        if lost { channel.send(&FromReader::Lost, &[]) } else { Ok(()) }
    })();
    Ok(sent.is_ok())
}
