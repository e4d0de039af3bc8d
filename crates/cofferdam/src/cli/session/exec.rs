//! `session exec`: one command in an open session, with as little in the way as can be: one
//! connection, no database, no async runtime.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::SessionId;
use cofferdam_contract::problem::{Code, Problem};

use super::super::exec::{Flags, failed, piped_stdin, tell_timed_out};
use super::super::request::{duration, text_of};
use super::super::{Edge, interrupted};
use super::{Target, unexpected};
use crate::dirs::Dirs;
use crate::exit::{Ending, of_call, refuse_lost};
use crate::output::Screen;
use crate::output::objects::ExecObject;
use crate::relay;
use crate::supervisor::client::Connection;
use crate::supervisor::wire::{Answer, Called, ExecOrder, Request, Which};
use crate::wiring::blocking;

/// Run one command in an open session, and pass input, output and exit code through
///
/// What it changes stays in the session. Ending this command ends the call. Exit codes are as
/// with `cofferdam exec`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    flags: Flags,
    /// Let processes that it leaves behind live until the session ends
    #[arg(long)]
    background: bool,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let order = text_of(args.flags.argv.clone()).map(|argv| ExecOrder {
        which: args.target.which(edge),
        argv,
        timeout_ms: args.flags.timeout_ms(),
        terminal: args.flags.terminal,
        background: args.background,
        capture: edge.screen.json,
    });
    if !args.flags.terminal {
        return Ok(carry_out(&edge.dirs, &edge.screen, order));
    }
    on_terminal(&edge.dirs, edge.screen, order?).await
}

/// A signal ends the relay before it ends this process, so that the caller's terminal is put back
/// as it was.
async fn on_terminal(dirs: &Dirs, screen: Screen, order: ExecOrder) -> Result<Ending, Problem> {
    let connection = Connection::to_session(dirs)?;
    let line = connection.line()?;
    let relaying = blocking(move || relayed(&screen, connection, order));
    tokio::pin!(relaying);
    let code = tokio::select! {
        biased;
        code = interrupted() => code?,
        ending = &mut relaying => return ending,
    };
    line.hang_up();
    let _ = relaying.await;
    Ok(Ending::Program(code))
}

/// Carries out a plain `session exec` from the bare command line; `None` for anything that needs
/// the full parser or a runtime: help, a mistake, a terminal.
pub(crate) fn fast(args: &[OsString]) -> Option<ExitCode> {
    let mut args = args.iter();
    let expected = ["session", "exec"];
    if !expected.iter().all(|word| args.next().is_some_and(|arg| arg == word)) {
        return None;
    }
    let cwd = std::env::current_dir().ok()?.into_os_string().into_string().ok()?;
    let mut order = ExecOrder {
        which: Which { session: None, cwd },
        argv: vec![],
        timeout_ms: None,
        terminal: false,
        background: false,
        capture: false,
    };
    loop {
        match args.next()?.to_str()? {
            "--" => break,
            "--json" => order.capture = true,
            "--background" => order.background = true,
            "--timeout" => {
                let time = duration(args.next()?.to_str()?).ok()?;
                order.timeout_ms = u64::try_from(time.as_millis()).ok();
            }
            id if order.which.session.is_none() => {
                order.which.session = Some(id.parse::<SessionId>().ok()?);
            }
            _ => return None,
        }
    }
    if args.len() == 0 {
        return None;
    }
    let screen = Screen::of_process(order.capture);
    let dirs = Dirs::find(&|name| std::env::var_os(name));
    let order = text_of(args.cloned().collect()).map(|argv| ExecOrder { argv, ..order });
    Some(match dirs {
        Ok(dirs) => carry_out(&dirs, &screen, order).into(),
        Err(problem) => failed(&screen, &problem).into(),
    })
}

fn carry_out(dirs: &Dirs, screen: &Screen, order: Result<ExecOrder, Problem>) -> Ending {
    let carried = order.and_then(|order| match order.capture {
        true => captured(dirs, screen, order),
        false => relayed(screen, Connection::to_session(dirs)?, order),
    });
    carried.unwrap_or_else(|problem| failed(screen, &problem))
}

fn captured(dirs: &Dirs, screen: &Screen, order: ExecOrder) -> Result<Ending, Problem> {
    let mut connection = Connection::to_session(dirs)?;
    let stdin = piped_stdin()?;
    connection.send(Request::Exec(order), &stdin, &[])?;
    let (answer, body) = connection.receive()?;
    let Answer::Called(called) = answer else { return Err(unexpected()) };
    let ending = ending(&called);
    let bytes = usize::try_from(called.stdout_bytes).unwrap_or(usize::MAX);
    let (stdout, stderr) = body.split_at_checked(bytes).ok_or_else(unexpected)?;
    screen.object(&ExecObject {
        exit_code: called.exit_code,
        signal: called.signal,
        timed_out: called.end == CallEnd::TimedOut,
        stdout: String::from_utf8_lossy(stdout).into_owned(),
        stderr: String::from_utf8_lossy(stderr).into_owned(),
        truncated: called.truncated,
        duration_ms: called.duration_ms,
        denials: called.denials,
    })?;
    Ok(ending)
}

fn relayed(
    screen: &Screen,
    mut connection: Connection,
    order: ExecOrder,
) -> Result<Ending, Problem> {
    let system = |error: std::io::Error| Problem::new(Code::Internal, error.to_string());
    let (ends, relay) = relay::open(order.terminal).map_err(system)?;
    let descriptors = [ends.stdin.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd()];
    connection.send(Request::Exec(order), &[], &descriptors)?;
    drop(ends);
    relay.run(connection.answered()).map_err(system)?;
    match connection.receive()? {
        (Answer::Called(called), _) => {
            refuse_lost(called.end)?;
            tell_timed_out(screen, called.end, called.duration_ms);
            Ok(ending(&called))
        }
        _ => Err(unexpected()),
    }
}

fn ending(called: &Called) -> Ending {
    Ending::Program(of_call(called.end, called.exit_code, called.signal))
}
