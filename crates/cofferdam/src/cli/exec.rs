//! `exec`: one command in a fresh session.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use cofferdam_contract::events::CallEnd;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::DriverRequest;
use cofferdam_engine::{Attached, Unobserved};
use cofferdam_sandbox::CallIo;
use cofferdam_tools::{CallReport, CallRequest};

use super::request::{Ground, Wanted, duration, text_of};
use super::{Edge, interrupted};
use crate::exit::{EXEC_FAILED, EXEC_NOT_STARTED, Ending, of_call, refuse_lost};
use crate::output::Screen;
use crate::output::objects::ExecObject;
use crate::relay;
use crate::supervisor::exec_request;

/// Most bytes of standard input that are taken along with `--json`.
const STDIN_BYTES_MAX: u64 = 16 << 20;

/// Run one command in a fresh session, and pass input, output and exit code through
///
/// Nothing of what it changes is kept. On a terminal, control sequences other than colours are
/// filtered out of its output. With --json, standard input is read to its end first if it is a
/// file or a pipe.
///
/// Exit codes: the program's own; 128 plus the signal that ended it; 124 if its time ran out; 127
/// if it could not be started; 125 for a refusal or failure of Cofferdam's own.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    ground: Ground,
    #[command(flatten)]
    flags: Flags,
}

/// How to run the command.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// Give it a terminal
    #[arg(short = 't', long = "terminal", conflicts_with = "json")]
    pub(crate) terminal: bool,
    /// Longest it may take, such as 60s [default: what the profile says]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "EXE ARG")]
    pub(crate) argv: Vec<OsString>,
}

impl Flags {
    /// The time in the unit of a call.
    pub(crate) fn timeout_ms(&self) -> Option<u64> {
        self.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Shows a problem of our own, told from the program's by the exit code.
pub(super) fn failed(screen: &Screen, problem: &Problem) -> Ending {
    screen.problem(problem);
    Ending::Program(match problem.code {
        Code::ExecutableUnavailable => EXEC_NOT_STARTED,
        _ => EXEC_FAILED,
    })
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let flags = args.flags;
    let timeout_ms = flags.timeout_ms();
    let mut call = exec_request(text_of(flags.argv)?)?;
    call.timeout_ms = timeout_ms;
    call.terminal = flags.terminal;
    let wanted =
        Wanted::of(DriverRequest::Attached {}, "one command in a session of its own".to_owned());
    let request = args.ground.request(edge, wanted)?;
    let engine = edge.writer().await?;
    let attached = engine.attach(request, std::sync::Arc::new(Unobserved)).await?;
    let called = match edge.screen.json {
        true => captured(edge, &attached, call).await,
        false => passed(&edge.screen, &attached, call).await,
    };
    let ended = attached.end().await;
    let ending = called?;
    ended?;
    Ok(ending)
}

/// The program was killed and could say nothing.
pub(super) fn tell_timed_out(screen: &Screen, end: CallEnd, duration_ms: u64) {
    if end == CallEnd::TimedOut {
        screen.progress(&format!("ended after {duration_ms} ms: it had no more time (--timeout)"));
    }
}

/// Runs the call; a signal to this process ends the session, and with it the call.
async fn call(
    attached: &Attached,
    request: CallRequest,
) -> Result<Result<CallReport, u8>, Problem> {
    let calling = attached.call(request);
    tokio::pin!(calling);
    // In this order: whoever sees the program start can count on its being heard.
    let code = tokio::select! {
        biased;
        code = interrupted() => code?,
        report = &mut calling => return report.map(Ok),
    };
    let (ended, _) = tokio::join!(attached.end(), calling);
    ended.map(|_| Err(code))
}

async fn captured(
    edge: &Edge,
    attached: &Attached,
    mut request: CallRequest,
) -> Result<Ending, Problem> {
    request.passed = Some(CallIo::Captured { stdin: piped_stdin()? });
    let report = match call(attached, request).await? {
        Ok(report) => report,
        Err(code) => return Ok(Ending::Program(code)),
    };
    let outcome = &report.outcome;
    let code = of_call(outcome.end, outcome.exit_code, outcome.signal);
    edge.screen.object(&ExecObject {
        exit_code: outcome.exit_code,
        signal: outcome.signal,
        timed_out: outcome.end == CallEnd::TimedOut,
        stdout: String::from_utf8_lossy(&report.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&report.stderr).into_owned(),
        truncated: outcome.truncated,
        duration_ms: outcome.duration_ms,
        denials: report.denials,
    })?;
    Ok(Ending::Program(code))
}

/// Standard input to its end where it has one: a file or a pipe. Anything else might never end.
pub(super) fn piped_stdin() -> Result<Vec<u8>, Problem> {
    let refuse = |detail: String| Problem::new(Code::RequestInvalid, detail);
    let stdin = std::io::stdin();
    let found = rustix::fs::fstat(&stdin).map_err(|error| refuse(error.to_string()))?;
    let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
    let ends = matches!(kind, rustix::fs::FileType::RegularFile | rustix::fs::FileType::Fifo);
    if stdin.is_terminal() || !ends {
        return Ok(vec![]);
    }
    let mut bytes = vec![];
    let read = stdin.lock().take(STDIN_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| refuse(format!("standard input: {error}")))?;
    if bytes.len() as u64 > STDIN_BYTES_MAX {
        return Err(refuse("standard input has over 16 MiB".to_owned())
            .hint("leave --json away: then standard input is passed as it is"));
    }
    Ok(bytes)
}

async fn passed(
    screen: &Screen,
    attached: &Attached,
    mut request: CallRequest,
) -> Result<Ending, Problem> {
    let system = |error: std::io::Error| Problem::new(Code::Internal, error.to_string());
    let (ends, relay) = relay::open(request.terminal).map_err(system)?;
    let relay::Ends { stdin, stdout, stderr } = ends;
    request.passed = Some(CallIo::Passed { stdin, stdout, stderr });
    let (done, finish) = std::io::pipe().map_err(system)?;
    let relaying = tokio::task::spawn_blocking(move || relay.run(done.as_fd()));
    let report = call(attached, request).await;
    drop(finish);
    let relayed =
        relaying.await.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let ending = match report? {
        Ok(CallReport { outcome, .. }) => {
            refuse_lost(outcome.end)?;
            tell_timed_out(screen, outcome.end, outcome.duration_ms);
            of_call(outcome.end, outcome.exit_code, outcome.signal)
        }
        Err(code) => code,
    };
    relayed.map_err(system)?;
    Ok(Ending::Program(ending))
}
