//! Reaching what is not in the session: the host's loopback, its named sockets, and others'
//! addresses.
//!
//! Success is a nonce that a listener of the host got. Others' addresses are on the loopback of the
//! control's own network; nothing is ever sent elsewhere.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};

use cofferdam_sandbox::attempt;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType};
use rustix::process::DumpableBehavior;

use crate::inside::{FAR, METADATA};
use crate::probe::{Open, Probe, Proof, code, script};
use crate::scene::Scene;

const NET: &str = "network namespace";
const ROOT: &str = "private root";
const TOOLS: &str = "layers over the user's own tools";
const FILTER: &str = "system-call filter";
const CONNECT: &str = "seccomp.connect";
const SOCKET: &str = "seccomp.socket";
const FAMILIES: &str = "sockets of that family";

#[rustfmt::skip]
pub(crate) const PROBES: &[Probe] = &[
    code("network.loopback", "the host's loopback", NET, Proof::Heard, |s| tcp(s, "127.0.0.1", "PORT")),
    code("network.loopback-other", "another address of loopback", NET, Proof::Heard, |s| tcp(s, "0.0.0.0", "PORT")),
    code("network.loopback-6", "the host's loopback by IPv6", NET, Proof::Heard, |s| tcp(s, "::1", "PORT6"))
        .needs("IPv6"),
    code("network.loopback-mapped", "the host's loopback by a mapped address", NET, Proof::Heard, |s| tcp(s, "::ffff:127.0.0.1", "PORT"))
        .needs("IPv6"),
    code("network.fast-open", "connecting and sending in one call", NET, Proof::Heard, |s| {
        fast_open(s, Ipv4Addr::LOCALHOST, s.number("PORT"))
    }),
    code("network.datagram", "a datagram to the host's loopback", NET, Proof::Heard, |s| {
        udp(s, Ipv4Addr::LOCALHOST, s.number("UDP_PORT"))
    }),
    code("network.datagrams", "several datagrams in one call", NET, Proof::Heard, |s| {
        many(s, Ipv4Addr::LOCALHOST, s.number("UDP_PORT"))
    }),
    code("network.abstract", "an abstract socket of the host", NET, Proof::Heard, |s| {
        let address = SocketAddr::from_abstract_name(s.get("ABSTRACT"))?;
        UnixStream::connect_addr(&address)?.write_all(s.get("NONCE").as_bytes())
    }),
    code("network.abstract-datagram", "a datagram to an abstract socket of the host", NET, Proof::Heard, |s| {
        let address = SocketAddr::from_abstract_name(s.get("ABSTRACT_DATAGRAM"))?;
        UnixDatagram::unbound()?.send_to_addr(s.get("NONCE").as_bytes(), &address).map(drop)
    }),
    code("network.socket-file", "a socket file of the host, such as an agent's or a container engine's", ROOT, Proof::Heard, |s| {
        UnixStream::connect(s.get("SOCKET"))?.write_all(s.get("NONCE").as_bytes())
    }),
    code("network.tools-socket", "a socket file in a directory of tools", TOOLS, Proof::Heard, |s| {
        UnixStream::connect(s.get("TOOLS_SOCKET"))?.write_all(s.get("NONCE").as_bytes())
    }),
    code("network.tools-datagram", "a datagram to a socket file there", TOOLS, Proof::Heard, |s| {
        UnixDatagram::unbound()?.send_to(s.get("NONCE").as_bytes(), s.get("TOOLS_DATAGRAM")).map(drop)
    }),
    code("network.inherited", "a socket that whoever started it left open", "closed descriptors", Proof::Heard, |s| {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let send = |left| rustix::net::send(left, s.get("NONCE").as_bytes(), flags).map(drop);
        Ok(s.left_open("SOCKET_IDENTITY").into_iter().try_for_each(send)?)
    }),
    code("network.tcp", "somebody's server", NET, Proof::Heard, |s| {
        TcpStream::connect((FAR, 443))?.write_all(s.get("NONCE").as_bytes())
    }).open(Open::Network).told(CONNECT),
    code("network.metadata", "the server that gives cloud machines their credentials", NET, Proof::Heard, |s| {
        TcpStream::connect((METADATA, 80))?.write_all(s.get("NONCE").as_bytes())
    }).open(Open::Network).told(CONNECT),
    code("network.far-fast-open", "somebody's server, connecting and sending in one call", NET, Proof::Heard, |s| {
        fast_open(s, FAR, 443)
    }).open(Open::Network).told(CONNECT),
    code("network.dns", "a name server, with a secret in the question", NET, Proof::Heard, |s| udp(s, FAR, 53))
        .open(Open::Network).told(CONNECT),
    code("network.far-datagrams", "the same, several in one call", NET, Proof::Heard, |s| many(s, FAR, 53))
        .open(Open::Network).told(CONNECT),
    code("network.far-seventeenth", "the same, behind sixteen that go to itself", NET, Proof::Heard, |s| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let own = SocketAddrV4::new(Ipv4Addr::LOCALHOST, socket.local_addr()?.port());
        let to = [&[own; 16][..], &[SocketAddrV4::new(FAR, 53)]].concat();
        attempt::send_many(socket.as_fd(), &to, s.get("NONCE").as_bytes())
    }).open(Open::Network).told(CONNECT),
    code("network.far-no-family", "the same, to an address without a family", NET, Proof::Heard, |s| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        attempt::send_without_family(socket.as_fd(), SocketAddrV4::new(FAR, 53), s.get("NONCE").as_bytes())
    }).open(Open::Network).told(CONNECT),
    code("network.far-connected", "the same, from a connected socket", NET, Proof::Heard, |s| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((FAR, 53))?;
        socket.send(s.get("NONCE").as_bytes()).map(drop)
    }).open(Open::Network).told(CONNECT),
    code("network.hidden", "somebody's server, from a process that keeps others out of its memory", NET, Proof::Heard, |s| {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        TcpStream::connect((FAR, 443))?.write_all(s.get("NONCE").as_bytes())
    }).open(Open::Network).told(CONNECT),
    code("network.packet", "a packet socket", FILTER, Proof::Socket(17, 0, 0), |s| socket(s, 17, SocketType::RAW, 0))
        .open(Open::Network).told(SOCKET),
    code("network.raw", "a raw IP socket", FILTER, Proof::Socket(2, 3, 0), |s| socket(s, 2, SocketType::RAW, 1))
        .open(Open::Network).told(SOCKET),
    code("network.raw-6", "a raw IPv6 socket", FILTER, Proof::Socket(10, 3, 0), |s| socket(s, 10, SocketType::RAW, 58))
        .open(Open::Network).needs("IPv6").told(SOCKET),
    code("network.vsock", "a socket to the hypervisor, which no network namespace holds", FILTER, Proof::Socket(40, 0, 0), |s| {
        socket(s, 40, SocketType::STREAM, 0)
    }).needs(FAMILIES).told(SOCKET),
    code("network.crypto", "the kernel's crypto by sockets", FILTER, Proof::Socket(38, 0, 0), |s| {
        socket(s, 38, SocketType::SEQPACKET, 0)
    }).needs(FAMILIES).told(SOCKET),
    code("network.express", "an express-path socket", FILTER, Proof::Socket(44, 0, 0), |s| socket(s, 44, SocketType::RAW, 0))
        .open(Open::Network).needs(FAMILIES).told(SOCKET),
    code("network.audit", "the kernel's audit", FILTER, Proof::Socket(16, 0, 9), |s| socket(s, 16, SocketType::RAW, 9))
        .needs(FAMILIES).told(SOCKET),
    code("network.filter", "the kernel's packet filter", FILTER, Proof::Socket(16, 0, 12), |s| socket(s, 16, SocketType::RAW, 12))
        .needs(FAMILIES).told(SOCKET),
    code("network.devices", "the kernel's word of devices", FILTER, Proof::Socket(16, 0, 15), |s| socket(s, 16, SocketType::RAW, 15))
        .needs(FAMILIES).told(SOCKET),
    script("network.shell", "the shell's own sockets", NET, Proof::Heard,
        "bash -c 'echo \"$NONCE\" > \"/dev/tcp/127.0.0.1/$PORT\"; echo \"$NONCE\" > \"/dev/udp/127.0.0.1/$UDP_PORT\"'")
        .needs("bash"),
];

fn tcp(scene: &Scene, host: &str, port: &str) -> io::Result<()> {
    let address: std::net::IpAddr = host.parse().map_err(io::Error::other)?;
    TcpStream::connect((address, scene.number(port)))?.write_all(scene.get("NONCE").as_bytes())
}

fn udp(scene: &Scene, to: Ipv4Addr, port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.send_to(scene.get("NONCE").as_bytes(), (to, port)).map(drop)
}

fn many(scene: &Scene, to: Ipv4Addr, port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let to = SocketAddrV4::new(to, port);
    attempt::send_many(socket.as_fd(), &[to], scene.get("NONCE").as_bytes())
}

fn fast_open(scene: &Scene, to: Ipv4Addr, port: u16) -> io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let to = SocketAddrV4::new(to, port);
    attempt::fast_open(socket.as_fd(), to, scene.get("NONCE").as_bytes())
}

fn socket(scene: &Scene, family: u16, kind: SocketType, protocol: u32) -> io::Result<()> {
    let protocol = std::num::NonZeroU32::new(protocol).map(Protocol::from_raw);
    scene.hand(rustix::net::socket(AddressFamily::from_raw(family), kind, protocol)?)
}
