//! One call under way: its output, its end, and what can stop it.
//!
//! Whoever waits for a call has one descriptor to wait for. Where nobody else does, it hears the
//! session itself meanwhile, in place of the thread that hears sessions: so the end of a call wakes
//! its caller at once, not a thread that then wakes the caller. Must never know how a program is
//! started, nor what its caller waits with.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::CallId;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use super::lock;
use super::reactor::Deadline;
use super::session::Shared;
use crate::error::SandboxError;
use crate::spec::{CallIo, CallResult, CallSpec, NotStarted};
use crate::sys::memfd;
use crate::wire::Exit;

/// Most that is taken from a pipe after the end of its call: what a pipe can hold (pipe(7)).
const LEFT_BYTES_MAX: usize = 1 << 20;

#[derive(Default, Clone, Copy)]
struct Progress {
    /// Set once, by whoever ends the call before its own end.
    decided: Option<CallEnd>,
    not_started: Option<NotStarted>,
    deadline: Option<Deadline>,
    /// Nobody waits for it.
    abandoned: bool,
    end: Option<End>,
}

#[derive(Clone, Copy)]
struct End {
    /// None: the session was lost.
    exit: Option<Exit>,
    /// Counted already, because nobody will ask or the session is gone.
    denials: Option<u64>,
    at: Instant,
}

/// What a call's handle and its session share.
pub(super) struct CallShared {
    id: CallId,
    started: Instant,
    /// Readable from the call's end on.
    over: OwnedFd,
    progress: Mutex<Progress>,
}

impl CallShared {
    pub(super) fn id(&self) -> &CallId {
        &self.id
    }

    pub(super) fn not_started(&self, why: NotStarted) {
        lock(&self.progress).not_started = Some(why);
    }

    /// Replaces the deadline and returns the one before.
    pub(super) fn put_deadline(&self, deadline: Deadline) -> Option<Deadline> {
        lock(&self.progress).deadline.replace(deadline)
    }

    pub(super) fn take_deadline(&self) -> Option<Deadline> {
        lock(&self.progress).deadline.take()
    }

    /// Decides how the call ends; false if that is decided already.
    pub(super) fn decide_end(&self, end: CallEnd) -> bool {
        let mut progress = lock(&self.progress);
        let first = progress.decided.is_none();
        progress.decided.get_or_insert(end);
        first
    }

    pub(super) fn is_abandoned(&self) -> bool {
        lock(&self.progress).abandoned
    }

    pub(super) fn finish(&self, exit: Option<Exit>, denials: Option<u64>, at: Instant) {
        lock(&self.progress).end.get_or_insert(End { exit, denials, at });
        let _full = rustix::io::write(&self.over, &1_u64.to_ne_bytes());
    }
}

/// A call under way. Dropped before its end, it is stopped.
pub struct Call {
    session: Arc<Shared>,
    shared: Arc<CallShared>,
    /// Readable when there is something for [`Call::advance`] to do: an epoll(7) of the call's
    /// end, its outputs, and of the session where this call hears it.
    bell: OwnedFd,
    /// It hears the session.
    hears: bool,
    outputs: [Output; 2],
    output_bytes_max: u64,
    over: bool,
}

/// A captured output.
struct Output {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    truncated: bool,
}

/// The session's ends: standard input, output and error.
type Theirs = [OwnedFd; 3];

impl Call {
    pub(super) fn new(
        session: Arc<Shared>,
        spec: &CallSpec,
        io: CallIo,
    ) -> Result<(Self, Theirs), SandboxError> {
        let (outputs, theirs) = match io {
            CallIo::Passed { stdin, stdout, stderr } => {
                ([Output::none(), Output::none()], [stdin, stdout, stderr])
            }
            CallIo::Captured { stdin } => {
                captured(&stdin).map_err(SandboxError::system("preparing to capture output"))?
            }
        };
        let failed = SandboxError::system("preparing a call");
        let over = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(io::Error::from)
            .and_then(|over| Ok((bell(&over, &outputs)?, over)));
        let (bell, over) = over.map_err(failed)?;
        let shared = CallShared {
            id: spec.id.clone(),
            started: Instant::now(),
            over,
            progress: Mutex::default(),
        };
        let (shared, output_bytes_max) = (Arc::new(shared), spec.output_bytes_max);
        let (hears, over) = (false, false);
        let call = Self { session, shared, bell, hears, outputs, output_bytes_max, over };
        Ok((call, theirs))
    }

    pub(super) fn shared(&self) -> &Arc<CallShared> {
        &self.shared
    }

    /// Something that can stop this call from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper { session: Arc::clone(&self.session), call: Arc::clone(&self.shared) }
    }

    /// Moves captured output and waits for the end. Blocks. Until somebody waits, a program whose
    /// output is captured blocks once a pipe is full; its time limit holds anyway.
    pub fn wait(mut self) -> CallResult {
        self.attend();
        loop {
            if let Some(result) = self.advance() {
                return result;
            }
            let _interrupted = poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], None);
        }
    }

    /// From now on somebody waits for its bell, and it hears the session, if no other call does.
    pub fn attend(&mut self) {
        self.hears = self.hears || self.session.be_heard_by(self.bell.as_fd());
    }

    /// Whether there is something to do for [`Call::advance`].
    pub fn rings(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], Some(&now)), Ok(0))
    }

    /// Does some of what can be done without waiting, and gives the result once the call is over,
    /// after which it is not to be asked again.
    pub fn advance(&mut self) -> Option<CallResult> {
        if self.hears {
            self.session.hear();
        }
        let end = lock(&self.shared.progress).end;
        let left_max = if end.is_some() { LEFT_BYTES_MAX } else { 0 };
        for output in &mut self.outputs {
            output.drain(self.output_bytes_max, left_max);
        }
        let end = end?;
        self.over = true;
        self.leave();
        Some(self.result(end))
    }

    /// Gives the session back to the thread that hears sessions.
    fn leave(&mut self) {
        if std::mem::take(&mut self.hears) {
            self.session.be_heard_by_thread(self.bell.as_fd());
        }
    }

    fn result(&mut self, end: End) -> CallResult {
        let End { exit, denials, at } = end;
        let [stdout, stderr] =
            std::mem::replace(&mut self.outputs, [Output::none(), Output::none()]);
        let truncated = stdout.truncated || stderr.truncated;
        let Progress { decided, not_started, .. } = *lock(&self.shared.progress);
        let (own_end, exit_code, signal) = match exit {
            None => (CallEnd::SessionLost, None, None),
            Some(_) if not_started.is_some() => (CallEnd::NotStarted, None, None),
            Some(Exit::Code(code)) => (CallEnd::Exited, Some(code), None),
            Some(Exit::Signal(signal)) => (CallEnd::Signaled, None, Some(signal)),
        };
        let duration = at.saturating_duration_since(self.shared.started);
        CallResult {
            end: decided.unwrap_or(own_end),
            exit_code,
            signal,
            not_started,
            stdout: stdout.kept,
            stderr: stderr.kept,
            truncated,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            denials: denials.unwrap_or_else(|| self.session.settle(&self.shared, truncated)),
        }
    }
}

/// Its bell: readable when there is something for [`Call::advance`] to do.
impl AsRawFd for Call {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.leave();
        if !self.over {
            lock(&self.shared.progress).abandoned = true;
            self.session.stop_call(&self.shared);
        }
    }
}

/// Rings for the end of a call and for what it prints.
fn bell(over: &OwnedFd, outputs: &[Output; 2]) -> io::Result<OwnedFd> {
    let bell = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let pipes = outputs.iter().filter_map(|output| output.pipe.as_ref());
    for descriptor in pipes.chain([over]) {
        epoll::add(&bell, descriptor, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    }
    Ok(bell)
}

impl Output {
    fn none() -> Self {
        Self { pipe: None, kept: Vec::new(), truncated: false }
    }

    /// Takes what is there; after the end of the call, until `left_max` bytes or nothing is left.
    fn drain(&mut self, kept_max: u64, left_max: usize) {
        let kept_max = usize::try_from(kept_max).unwrap_or(usize::MAX);
        let mut buffer = [0; 65536];
        let mut taken = 0;
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    let room = kept_max.saturating_sub(self.kept.len()).min(length);
                    self.kept.extend_from_slice(&buffer[..room]);
                    self.truncated |= room < length;
                    taken += length;
                    if taken >= left_max {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.pipe = None,
            }
        }
    }
}

fn captured(stdin: &[u8]) -> io::Result<([Output; 2], Theirs)> {
    let (stdout, their_stdout) = output()?;
    let (stderr, their_stderr) = output()?;
    Ok(([stdout, stderr], [input(stdin)?, their_stdout, their_stderr]))
}

/// A pipe that the session's user, who is not always ours, can open again as `/dev/stdout`.
fn output() -> io::Result<(Output, OwnedFd)> {
    let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fchmod(&theirs, Mode::from_raw_mode(0o666))?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((Output { pipe: Some(ours), kept: Vec::new(), truncated: false }, theirs))
}

/// Standard input as a file that cannot change: nothing need feed it.
fn input(bytes: &[u8]) -> io::Result<OwnedFd> {
    if bytes.is_empty() {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        return Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?);
    }
    memfd::sealed("stdin", false, |file| file.write_all(bytes))
}

/// Stops one call.
#[derive(Clone)]
pub struct Stopper {
    session: Arc<Shared>,
    call: Arc<CallShared>,
}

impl Stopper {
    /// Kills the call, whatever it started included, and returns without waiting for it. Of a call
    /// that is over, what it left in the background.
    pub fn stop(&self) {
        self.session.stop_call(&self.call);
    }
}
