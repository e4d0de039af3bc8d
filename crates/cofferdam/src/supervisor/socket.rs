//! The supervisor's socket and locks in the state directory.
//!
//! A socket's name may have 107 bytes (unix(7)) and a state directory more, so the socket is
//! reached through a descriptor of its directory.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

const SOCKET: &str = "supervisor.sock";
/// Held by the supervisor while it lives.
const LIFE_LOCK: &str = "supervisor.lock";
/// Held by a client while it looks for a supervisor and starts one.
const START_LOCK: &str = "supervisor.start";

/// Where the supervisor of a state directory is.
#[derive(Debug)]
pub(crate) struct Place {
    dir: OwnedFd,
}

/// A lock that is free again when this is dropped or its process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: OwnedFd,
}

impl Place {
    /// The place in the state directory `state`.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: rustix::fs::openat(CWD, state, flags, Mode::empty())? })
    }

    fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", self.dir.as_raw_fd()))
    }

    /// Connects, or `None` where nobody listens.
    pub(crate) fn connect(&self) -> io::Result<Option<UnixStream>> {
        match UnixStream::connect(self.socket()) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Listens, in place of whatever a dead supervisor left. Only under [`Place::life_lock`].
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        self.remove()?;
        let listener = UnixListener::bind(self.socket())?;
        rustix::fs::chmodat(
            &self.dir,
            SOCKET,
            Mode::RUSR | Mode::WUSR,
            rustix::fs::AtFlags::empty(),
        )?;
        Ok(listener)
    }

    /// Removes the socket, so that nobody connects any more.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.dir, SOCKET, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until this process alone may look for a supervisor and start one.
    pub(crate) fn start_lock(&self) -> io::Result<Lock> {
        self.lock(START_LOCK, FlockOperation::LockExclusive)
            .map(|lock| lock.unwrap_or_else(|file| Lock { _file: file }))
    }

    /// The lock of the one supervisor, or `None` while another has it.
    pub(crate) fn life_lock(&self) -> io::Result<Option<Lock>> {
        Ok(self.lock(LIFE_LOCK, FlockOperation::NonBlockingLockExclusive)?.ok())
    }

    /// Takes a lock; the file without the lock, where another has it.
    fn lock(&self, name: &str, operation: FlockOperation) -> io::Result<Result<Lock, OwnedFd>> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(Ok(Lock { _file: file })),
                Err(Errno::AGAIN) => return Ok(Err(file)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether the other end of a connection is this user, as the kernel says (`SO_PEERCRED`).
pub(crate) fn is_own(stream: impl AsFd) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}
