//! One call under way: its output, its end, and what can stop it.
//!
//! Must never know how a program is started.

use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::CallId;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::pipe::PipeFlags;

use super::lock;
use super::reactor::Deadline;
use super::session::Shared;
use crate::error::SandboxError;
use crate::spec::{CallIo, CallResult, CallSpec, NotStarted};
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

/// A call under way. Dropped without [`Call::wait`], it is stopped.
pub struct Call {
    session: Arc<Shared>,
    shared: Arc<CallShared>,
    outputs: Option<[Output; 2]>,
    output_bytes_max: u64,
    waited: bool,
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
        let failed = SandboxError::system;
        let (outputs, theirs) = match io {
            CallIo::Passed { stdin, stdout, stderr } => (None, [stdin, stdout, stderr]),
            CallIo::Captured { stdin } => {
                captured(&stdin).map_err(failed("preparing to capture output"))?
            }
        };
        let over = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = CallShared {
            id: spec.id.clone(),
            started: Instant::now(),
            over: over.map_err(|error| failed("preparing a call")(error.into()))?,
            progress: Mutex::default(),
        };
        let output_bytes_max = spec.output_bytes_max;
        let shared = Arc::new(shared);
        Ok((Self { session, shared, outputs, output_bytes_max, waited: false }, theirs))
    }

    pub(super) fn shared(&self) -> &Arc<CallShared> {
        &self.shared
    }

    /// Something that can stop this call from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper { session: Arc::clone(&self.session), call: Arc::clone(&self.shared) }
    }

    /// Moves captured output and waits for the end. Blocks. Until it is called, a program whose
    /// output is captured blocks once a pipe is full; its time limit holds anyway.
    pub fn wait(mut self) -> CallResult {
        self.waited = true;
        let mut outputs = self.outputs.take();
        self.pump(outputs.as_mut());
        let [stdout, stderr] = outputs.unwrap_or_else(|| [Output::none(), Output::none()]);
        let truncated = stdout.truncated || stderr.truncated;
        let Progress { decided, not_started, end, .. } = *lock(&self.shared.progress);
        let End { exit, denials, at } =
            end.unwrap_or(End { exit: None, denials: None, at: Instant::now() });
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

    /// Moves output until the call is over, and then what is left in the pipes.
    fn pump(&self, outputs: Option<&mut [Output; 2]>) {
        let mut none = [Output::none(), Output::none()];
        let outputs = outputs.unwrap_or(&mut none);
        loop {
            let mut polled = vec![PollFd::new(&self.shared.over, PollFlags::IN)];
            let pipes = outputs.iter().filter_map(|output| output.pipe.as_ref());
            polled.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            let failed = !matches!(poll(&mut polled, None), Ok(_) | Err(rustix::io::Errno::INTR));
            let over = failed || !polled[0].revents().is_empty();
            drop(polled);
            for output in &mut *outputs {
                output.drain(self.output_bytes_max, if over { LEFT_BYTES_MAX } else { 0 });
            }
            if over {
                return;
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.waited {
            lock(&self.shared.progress).abandoned = true;
            self.session.stop_call(&self.shared);
        }
    }
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

fn captured(stdin: &[u8]) -> io::Result<(Option<[Output; 2]>, Theirs)> {
    let (stdout, their_stdout) = output()?;
    let (stderr, their_stderr) = output()?;
    Ok((Some([stdout, stderr]), [input(stdin)?, their_stdout, their_stderr]))
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
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("stdin", flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// Stops one call.
#[derive(Clone)]
pub struct Stopper {
    session: Arc<Shared>,
    call: Arc<CallShared>,
}

impl Stopper {
    /// Kills the call, whatever it started included, and returns without waiting for it.
    pub fn stop(&self) {
        self.session.stop_call(&self.call);
    }
}
