//! The client: one connection, one request, one answer. No async runtime and no database, since a
//! call through here must cost next to nothing.

use std::io::{self, IoSlice, Read, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use cofferdam_contract::problem::{Code, Problem};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::daemon;
use super::socket::{Place, is_own};
use super::wire::{
    ANSWER_BOUNDS, Answer, Asked, DESCRIPTORS_MAX, LENGTHS_BYTES, Lengths, REQUEST_BOUNDS, Request,
    WireError, decode, encode,
};
use crate::dirs::Dirs;
use crate::wiring::OWN_EXECUTABLE;

/// How often a request is sent to a new supervisor when the last one left without reading it.
const TRIES_MAX: usize = 3;

/// A connection to the supervisor.
pub(crate) struct Connection {
    stream: UnixStream,
}

/// Ends a connection that somebody waits on.
pub(crate) struct Line {
    stream: UnixStream,
}

impl Line {
    /// Ends it: the supervisor stops the call, and whoever waits for the answer gets none.
    pub(crate) fn hang_up(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Connection {
    /// Connects to the supervisor of `dirs`, or `None` where there is none.
    ///
    /// # Errors
    /// `storage_failed` if the state directory cannot be used.
    pub(crate) fn open(dirs: &Dirs) -> Result<Option<Self>, Problem> {
        let place = match Place::open(&dirs.state) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let Some(stream) = place.connect().map_err(failed)? else { return Ok(None) };
        if !is_own(&stream) {
            let detail = "the supervisor's socket belongs to another user";
            return Err(Problem::new(Code::StorageFailed, detail));
        }
        Ok(Some(Self { stream }))
    }

    /// As [`Connection::open`], where a session must be there for the request to mean anything.
    ///
    /// # Errors
    /// `session_unknown` if there is no supervisor.
    pub(crate) fn to_session(dirs: &Dirs) -> Result<Self, Problem> {
        Self::open(dirs)?.ok_or_else(|| {
            Problem::new(Code::SessionUnknown, "no session is open")
                .hint("open one with cofferdam session start")
        })
    }

    /// Sends a request, its body and the descriptors that go with it.
    ///
    /// # Errors
    /// `request_invalid` for one over its bounds, `session_lost` if the supervisor went away.
    pub(crate) fn send(
        &mut self,
        request: Request,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Problem> {
        let frame = encode(&Asked::now(request), body.len(), REQUEST_BOUNDS)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Problem::new(Code::Internal, "too many descriptors for one request"));
        }
        let parts = [IoSlice::new(&frame)];
        let sent = rustix::net::sendmsg(&self.stream, &parts, &mut control, SendFlags::NOSIGNAL)
            .map_err(|error| lost(&error.into()))?;
        let rest = self.stream.write_all(&frame[sent..]).and_then(|()| self.stream.write_all(body));
        rest.map_err(|error| lost(&error))
    }

    /// The same connection, for whoever may have to end it from elsewhere.
    ///
    /// # Errors
    /// `internal` without a free descriptor.
    pub(crate) fn line(&self) -> Result<Line, Problem> {
        let stream = self.stream.try_clone();
        stream
            .map(|stream| Line { stream })
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))
    }

    /// Can be read when the answer is there or the supervisor went away.
    pub(crate) fn answered(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads the answer and its body.
    ///
    /// # Errors
    /// The refusal; `session_lost` if the supervisor went away.
    pub(crate) fn receive(mut self) -> Result<(Answer, Vec<u8>), Problem> {
        match self.read_answer()? {
            Some((Answer::Refused(problem), _)) => Err(problem),
            Some(answered) => Ok(answered),
            None => Err(lost(&io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// The answer, or `None` if the supervisor left without a byte of it.
    fn read_answer(&mut self) -> Result<Option<(Answer, Vec<u8>)>, Problem> {
        let mut lengths = [0; LENGTHS_BYTES];
        match self.stream.read(&mut lengths) {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(lost(&error)),
            Ok(read) => self.stream.read_exact(&mut lengths[read..]).map_err(|it| lost(&it))?,
        }
        let lengths = Lengths::parse(lengths, ANSWER_BOUNDS)?;
        let head = self.read_part(lengths.head_bytes)?;
        let body = self.read_part(lengths.body_bytes)?;
        Ok(Some((decode(&head)?, body)))
    }

    /// Reads as many bytes as there are, so that a false length costs no memory.
    fn read_part(&mut self, bytes: u32) -> Result<Vec<u8>, Problem> {
        let mut part = vec![];
        (&self.stream).take(u64::from(bytes)).read_to_end(&mut part).map_err(|it| lost(&it))?;
        if part.len() != bytes as usize {
            return Err(WireError::Cut.into());
        }
        Ok(part)
    }
}

/// Asks for something that needs a supervisor, and starts one where there is none.
///
/// # Errors
/// The refusal, or why no supervisor could be started.
pub(crate) fn ask_or_start(dirs: &Dirs, request: &Request) -> Result<(Answer, Vec<u8>), Problem> {
    dirs.prepare()?;
    for _ in 0..TRIES_MAX {
        let mut connection = open_or_start(dirs)?;
        let sent = connection.send(request.clone(), &[], &[]);
        match connection.read_answer()? {
            Some((Answer::Refused(problem), _)) => return Err(problem),
            Some(answered) => return Ok(answered),
            // It was about to leave and read nothing: the next one will.
            None => drop(sent),
        }
    }
    Err(Problem::new(Code::Internal, "the background supervisor leaves as soon as it is there")
        .hint("see supervisor.log in the state directory"))
}

fn open_or_start(dirs: &Dirs) -> Result<Connection, Problem> {
    let place = Place::open(&dirs.state).map_err(failed)?;
    let _only_one_starts = place.start_lock().map_err(failed)?;
    if let Some(connection) = Connection::open(dirs)? {
        return Ok(connection);
    }
    start(dirs)?;
    Connection::open(dirs)?.ok_or_else(|| {
        Problem::new(Code::Internal, "the background supervisor was ready and is gone")
            .hint("see supervisor.log in the state directory")
    })
}

/// Starts a supervisor and waits until it says that it is ready, or why it is not.
fn start(dirs: &Dirs) -> Result<(), Problem> {
    let log = daemon::open_log(&dirs.state).map_err(failed)?;
    // Whoever waits for the end of some pipe of its own must not wait for the supervisor.
    cofferdam_sandbox::pass_on_standard_streams_only().map_err(failed)?;
    let mut command = Command::new(OWN_EXECUTABLE);
    command.arg0("cofferdam").arg(daemon::ARGUMENT);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    // It gives them up by itself, and its launcher needs them.
    cofferdam_sandbox::give_back_privileges(&mut command);
    let mut child = command.spawn().map_err(failed)?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(64 << 10).read_to_string(&mut said).map_err(failed)?;
    }
    if said == daemon::READY {
        return Ok(());
    }
    let _ = child.wait();
    Err(serde_json::from_str(&said).unwrap_or_else(|_| {
        Problem::new(Code::Internal, "the background supervisor did not start")
            .hint("see supervisor.log in the state directory")
    }))
}

fn failed(error: io::Error) -> Problem {
    Problem::new(Code::StorageFailed, format!("the background supervisor's place: {error}"))
}

fn lost(error: &io::Error) -> Problem {
    Problem::new(Code::SessionLost, format!("the background supervisor went away: {error}")).hint(
        "cofferdam session list shows what is open; see supervisor.log in the state directory",
    )
}
