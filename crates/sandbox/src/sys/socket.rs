//! Packets with descriptors between supervisor, launcher and init.
//!
//! Sequenced packets keep the borders of messages and tell of the other end's death. A message
//! that is too long for a packet travels as a memfd. Must never know what a message means.

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message that travels in the packet itself, in bytes.
const INLINE_BYTES_MAX: usize = 48 << 10;
/// Longest message at all, in bytes.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// Most descriptors in one packet; the kernel takes 253.
pub(crate) const DESCRIPTORS_MAX: usize = 240;

const INLINE: u8 = b'i';
const IN_MEMFD: u8 = b'm';

/// One end of a pair of sockets.
pub(crate) struct Channel(OwnedFd);

/// A received message.
pub(crate) struct Packet<T> {
    pub(crate) message: T,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The sender, as this process numbers it; where the channel asks for it.
    pub(crate) sender: Option<i32>,
}

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Channel {
    /// Two connected ends, closed on execution.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(other)))
    }

    /// Lets [`Packet::sender`] be filled in.
    pub(crate) fn ask_for_senders(&self) -> io::Result<()> {
        Ok(sockopt::set_socket_passcred(&self.0, true)?)
    }

    /// Sends one message; descriptors are duplicated into the receiver.
    pub(crate) fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = encode(message)?;
        if bytes.len() <= INLINE_BYTES_MAX {
            return self.send_bytes(&bytes, descriptors);
        }
        let mut long: std::fs::File =
            rustix::fs::memfd_create("message", MemfdFlags::CLOEXEC)?.into();
        long.write_all(&bytes[1..])?;
        let mut all = descriptors.to_vec();
        all.push(long.as_fd());
        self.send_bytes(&[IN_MEMFD], &all)
    }

    /// Without descriptors this is `send(2)`, which a session's filter does not look at.
    fn send_bytes(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if descriptors.is_empty() {
            rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?;
            return Ok(());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let parts = [IoSlice::new(bytes)];
        rustix::net::sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for one message. `None`: the other end is closed.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Packet<T>>> {
        self.receive_with(RecvFlags::empty())
    }

    /// Like [`Channel::receive`]; `WouldBlock` if there is no message.
    pub(crate) fn receive_now<T: DeserializeOwned>(&self) -> io::Result<Option<Packet<T>>> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with<T: DeserializeOwned>(&self, flags: RecvFlags) -> io::Result<Option<Packet<T>>> {
        let mut bytes = vec![0; INLINE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit();
            rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(&self.0, &mut parts, &mut control, flags)
        });
        let received = match received {
            Ok(received) => received,
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (mut descriptors, mut sender) = (Vec::new(), None);
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(received) => descriptors.extend(received),
                RecvAncillaryMessage::ScmCredentials(from) => {
                    sender = Some(from.pid.as_raw_nonzero().get());
                }
                _ => {}
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        // There is room for all that the kernel lets through: they were more than this process may
        // still open (unix(7)).
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        let message = decode(&bytes[..received.bytes], &mut descriptors)?;
        Ok(Some(Packet { message, descriptors, sender }))
    }
}

/// A message as one packet, if it is short enough for one.
pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![INLINE];
    serde_json::to_writer(&mut bytes, message)?;
    Ok(bytes)
}

pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<T> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    match bytes.split_first() {
        Some((&INLINE, body)) => Ok(serde_json::from_slice(body)?),
        Some((&IN_MEMFD, [])) => {
            let mut long = std::fs::File::from(descriptors.pop().ok_or_else(invalid)?);
            long.rewind()?;
            let mut body = Vec::new();
            long.take(MESSAGE_BYTES_MAX).read_to_end(&mut body)?;
            Ok(serde_json::from_slice(&body)?)
        }
        _ => Err(invalid()),
    }
}
