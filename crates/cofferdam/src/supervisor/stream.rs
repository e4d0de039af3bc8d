//! Frames over a connection, and the descriptors that come with the first byte.
//!
//! How many descriptors a user may watch is counted for the whole host (`max_user_watches`,
//! epoll(7)), and a session of an ordinary user is that user: it can take all of them. Whoever ends
//! that session has to be heard nevertheless, so then a thread waits.

use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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

/// After this long a thread that waits lets others have their turn.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A connection.
pub(super) enum Stream {
    /// The runtime watches it.
    Watched(AsyncFd<UnixStream>),
    /// The runtime cannot.
    Polled(Arc<UnixStream>),
}

impl Stream {
    /// Takes over a connection.
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        #[expect(deprecated, reason = "what replaces it is unsafe; a socket stays what it is")]
        let watched = AsyncFd::try_new(socket);
        Ok(match watched {
            Ok(watched) => Self::Watched(watched),
            Err(failed) => Self::Polled(Arc::new(failed.into_parts().0)),
        })
    }

    /// Does what would block as soon as it does not.
    async fn when_ready<T>(
        &self,
        interest: Interest,
        mut act: impl FnMut(&UnixStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let socket = match self {
            Self::Watched(watched) => return watched.async_io(interest, act).await,
            Self::Polled(socket) => socket,
        };
        loop {
            match act(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            let socket = Arc::clone(socket);
            let flags = if interest.is_writable() { PollFlags::OUT } else { PollFlags::IN };
            let turn = move || match poll(&mut [PollFd::new(&socket, flags)], Some(&TURN)) {
                Ok(_) | Err(Errno::INTR) => Ok(()),
                Err(errno) => Err(io::Error::from(errno)),
            };
            tokio::task::spawn_blocking(turn).await.map_err(io::Error::other)??;
        }
    }
}

/// Reads one request. The outer error is a client that cannot be answered.
pub(super) async fn read_request(stream: &Stream) -> io::Result<Result<Asking, WireError>> {
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
pub(super) async fn write_answer(stream: &Stream, answer: &Answer, body: &[u8]) -> io::Result<()> {
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
    stream: &Stream,
    into: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let receive = |socket: &UnixStream| {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(into)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = rustix::net::recvmsg(socket.as_fd(), &mut parts, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                descriptors.extend(fds);
            }
        }
        Ok(received.bytes)
    };
    stream.when_ready(Interest::READABLE, receive).await
}

/// Reads as many bytes as come, so that a false length costs no memory.
async fn read_part(stream: &Stream, bytes: u32) -> io::Result<Vec<u8>> {
    const CHUNK_BYTES: usize = 64 << 10;
    let bytes = bytes as usize;
    let mut part = Vec::with_capacity(bytes.min(CHUNK_BYTES));
    let mut chunk = vec![0; CHUNK_BYTES.min(bytes)];
    while part.len() < bytes {
        let most = chunk.len().min(bytes - part.len());
        let read = |mut socket: &UnixStream| socket.read(&mut chunk[..most]);
        match stream.when_ready(Interest::READABLE, read).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => part.extend_from_slice(&chunk[..read]),
        }
    }
    Ok(part)
}

async fn write_all(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let write = |mut socket: &UnixStream| socket.write(bytes);
        let written = stream.when_ready(Interest::WRITABLE, write).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Comes back when the client closes its end. It sends nothing after its request.
pub(super) async fn gone(stream: &Stream) {
    let read = |mut socket: &UnixStream| socket.read(&mut [0]);
    let _closed_or_broken = stream.when_ready(Interest::READABLE, read).await;
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::task::Poll;

    use super::{Stream, gone, read_request, write_answer};
    use crate::supervisor::wire::{
        ANSWER_BOUNDS, Answer, Asked, Lengths, REQUEST_BOUNDS, Request, encode,
    };

    fn watched(socket: UnixStream) -> Stream {
        let stream = Stream::new(socket).unwrap();
        assert!(matches!(stream, Stream::Watched(_)));
        stream
    }

    fn unwatched(socket: UnixStream) -> Stream {
        socket.set_nonblocking(true).unwrap();
        Stream::Polled(Arc::new(socket))
    }

    /// Looks once.
    async fn is_over<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
    }

    /// A request that comes in two parts, an answer that fits into no buffer, and the end.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_connection_that_cannot_be_watched_is_served_all_the_same() {
        use std::io::Read as _;
        for make in [watched, unwatched] {
            let (mut client, server) = UnixStream::pair().unwrap();
            let server = make(server);
            let frame = encode(&Asked::now(Request::List {}), 3, REQUEST_BOUNDS).unwrap();
            let (first, second) = frame.split_at(5);
            client.write_all(first).unwrap();
            let reading = read_request(&server);
            tokio::pin!(reading);
            assert!(!is_over(reading.as_mut()).await, "half a request is none");
            client.write_all(&[second, b"end"].concat()).unwrap();
            let asking = reading.await.unwrap().unwrap();
            assert_eq!((asking.request, asking.body), (Request::List {}, b"end".to_vec()));
            let body = vec![7; 8 << 20];
            let reader = std::thread::spawn(move || {
                let mut lengths = [0; 8];
                client.read_exact(&mut lengths).unwrap();
                let lengths = Lengths::parse(lengths, ANSWER_BOUNDS).unwrap();
                let mut rest = vec![0; (lengths.head_bytes + lengths.body_bytes) as usize];
                client.read_exact(&mut rest).unwrap();
                (client, rest.len() - lengths.head_bytes as usize)
            });
            write_answer(&server, &Answer::Sessions(vec![]), &body).await.unwrap();
            let (client, read) = reader.join().unwrap();
            assert_eq!(read, body.len());
            assert!(!is_over(std::pin::pin!(gone(&server))).await, "the client is there");
            drop(client);
            gone(&server).await;
        }
    }
}
