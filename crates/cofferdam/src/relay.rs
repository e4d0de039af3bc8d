//! Between the caller's standard streams and the descriptors that a call gets.
//!
//! Only the null device is passed as it is. Whoever holds anything else holds more than a stream: a
//! terminal can be written unfiltered, typed into and set; the mode of a file can be changed and its
//! path read; from a directory the whole file system can be reached (Landlock does not cover changes
//! of mode, landlock(7)); a socket carries descriptors; what others write to a pipe can be read by its
//! owner through `/proc`, and it can be set not to block for all of them. Instead a program gets a pipe, or with `-t` a pseudo-terminal of its own. What goes to a terminal
//! is filtered. Standard input is then read ahead of the program. Must never know sessions.

use std::io::{self, IsTerminal as _, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};

use crate::output::Filter;

/// Bytes that are moved at once.
const CHUNK_BYTES: usize = 64 << 10;
/// With a terminal, how often its size is looked at.
const SIZE_CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// What a call gets as descriptors 0, 1 and 2.
pub(crate) struct Ends {
    /// Standard input.
    pub(crate) stdin: OwnedFd,
    /// Standard output.
    pub(crate) stdout: OwnedFd,
    /// Standard error.
    pub(crate) stderr: OwnedFd,
}

enum Target {
    Stdout,
    Stderr,
}

struct Outlet {
    from: OwnedFd,
    to: Target,
    /// Absent where no terminal is at the other end.
    filter: Option<Filter>,
}

struct Inlet {
    to: OwnedFd,
    pending: Vec<u8>,
}

/// The caller's half: moves what must be moved until the call is over.
pub(crate) struct Relay {
    outlets: Vec<Outlet>,
    inlet: Option<Inlet>,
    master: Option<OwnedFd>,
    raw: Option<Raw>,
}

/// Puts the caller's terminal back as it was.
struct Raw {
    before: Termios,
}

impl Raw {
    fn of_stdin() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = rustix::termios::tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Descriptors for a call, and what connects them with this process.
pub(crate) fn open(terminal: bool) -> io::Result<(Ends, Relay)> {
    let mut relay = Relay { outlets: vec![], inlet: None, master: None, raw: None };
    let ends = if terminal { relay.open_terminal()? } else { relay.open_streams()? };
    Ok((ends, relay))
}

/// A pipe: the end that is read, the end that is written. `ours` does not block.
fn pipe(read_is_ours: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(if read_is_ours { &read } else { &write }, OFlags::NONBLOCK)?;
    Ok((read, write))
}

fn duplicate(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// Whether a descriptor is the null device, with which nothing can be done.
fn is_null(fd: impl AsFd) -> bool {
    rustix::fs::fstat(&fd).is_ok_and(|found| {
        rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::CharacterDevice
            && found.st_rdev == rustix::fs::makedev(1, 3)
    })
}

fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).ok().map(|it| (it.st_dev, it.st_ino));
    inode(one.as_fd()).is_some_and(|one| inode(other.as_fd()) == Some(one))
}

impl Relay {
    fn open_streams(&mut self) -> io::Result<Ends> {
        let stdin = if is_null(io::stdin()) {
            duplicate(io::stdin())?
        } else {
            let (read, write) = pipe(false)?;
            self.inlet = Some(Inlet { to: write, pending: vec![] });
            read
        };
        let stdout = if is_null(io::stdout()) {
            duplicate(io::stdout())?
        } else {
            self.outlet(Target::Stdout, io::stdout().is_terminal())?
        };
        let stderr = if is_null(io::stderr()) {
            duplicate(io::stderr())?
        } else if is_same(io::stdout(), io::stderr()) {
            // What is written to both stays in its order.
            duplicate(&stdout)?
        } else {
            self.outlet(Target::Stderr, io::stderr().is_terminal())?
        };
        Ok(Ends { stdin, stdout, stderr })
    }

    fn outlet(&mut self, to: Target, filtered: bool) -> io::Result<OwnedFd> {
        let (from, write) = pipe(true)?;
        self.outlets.push(Outlet { from, to, filter: filtered.then(Filter::new) });
        Ok(write)
    }

    fn open_terminal(&mut self) -> io::Result<Ends> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let inside = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK)?;
        let from = duplicate(&master)?;
        self.outlets.push(Outlet { from, to: Target::Stdout, filter: Some(Filter::new()) });
        self.inlet = Some(Inlet { to: duplicate(&master)?, pending: vec![] });
        self.master = Some(master);
        self.follow_size();
        if io::stdin().is_terminal() {
            self.raw = Some(Raw::of_stdin()?);
        }
        Ok(Ends { stdin: duplicate(&inside)?, stdout: duplicate(&inside)?, stderr: inside })
    }

    /// Gives the inner terminal the size of the caller's, if there is one.
    fn follow_size(&self) {
        let size = rustix::termios::tcgetwinsize(io::stdout());
        if let (Some(master), Ok(size)) = (&self.master, size) {
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    /// Moves bytes until `done` can be read or is closed, then what is still there.
    ///
    /// # Errors
    /// If the caller's own output cannot be written: nobody is there to see the rest.
    pub(crate) fn run(mut self, done: BorrowedFd<'_>) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let ready = self.wait(done)?;
            for index in (0..self.outlets.len()).rev() {
                if ready.outlets[index] && !self.outlets[index].move_once(&mut chunk)?.is_open() {
                    self.outlets.remove(index).finish()?;
                }
            }
            if ready.inlet {
                self.move_in(&mut chunk);
            }
            if ready.done {
                return self.drain(&mut chunk);
            }
            self.follow_size();
        }
    }

    fn wait(&self, done: BorrowedFd<'_>) -> io::Result<Ready> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::from_borrowed_fd(done, PollFlags::IN)];
        for outlet in &self.outlets {
            fds.push(PollFd::new(&outlet.from, PollFlags::IN));
        }
        match &self.inlet {
            Some(inlet) if inlet.pending.is_empty() => fds.push(PollFd::new(&stdin, PollFlags::IN)),
            Some(inlet) => fds.push(PollFd::new(&inlet.to, PollFlags::OUT)),
            None => {}
        }
        match poll(&mut fds, self.master.as_ref().map(|_| &SIZE_CHECK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            done: ready.next().unwrap_or(false),
            outlets: ready.by_ref().take(self.outlets.len()).collect(),
            inlet: ready.next().unwrap_or(false),
        })
    }

    /// Moves what the caller types; the end of it closes the call's standard input.
    fn move_in(&mut self, chunk: &mut [u8]) {
        let Some(inlet) = &mut self.inlet else { return };
        if inlet.pending.is_empty() {
            match rustix::io::read(io::stdin(), &mut *chunk) {
                Ok(0) | Err(_) => {
                    self.inlet = None;
                    return;
                }
                Ok(bytes) => inlet.pending.extend_from_slice(&chunk[..bytes]),
            }
        }
        match rustix::io::write(&inlet.to, &inlet.pending) {
            Ok(bytes) => drop(inlet.pending.drain(..bytes)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The program has closed its input.
            Err(_) => self.inlet = None,
        }
    }

    /// What a call wrote before its end is in the pipes already.
    fn drain(mut self, chunk: &mut [u8]) -> io::Result<()> {
        for mut outlet in std::mem::take(&mut self.outlets) {
            while outlet.move_once(chunk)? == Moved::Some {}
            outlet.finish()?;
        }
        Ok(())
    }
}

struct Ready {
    done: bool,
    outlets: Vec<bool>,
    inlet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Some,
    NothingYet,
    Closed,
}

impl Moved {
    fn is_open(self) -> bool {
        self != Self::Closed
    }
}

impl Outlet {
    fn move_once(&mut self, chunk: &mut [u8]) -> io::Result<Moved> {
        let bytes = match rustix::io::read(&self.from, &mut *chunk) {
            Ok(0) => return Ok(Moved::Closed),
            Ok(bytes) => bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Moved::NothingYet),
            // A pseudo-terminal that nobody holds any more.
            Err(_) => return Ok(Moved::Closed),
        };
        let Some(filter) = &mut self.filter else {
            return self.write(&chunk[..bytes]).map(|()| Moved::Some);
        };
        let mut shown = Vec::with_capacity(bytes);
        filter.push(&chunk[..bytes], &mut shown);
        self.write(&shown).map(|()| Moved::Some)
    }

    fn finish(mut self) -> io::Result<()> {
        let Some(filter) = &mut self.filter else { return Ok(()) };
        let mut shown = vec![];
        filter.finish(&mut shown);
        self.write(&shown)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let write = |out: &mut dyn Write| out.write_all(bytes).and_then(|()| out.flush());
        match self.to {
            Target::Stdout => write(&mut io::stdout().lock()),
            Target::Stderr => write(&mut io::stderr().lock()),
        }
    }
}
