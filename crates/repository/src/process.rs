//! One git process: fed, read, bounded in time and output, and never left behind.
//!
//! Must never know what the command is or where it runs: that is `git.rs`.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use cofferdam_contract::text::escape_bytes;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::error::RepositoryError;

/// For commands that answer at once.
const TIMEOUT_MS: u64 = 120_000;
/// For commands whose work grows with the repository.
const TIMEOUT_LONG_MS: u64 = 3_600_000;
/// For answers that are kept in memory.
const OUTPUT_BYTES_MAX: u64 = 256 << 20;
/// How much of the standard error is kept, the end of it.
const STDERR_BYTES_MAX: usize = 8 << 10;

/// One git command that was not started yet.
pub(crate) struct GitCommand {
    command: Command,
    subcommand: &'static str,
    args: Vec<OsString>,
    timeout_ms: u64,
}

/// What a finished command left.
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) message: String,
}

impl GitCommand {
    /// `command` is git with its options; the subcommand and its arguments follow.
    pub(crate) fn new(command: Command, subcommand: &'static str) -> Self {
        Self { command, subcommand, args: Vec::new(), timeout_ms: TIMEOUT_MS }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in a working tree of ours.
    pub(crate) fn work_tree(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir).env("GIT_WORK_TREE", dir);
        self
    }

    /// A setting for this command alone.
    pub(crate) fn config(mut self, pair: &str) -> Self {
        self.command.arg("-c").arg(pair);
        self
    }

    /// May take as long as a repository is large.
    pub(crate) fn long(mut self) -> Self {
        self.timeout_ms = TIMEOUT_LONG_MS;
        self
    }

    pub(crate) fn timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.timeout_ms = timeout_ms;
        self
    }

    /// Runs it with nothing on standard input; success is exit code 0.
    pub(crate) fn bytes(self) -> Result<Vec<u8>, RepositoryError> {
        self.bytes_of(b"")
    }

    /// Runs it with `input`; success is exit code 0.
    pub(crate) fn bytes_of(self, input: &[u8]) -> Result<Vec<u8>, RepositoryError> {
        let command = self.subcommand.to_owned();
        let output = self.run(input)?;
        if output.code == Some(0) {
            return Ok(output.stdout);
        }
        Err(RepositoryError::Git { command, message: output.message })
    }

    /// Runs it; the answer without its last newline, as text.
    pub(crate) fn text(self) -> Result<String, RepositoryError> {
        self.text_of(b"")
    }

    pub(crate) fn text_of(self, input: &[u8]) -> Result<String, RepositoryError> {
        let command = self.subcommand;
        let mut answer = self.bytes_of(input)?;
        if answer.last() == Some(&b'\n') {
            answer.pop();
        }
        String::from_utf8(answer).map_err(|_| RepositoryError::Malformed(command))
    }

    /// Runs it with `input` whatever its exit code. Input is written beside the reading, so a
    /// command that answers before it has read everything does not block.
    pub(crate) fn run(self, input: &[u8]) -> Result<Output, RepositoryError> {
        let bytes_max = OUTPUT_BYTES_MAX;
        let feed = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut running = self.start(feed)?;
        let mut stdout = Vec::new();
        let stdin = running.stdin();
        let source = running.stdout()?;
        let read = std::thread::scope(|scope| {
            if let Some(mut stdin) = stdin {
                // A command that stops reading early is judged by its exit code.
                scope.spawn(move || stdin.write_all(input));
            }
            let read = source.take(bytes_max.saturating_add(1)).read_to_end(&mut stdout);
            if stdout.len() as u64 > bytes_max {
                running.kill();
            }
            read
        });
        if stdout.len() as u64 > bytes_max {
            return Err(RepositoryError::TooLarge { what: "the answer of git", bytes_max });
        }
        let (code, message) = running.finish()?;
        read.map_err(RepositoryError::io("git's answer could not be read"))?;
        Ok(Output { code, stdout, message })
    }

    /// Runs it with `input`, and `receiver` with its answer as input. `input` must fit into a pipe
    /// (64 KiB).
    pub(crate) fn pipe_into(self, input: &[u8], receiver: Self) -> Result<(), RepositoryError> {
        let mut sender = self.start(Stdio::piped())?;
        let received = receiver.start(Stdio::from(sender.stdout()?))?;
        if let Some(mut stdin) = sender.stdin() {
            stdin.write_all(input).map_err(RepositoryError::io("git stopped reading"))?;
        }
        let sent = sender.succeed();
        match (sent, received.succeed()) {
            // A sender that lost its reader has nothing to say.
            (Err(RepositoryError::Git { message, .. }), Err(error)) if message.is_empty() => {
                Err(error)
            }
            (sent, received) => sent.and(received),
        }
    }

    /// Starts it; standard output is a pipe.
    pub(crate) fn start(mut self, stdin: Stdio) -> Result<Running, RepositoryError> {
        self.command.arg(self.subcommand).args(&self.args);
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().map_err(RepositoryError::io("git could not be started"))?;
        let stderr = child.stderr.take();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Running {
            watchdog: Some(Watchdog::start(pid, self.timeout_ms)),
            messages: Some(std::thread::spawn(move || stderr.map_or_else(String::new, tail))),
            child,
            pid,
            subcommand: self.subcommand,
            timeout_ms: self.timeout_ms,
        })
    }
}

/// The end of a stream, escaped, one line. The rest is read and dropped so that the writer is
/// never blocked.
fn tail(mut stream: impl Read) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0_u8; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..count]);
        let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
        kept.drain(..excess);
    }
    let lines = kept.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(escape_bytes).collect::<Vec<_>>().join("; ")
}

/// Kills a process group when its time is over.
struct Watchdog {
    stop: mpsc::Sender<()>,
    fired: JoinHandle<bool>,
}

impl Watchdog {
    fn start(pid: Option<Pid>, timeout_ms: u64) -> Self {
        let (stop, stopped) = mpsc::channel();
        let fired = std::thread::spawn(move || {
            let late = stopped.recv_timeout(Duration::from_millis(timeout_ms))
                == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                kill_group(pid);
            }
            late
        });
        Self { stop, fired }
    }

    /// Whether it fired. After this it never will.
    fn stop(self) -> bool {
        drop(self.stop);
        self.fired.join().unwrap_or(false)
    }
}

fn kill_group(pid: Option<Pid>) {
    if let Some(pid) = pid {
        // Failing means that it is gone already.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

/// A started command. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    pid: Option<Pid>,
    watchdog: Option<Watchdog>,
    messages: Option<JoinHandle<String>>,
    subcommand: &'static str,
    timeout_ms: u64,
}

impl Running {
    /// Its standard input, the first time.
    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its standard output, the first time.
    pub(crate) fn stdout(&mut self) -> Result<ChildStdout, RepositoryError> {
        self.child.stdout.take().ok_or(RepositoryError::Malformed(self.subcommand))
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        kill_group(self.pid);
    }

    /// Waits for its end: exit code (`None` if a signal ended it) and what it said.
    pub(crate) fn finish(mut self) -> Result<(Option<i32>, String), RepositoryError> {
        let timed_out = self.await_exit();
        let status = self.child.wait().map_err(RepositoryError::io("git could not be awaited"))?;
        let message = self.messages.take().and_then(|it| it.join().ok()).unwrap_or_default();
        if timed_out {
            let command = self.subcommand.to_owned();
            return Err(RepositoryError::TimedOut { command, timeout_ms: self.timeout_ms });
        }
        Ok((status.code(), message))
    }

    /// Waits for success.
    pub(crate) fn succeed(self) -> Result<(), RepositoryError> {
        let command = self.subcommand.to_owned();
        match self.finish()? {
            (Some(0), _) => Ok(()),
            (_, message) => Err(RepositoryError::Git { command, message }),
        }
    }

    /// Waits without reaping, so that the process group's number cannot be taken by another while
    /// the watchdog may still fire.
    fn await_exit(&mut self) -> bool {
        let Some(watchdog) = self.watchdog.take() else { return false };
        if let Some(pid) = self.pid {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) =
                rustix::process::waitid(WaitId::Pid(pid), options)
            {}
        }
        watchdog.stop()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.watchdog.is_some() {
            self.kill();
            self.await_exit();
            let _ = self.child.wait();
        }
    }
}
