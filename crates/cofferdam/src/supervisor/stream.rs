//! Frames over an asynchronous socket, and the descriptors that come with the first byte.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::wire::{
    ANSWER_BOUNDS, Answer, Asked, DESCRIPTORS_MAX, LENGTHS_BYTES, Lengths, REQUEST_BOUNDS, Request,
    WireError, decode, encode,
};

/// A request as it came.
pub(super) struct Asking {
    /// What is asked.
    pub(super) request: Request,
    /// Its body.
    pub(super) body: Vec<u8>,
    /// The descriptors that came with it.
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Reads one request. The outer error is a client that cannot be answered.
pub(super) async fn read_request(stream: &UnixStream) -> io::Result<Result<Asking, WireError>> {
    let mut lengths = [0; LENGTHS_BYTES];
    let mut descriptors = vec![];
    let mut read = 0;
    while read < LENGTHS_BYTES {
        let bytes = receive(stream, &mut lengths[read..], &mut descriptors).await?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read += bytes;
    }
    let lengths = match Lengths::parse(lengths, REQUEST_BOUNDS) {
        Ok(lengths) => lengths,
        Err(error) => return Ok(Err(error)),
    };
    let head = read_part(stream, lengths.head_bytes).await?;
    let body = read_part(stream, lengths.body_bytes).await?;
    let asked = decode::<Asked>(&head).and_then(Asked::understood);
    Ok(asked.map(|request| Asking { request, body, descriptors }))
}

/// Writes one answer; one that is over its bounds becomes a refusal that says so.
pub(super) async fn write_answer(
    stream: &UnixStream,
    answer: &Answer,
    body: &[u8],
) -> io::Result<()> {
    match encode(answer, body.len(), ANSWER_BOUNDS) {
        Ok(frame) => {
            write_all(stream, &frame).await?;
            write_all(stream, body).await
        }
        Err(error) => {
            let refused = Answer::Refused(error.into());
            let frame = encode(&refused, 0, ANSWER_BOUNDS).map_err(io::Error::other)?;
            write_all(stream, &frame).await
        }
    }
}

async fn receive(
    stream: &UnixStream,
    into: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        let received = stream.try_io(Interest::READABLE, || {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(into)];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let received = rustix::net::recvmsg(stream, &mut parts, &mut control, flags)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    descriptors.extend(fds);
                }
            }
            Ok(received.bytes)
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// Reads as many bytes as come, so that a false length costs no memory.
async fn read_part(stream: &UnixStream, bytes: u32) -> io::Result<Vec<u8>> {
    const CHUNK_BYTES: usize = 64 << 10;
    let bytes = bytes as usize;
    let mut part = Vec::with_capacity(bytes.min(CHUNK_BYTES));
    let mut chunk = vec![0; CHUNK_BYTES.min(bytes)];
    while part.len() < bytes {
        let most = chunk.len().min(bytes - part.len());
        stream.readable().await?;
        match stream.try_read(&mut chunk[..most]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => part.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(part)
}

async fn write_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
