//! The kernel's audit by netlink (`linux/audit.h`, `audit(7)`): its state, its rules, its records.
//!
//! Needs `CAP_AUDIT_CONTROL` to steer and `CAP_AUDIT_READ` to listen, in the initial namespaces.
//! Must never know what a record means or why audit is wanted.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const GET: u16 = 1000;
const SET: u16 = 1001;
const ADD_RULE: u16 = 1011;
const DELETE_RULE: u16 = 1012;
const LIST_RULES: u16 = 1013;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const HEADER_BYTES: usize = 16;
/// `AUDIT_NLGRP_READLOG` as a mask.
const READ_LOG: u32 = 1;
/// Longer than any message: `MAX_AUDIT_MESSAGE_LENGTH` is 8970.
const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// What waits here while this process does not run.
const RECEIVE_BYTES: usize = 16 << 20;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

const ENABLED: u32 = 1;
const BACKLOG_LIMIT: u32 = 16;
/// `struct audit_status`, in words.
const STATUS_WORDS: usize = 11;

/// The part of the state that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Status {
    pub(super) enabled: u32,
    /// What a lost record does; 2 panics the kernel.
    pub(super) failure: u32,
    pub(super) backlog_limit: u32,
    /// Records that the kernel dropped since it started.
    pub(super) lost: u32,
}

/// A socket to steer by.
pub(super) struct Control {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

fn open(groups: u32) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::AUDIT),
    )?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at * 4..)?.first_chunk().map(|four| u32::from_ne_bytes(*four))
}

/// Type, sequence and payload.
fn split(message: &[u8]) -> Option<(u16, u32, &[u8])> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    Some((kind, word(message, 2)?, message.get(HEADER_BYTES..)?))
}

impl Control {
    pub(super) fn open() -> io::Result<Self> {
        let socket = open(0)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WITHIN))?;
        Ok(Self { socket, sequence: Cell::new(1) })
    }

    pub(super) fn status(&self) -> io::Result<Status> {
        let sequence = self.send(GET, REQUEST, &[])?;
        let status = self.answer(sequence, |kind, payload| {
            let read = || {
                Some(Status {
                    enabled: word(payload, 1)?,
                    failure: word(payload, 2)?,
                    backlog_limit: word(payload, 5)?,
                    lost: word(payload, 6)?,
                })
            };
            if kind == GET { Some(read()) } else { None }
        })?;
        status.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The rules that the host has: how many, and whether `task,never` is one of them.
    pub(super) fn rules(&self) -> io::Result<(u64, bool)> {
        let sequence = self.send(LIST_RULES, REQUEST, &[])?;
        let (mut count, mut task_never) = (0, false);
        self.answer(sequence, |kind, payload| {
            if kind == LIST_RULES {
                count += 1;
                let of = (word(payload, 0), word(payload, 1));
                task_never |= of == (Some(FILTER_TASK), Some(NEVER));
            }
            (kind == DONE).then_some((count, task_never))
        })
    }

    pub(super) fn set_enabled(&self, enabled: u32) -> io::Result<()> {
        self.set(ENABLED, 1, enabled)
    }

    pub(super) fn set_backlog_limit(&self, limit: u32) -> io::Result<()> {
        self.set(BACKLOG_LIMIT, 5, limit)
    }

    fn set(&self, mask: u32, at: usize, value: u32) -> io::Result<()> {
        let mut words = [0_u32; STATUS_WORDS];
        words[0] = mask;
        words[at] = value;
        self.acknowledged(SET, &bytes_of(&words))
    }

    /// The rule `task,never`: processes that start from now on have no system-call auditing, which
    /// would cost each of them a quarter of a cheap system call.
    pub(super) fn add_never(&self) -> io::Result<()> {
        self.acknowledged(ADD_RULE, &never())
    }

    pub(super) fn delete_never(&self) -> io::Result<()> {
        self.acknowledged(DELETE_RULE, &never())
    }

    fn acknowledged(&self, kind: u16, payload: &[u8]) -> io::Result<()> {
        let sequence = self.send(kind, REQUEST | ACKNOWLEDGE, payload)?;
        self.answer(sequence, |_, _| None::<()>).map(drop).or_else(|error| {
            // The acknowledgement itself is an error of number 0.
            if error.raw_os_error() == Some(0) { Ok(()) } else { Err(error) }
        })
    }

    fn send(&self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<u32> {
        let sequence = self.sequence.replace(self.sequence.get().wrapping_add(1));
        let length = u32::try_from(HEADER_BYTES + payload.len()).unwrap_or(u32::MAX);
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(payload);
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &message, SendFlags::empty(), &kernel)?;
        Ok(sequence)
    }

    /// Reads until `take` has what it wants, or the kernel says no.
    fn answer<T>(
        &self,
        sequence: u32,
        mut take: impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> io::Result<T> {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        loop {
            let (length, _) = rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty())?;
            let Some((kind, of, payload)) = buffer.get(..length).and_then(split) else { continue };
            if of != sequence {
                continue;
            }
            if kind == ERROR {
                let number = word(payload, 0).unwrap_or_default().cast_signed();
                return Err(io::Error::from_raw_os_error(number.saturating_neg()));
            }
            if let Some(taken) = take(kind, payload) {
                return Ok(taken);
            }
        }
    }
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The list of rules that is asked when a process starts, and the answer that ends it.
const FILTER_TASK: u32 = 1;
const NEVER: u32 = 0;

/// `struct audit_rule_data`: filter `task`, action `never`, no condition, every system call.
fn never() -> Vec<u8> {
    const MASK_WORDS: usize = 64;
    let mut words = vec![FILTER_TASK, NEVER, 0];
    words.extend([u32::MAX; MASK_WORDS]);
    words.extend([0; 3 * MASK_WORDS + 1]);
    bytes_of(&words)
}

/// Listens to the records.
pub(super) struct Records(OwnedFd);

/// What can be heard.
pub(super) enum Heard<'a> {
    /// A record of this type; hostile text.
    Record(u16, &'a [u8]),
    /// The kernel had more than this process took in time.
    Lost,
    /// Nothing for now.
    Nothing,
}

impl Records {
    pub(super) fn open() -> io::Result<Self> {
        let socket = open(READ_LOG)?;
        set_socket_recv_buffer_size_force(&socket, RECEIVE_BYTES)?;
        Ok(Self(socket))
    }

    pub(super) fn next<'a>(&self, buffer: &'a mut Vec<u8>) -> io::Result<Heard<'a>> {
        buffer.resize(MESSAGE_BYTES_MAX, 0);
        match rustix::net::recv(&self.0, &mut **buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                let message = buffer.get(..length.min(MESSAGE_BYTES_MAX)).unwrap_or_default();
                match split(message) {
                    Some((kind, _, payload)) => Ok(Heard::Record(kind, payload)),
                    None => Ok(Heard::Lost),
                }
            }
            Err(rustix::io::Errno::NOBUFS) => Ok(Heard::Lost),
            Err(rustix::io::Errno::AGAIN) => Ok(Heard::Nothing),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Records {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
