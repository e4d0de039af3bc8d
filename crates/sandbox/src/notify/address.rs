//! Where a connect or an addressed send wants to go, read from the memory of the caller.
//!
//! Only for telling. The caller may change its memory after the look and before the kernel reads
//! it again (`seccomp_unotify(2)` warns of this), and that is harmless here: a session's network
//! namespace has loopback and nothing else, so what slips past fails with ENETUNREACH all the same,
//! only untold. Must never become the place that keeps traffic in.
//!
//! The look costs 12 µs for each `connect`, `sendmsg`, `sendmmsg` and addressed `sendto` (two
//! cores, Linux 6.18; a loopback `connect` alone takes 1 µs). `send` and `write` pay nothing, so
//! only programs that use `sendmsg` for every message, such as gRPC's, notice.

#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::filter::rule::Judge;

/// Where a call wants to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Destination {
    /// Nowhere that a record is due: loopback, a Unix socket, no address, not readable.
    Near,
    /// Beyond loopback: `ADDRESS:PORT`.
    Far(String),
    /// Nobody knows: there is more to look at than one call may have looked at.
    Unseen,
}

/// Longest socket address: `sizeof(struct sockaddr_in6)`.
const ADDRESS_BYTES_MAX: usize = 28;
/// Messages of one `sendmmsg` that are looked at. The kernel takes 1024 (`UIO_MAXIOV`); each can be in
/// a page that has to come from disk first, and meanwhile the session's others wait for their answers.
const MESSAGES_MAX: u64 = 128;
const MMSGHDR_BYTES: u64 = size_of::<libc::mmsghdr>() as u64;

/// Looks at the address that a call was given.
pub(super) fn destination(pid: i32, judge: Judge, args: &[u64; 6]) -> Destination {
    let argument = |index: usize| args.get(index).copied().unwrap_or_default();
    match judge {
        Judge::Address { pointer, length } => {
            at(pid, argument(pointer), argument(length) & 0xffff_ffff)
        }
        Judge::Message { pointer } => named(pid, argument(pointer)),
        Judge::Messages { pointer, count } => {
            let count = argument(count) & 0xffff_ffff;
            let rest = if count > MESSAGES_MAX { Destination::Unseen } else { Destination::Near };
            (0..count.min(MESSAGES_MAX))
                .map(|index| named(pid, argument(pointer) + index * MMSGHDR_BYTES))
                .find(|to| *to != Destination::Near)
                .unwrap_or(rest)
        }
        Judge::OwnIds { .. }
        | Judge::OwnProcess { .. }
        | Judge::Write(_)
        | Judge::Change { .. } => Destination::Near,
    }
}

/// The address that a `struct msghdr` names: a pointer and a 32-bit length at its start.
fn named(pid: i32, header: u64) -> Destination {
    let mut start = [0_u8; 12];
    if !matches!(read(pid, header, &mut start), Ok(12)) {
        return Destination::Near;
    }
    let [p0, p1, p2, p3, p4, p5, p6, p7, l0, l1, l2, l3] = start;
    let pointer = u64::from_ne_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
    at(pid, pointer, u64::from(u32::from_ne_bytes([l0, l1, l2, l3])))
}

fn at(pid: i32, pointer: u64, length: u64) -> Destination {
    if pointer == 0 || length == 0 {
        return Destination::Near;
    }
    let mut bytes = [0_u8; ADDRESS_BYTES_MAX];
    let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(ADDRESS_BYTES_MAX);
    match read(pid, pointer, &mut bytes[..wanted]) {
        Ok(count) => decode(&bytes[..count.min(wanted)]),
        Err(_) => Destination::Near,
    }
}

/// Reads a socket address of a family that may lead out.
pub(super) fn decode(bytes: &[u8]) -> Destination {
    let family = bytes.first_chunk::<2>().map(|two| i32::from(u16::from_ne_bytes(*two)));
    let port = bytes.get(2..4).and_then(|two| two.try_into().ok()).map(u16::from_be_bytes);
    let address = match family {
        // A datagram's address without a family is one of IPv4 (`udp_sendmsg` of the kernel). To
        // connect to none is to disconnect, and has no address.
        Some(libc::AF_INET | libc::AF_UNSPEC) => {
            octets::<4>(bytes, 4).map(|four| IpAddr::from(Ipv4Addr::from(four)))
        }
        Some(libc::AF_INET6) => {
            octets::<16>(bytes, 8).map(|all| Ipv6Addr::from(all).to_canonical())
        }
        _ => None,
    };
    match (address, port) {
        (Some(address), Some(port)) if !address.is_loopback() && !address.is_unspecified() => {
            Destination::Far(std::net::SocketAddr::new(address, port).to_string())
        }
        _ => Destination::Near,
    }
}

/// Where an address leads, for the fuzzer.
#[cfg(fuzzing)]
pub(crate) fn far(bytes: &[u8]) -> Option<String> {
    match decode(bytes) {
        Destination::Far(to) => Some(to),
        Destination::Near | Destination::Unseen => None,
    }
}

fn octets<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from + N)?.try_into().ok()
}

/// Reads memory of another process; fewer bytes than asked where a mapping ends.
pub(super) fn read(pid: i32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(address as usize),
        iov_len: into.len(),
    };
    // SAFETY: the kernel writes at most `into.len()` bytes into `into`; the remote pointer is the
    // other process's and is only handed to the kernel.
    let count =
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
