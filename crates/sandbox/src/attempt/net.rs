//! Sending by ways that a filter may forget, and a loopback interface with more addresses.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

fn address(of: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: of.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*of.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// Connects and sends in one call (`sendto(2)` with `MSG_FASTOPEN`).
///
/// # Errors
/// The kernel's.
pub fn fast_open(socket: BorrowedFd<'_>, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
    let to = address(to);
    // SAFETY: bytes and address outlive the call, and their lengths are given.
    check(unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_FASTOPEN,
            (&raw const to).cast(),
            size_of_val(&to) as u32,
        )
    } as i64)
    .map(drop)
}

/// Sends the same datagram to each of these by one `sendmmsg(2)`.
///
/// # Errors
/// The kernel's.
pub fn send_many(socket: BorrowedFd<'_>, to: &[SocketAddrV4], bytes: &[u8]) -> io::Result<()> {
    let mut to: Vec<libc::sockaddr_in> = to.iter().copied().map(address).collect();
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let message = |to: &mut libc::sockaddr_in| {
        // SAFETY: all zero is a valid value of this plain structure.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_name = std::ptr::from_mut(to).cast();
        message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        message.msg_hdr.msg_iov = &raw mut part;
        message.msg_hdr.msg_iovlen = 1;
        message
    };
    let mut messages: Vec<libc::mmsghdr> = to.iter_mut().map(message).collect();
    let count = messages.len() as u32;
    // SAFETY: that many messages, whose parts outlive the call; the bytes are only read.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    check(sent.into()).map(drop)
}

/// Sends a datagram to an address that names no family, which the kernel takes for IPv4.
///
/// # Errors
/// The kernel's.
pub fn send_without_family(
    socket: BorrowedFd<'_>,
    to: SocketAddrV4,
    bytes: &[u8],
) -> io::Result<()> {
    let to = libc::sockaddr_in { sin_family: libc::AF_UNSPEC as u16, ..address(to) };
    // SAFETY: bytes and address outlive the call, and their lengths are given.
    check(unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            (&raw const to).cast(),
            size_of_val(&to) as u32,
        )
    } as i64)
    .map(drop)
}

/// Brings the loopback interface of this process's network namespace up.
///
/// # Errors
/// The kernel's.
pub fn loopback_up() -> io::Result<()> {
    crate::sys::process::loopback_up()
}

/// Gives the loopback interface of this process's network namespace one more address.
///
/// # Errors
/// The kernel's: without `CAP_NET_ADMIN` in the namespace, EPERM.
pub fn add_loopback_address(number: u8, to: Ipv4Addr) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: all zero is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (into, from) in request.ifr_name.iter_mut().zip(format!("lo:{number}").bytes()) {
        *into = from as libc::c_char;
    }
    let to = address(SocketAddrV4::new(to, 0));
    // SAFETY: an IPv4 address is as long as the general form, and both are plain bytes.
    request.ifr_ifru.ifru_addr =
        unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(to) };
    // SAFETY: the request is a whole `ifreq` that outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request) }.into())
        .map(drop)
}
