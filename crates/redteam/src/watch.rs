//! What is seen from outside while an attempt runs: its end of the line, and what it hands over.
//!
//! Everything that comes over the line is the attacker's. Descriptors are looked at without being
//! read; what the kernel records of a process is read here, where no wall is in the way. Must never
//! know which probe runs.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, OFlags};
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags,
    SocketType,
};

use crate::scene::{DESCRIPTORS_MAX, Request, word};

/// Longest that one attempt is watched.
const WATCHED: Duration = Duration::from_secs(20);
/// Most descriptors that are looked at, and most bytes of one message.
const HANDED_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 4096;
/// How the kernel calls a descriptor of a process.
const PROCESS: &str = "[pidfd]";

/// A descriptor as the kernel describes it to us.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Handed {
    /// What `/proc/self/fd` says that it is.
    pub(crate) link: String,
    /// Device, inode and mount.
    pub(crate) identity: (u64, u64, u64),
    pub(crate) mode: u32,
    pub(crate) bytes: u64,
    /// Family, type and protocol of a socket.
    pub(crate) socket: Option<(u16, u32, u32)>,
    pub(crate) is_writable: bool,
    /// The kernel's record of a process.
    pub(crate) record: String,
    /// What it has open.
    pub(crate) holds: Vec<String>,
}

/// All that came over the line.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) handed: Vec<Handed>,
    pub(crate) listeners: Vec<OwnedFd>,
    /// What the kernel said against the attempt.
    pub(crate) refusal: Option<String>,
    /// Why there was no place for the control.
    pub(crate) no_place: Option<String>,
    /// Why there were no namespaces for it.
    pub(crate) no_namespaces: Option<String>,
}

/// The watcher's end of a line.
pub(crate) struct Line(OwnedFd);

impl Line {
    /// A line with the request already on it, and the attacker's end.
    pub(crate) fn with(request: &Request, given: &[BorrowedFd<'_>]) -> io::Result<(Self, OwnedFd)> {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(given)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let text = serde_json::to_vec(request)?;
        sendmsg(&ours, &[io::IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
        Ok((Self(ours), theirs))
    }

    /// Watches until nobody holds the other end, or for too long.
    pub(crate) fn watch(&self) -> Received {
        self.watch_until(|_| false)
    }

    /// Watches until something was handed over, too.
    pub(crate) fn watch_until_handed(&self) -> Received {
        self.watch_until(|seen| !seen.handed.is_empty())
    }

    fn watch_until(&self, enough: impl Fn(&Received) -> bool) -> Received {
        let mut seen = Received::default();
        let until = Instant::now() + WATCHED;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or_default(),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut polled, Some(&left)) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
            if !matches!(self.receive(&mut seen), Ok(true)) || enough(&seen) {
                break;
            }
        }
        seen
    }

    /// One message; false at the end.
    fn receive(&self, seen: &mut Received) -> io::Result<bool> {
        let mut bytes = [0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = match rustix::net::recvmsg(&self.0, &mut parts, &mut control, flags) {
            Ok(received) => received,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        let Some((&kind, text)) = bytes.get(..received.bytes).and_then(|it| it.split_first())
        else {
            return Ok(false);
        };
        let text = || cofferdam_contract::text::escape_bytes(text);
        match kind {
            word::HAND => {
                let room = HANDED_MAX.saturating_sub(seen.handed.len());
                seen.handed.extend(descriptors.iter().take(room).filter_map(|it| look(it).ok()));
                rustix::net::send(&self.0, b"y", SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
            }
            word::LISTENER => seen.listeners.extend(descriptors),
            word::FAILED => seen.refusal = Some(text()),
            word::NO_PLACE => seen.no_place = Some(text()),
            word::NO_NAMESPACES => seen.no_namespaces = Some(text()),
            _ => {}
        }
        Ok(true)
    }
}

/// Asks the kernel about a descriptor.
fn look(descriptor: &OwnedFd) -> io::Result<Handed> {
    let facts = rustix::fs::fstat(descriptor)?;
    let own = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let link = std::fs::read_link(own)?.to_string_lossy().into_owned();
    let mount =
        rustix::fs::statx(descriptor, "", AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::MNT_ID)
            .map_or(0, |facts| facts.stx_mnt_id);
    let process = link.ends_with(PROCESS).then(|| process(descriptor)).flatten();
    let (record, holds) = process.unwrap_or_default();
    let access = rustix::fs::fcntl_getfl(descriptor)? & (OFlags::RWMODE | OFlags::PATH);
    Ok(Handed {
        link,
        identity: (facts.st_dev, facts.st_ino, mount),
        mode: facts.st_mode,
        bytes: u64::try_from(facts.st_size).unwrap_or_default(),
        socket: socket(descriptor.as_fd()),
        is_writable: access == OFlags::WRONLY || access == OFlags::RDWR,
        record,
        holds,
    })
}

/// The kernel's record of a process at this moment, and what it has open.
fn process(descriptor: &OwnedFd) -> Option<(String, Vec<String>)> {
    let own = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let about = std::fs::read_to_string(own).ok()?;
    let pid: u32 = about.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    let record = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = open.take(HANDED_MAX).filter_map(|it| std::fs::read_link(it.path()).ok());
    Some((record, links.map(|it| it.to_string_lossy().into_owned()).collect()))
}

fn socket(descriptor: BorrowedFd<'_>) -> Option<(u16, u32, u32)> {
    let family = sockopt::socket_domain(descriptor).ok()?.as_raw();
    let kind = sockopt::socket_type(descriptor).ok()?.as_raw();
    let protocol = sockopt::socket_protocol(descriptor).ok()?;
    Some((family, kind, protocol.map_or(0, |it| it.as_raw().get())))
}
