//! One call of the attacker's in a session.
//!
//! Must never know what is attempted, or whether it succeeded.

use std::io::{self, Read as _, Seek as _};
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use cofferdam_contract::denial::Denial;
use cofferdam_contract::ids::{CallId, RunId, SessionId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::denials::DenialBook;
use cofferdam_engine::sessions::{OpenSession, SessionOrder};
use cofferdam_sandbox::{CallIo, CallResult, CallSpec, Program};

use crate::probe::{Attempt, Probe, Proof};
use crate::runner::{ATTEMPT_ARGUMENT, failed};
use crate::scene::{Ground, Request};
use crate::watch::{Line, Received};
use crate::world::{Places, World};
use crate::{Suite, Unrecorded};

/// Longest that one attempt may take, and one whose time is to run out.
const ATTEMPT_MS: u64 = 10_000;
const SHORT_MS: u64 = 300;
/// Longer than either.
const LATE_MS: u64 = 9_000;
/// Most of an output that is looked through.
const SAID_BYTES_MAX: u64 = 8 << 20;

/// What came out of one call.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) said: Vec<u8>,
    pub(crate) received: Received,
    pub(crate) denials: Vec<Denial>,
}

/// A session that is attacked, and where things are in it.
pub(crate) struct Attacked {
    session: Arc<dyn OpenSession>,
    workspace: PathBuf,
    home: String,
    scratch: String,
}

impl Deref for Attacked {
    type Target = dyn OpenSession;

    fn deref(&self) -> &Self::Target {
        &*self.session
    }
}

impl Suite {
    /// A session over the world's base. Where its home and its scratch are is asked of it before
    /// anything was attacked.
    pub(crate) fn open(&self, limits: Limits, world: &World) -> Result<Attacked, Problem> {
        let session = self.sessions.open(SessionOrder {
            repository: vec![],
            session: SessionId::generate(&*self.clock, &*self.entropy),
            run: RunId::generate(&*self.clock, &*self.entropy),
            policy: &self.policy(limits)?,
            base_layers: vec![world.base()],
            fill: &mut std::iter::empty(),
            carry: Vec::new(),
            workspace_path: self.workspace_path.clone(),
            book: Arc::new(DenialBook::new(Arc::new(Unrecorded))),
        })?;
        let workspace = session.workspace_path().unwrap_or(&self.workspace_path).to_owned();
        let mut opened =
            Attacked { session, workspace, home: String::new(), scratch: String::new() };
        let places = script(self, &opened, "echo \"$HOME\"; echo \"$TMPDIR\"", &Ground::new());
        let places = String::from_utf8(places.map_err(failed)?).unwrap_or_default();
        if let Some((home, scratch)) = places.trim_end().split_once('\n') {
            (opened.home, opened.scratch) = (home.to_owned(), scratch.to_owned());
        }
        Ok(opened)
    }
}

/// What is where in a session.
pub(crate) fn ground(attacked: &Attacked) -> [(String, String); 8] {
    let workspace = attacked.workspace.to_string_lossy();
    [
        ("WORKSPACE", &*workspace),
        ("SHARED", &workspace),
        ("OWN_MOUNT", "/dev/shm"),
        ("SESSION_HOME", &attacked.home),
        ("SCRATCH", &attacked.scratch),
        ("SCRATCH_SHM", "/dev/shm"),
        ("SCRATCH_HOME", &attacked.home),
        ("LATE_MS", &LATE_MS.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn shell(script: &str) -> Program {
    Program::Execute { executable: "/bin/sh".into(), args: vec!["-c".into(), script.into()] }
}

/// The attacker as a program of the session.
pub(crate) fn attacker(suite: &Suite) -> Program {
    let executable = Places::attacker(&suite.dir).into();
    Program::Execute { executable, args: vec![ATTEMPT_ARGUMENT.into()] }
}

pub(crate) fn spec(
    suite: &Suite,
    attacked: &Attacked,
    program: Program,
    ground: &Ground,
) -> CallSpec {
    CallSpec {
        id: CallId::generate(&*suite.clock, &*suite.entropy),
        program,
        environment: ground.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        cwd: attacked.workspace.clone(),
        timeout_ms: ATTEMPT_MS,
        output_bytes_max: SAID_BYTES_MAX,
        background: false,
        is_agent: false,
        terminal: false,
    }
}

/// Makes the attempt in a session, and watches.
pub(crate) fn attempt(
    suite: &Suite,
    session: &Attacked,
    probe: &Probe,
    request: Request,
    given: &[OwnedFd],
) -> io::Result<Output> {
    let program = match probe.attempt {
        Attempt::Code(_) => attacker(suite),
        Attempt::Script(script) => shell(script),
    };
    let mut spec = spec(suite, session, program, &request.ground);
    let id = spec.id.clone();
    if probe.told == Some("limit.time") {
        spec.timeout_ms = SHORT_MS;
    }
    // What is kept of an output is the call's own business where that is the question.
    if matches!(probe.proof, Proof::Much(_)) {
        spec.output_bytes_max = session.report().limits.output_bytes;
        let io = CallIo::Captured { stdin: Vec::new() };
        let result = session.start(spec, io).map_err(io::Error::other)?.block();
        made(&result)?;
        let said = result.stdout;
        let denials = session.denials(&id);
        return Ok(Output { said, denials, ..Output::default() });
    }
    let given: Vec<_> = given.iter().map(AsFd::as_fd).collect();
    let (line, stdin) = Line::with(&request, &given)?;
    let (said, stdout, stderr) = output()?;
    let running =
        session.start(spec, CallIo::Passed { stdin, stdout, stderr }).map_err(io::Error::other)?;
    let received = line.watch();
    made(&running.block())?;
    Ok(Output { said: read_back(said)?, received, denials: session.denials(&id) })
}

/// An attempt that was never made has not been held.
fn made(result: &CallResult) -> io::Result<()> {
    match result.not_started {
        None => Ok(()),
        Some(why) => Err(io::Error::other(format!("the attempt could not be started: {why:?}"))),
    }
}

/// Runs a script in a session, and gives what it put out.
pub(crate) fn script(
    suite: &Suite,
    session: &Attacked,
    script: &str,
    ground: &Ground,
) -> io::Result<Vec<u8>> {
    let io = CallIo::Captured { stdin: Vec::new() };
    let running = session.start(spec(suite, session, shell(script), ground), io);
    Ok(running.map_err(io::Error::other)?.block().stdout)
}

/// Whether a session still does what it is asked.
pub(crate) fn answers(suite: &Suite, session: &Attacked) -> bool {
    let io = CallIo::Captured { stdin: Vec::new() };
    let running = session.start(spec(suite, session, shell("exit 3"), &Ground::new()), io);
    running.is_ok_and(|it| it.block().exit_code == Some(3))
}

/// A file without a name for what is put out, open three times.
pub(crate) fn output() -> io::Result<(std::fs::File, OwnedFd, OwnedFd)> {
    let file = rustix::fs::memfd_create("said", rustix::fs::MemfdFlags::CLOEXEC)?;
    let (stdout, stderr) = (rustix::io::dup(&file)?, rustix::io::dup(&file)?);
    // Across an execution only where it is a standard stream.
    for other in [&stdout, &stderr] {
        rustix::io::fcntl_setfd(other, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok((file.into(), stdout, stderr))
}

pub(crate) fn read_back(mut said: std::fs::File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    said.rewind()?;
    said.take(SAID_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
