//! The command line: one file a command, one line each in the registry below.
//!
//! Flags become a request or a command for the engine; what comes back is shown and becomes an
//! exit code. Must never decide what a run may do.

mod approve;
mod attacked;
mod completions;
mod config;
mod demo;
mod denials;
mod diff;
mod doctor;
mod edge;
mod events;
mod evidence;
mod exec;
mod grant;
mod grants;
mod journal;
mod list;
mod merge;
mod pool;
mod prune;
mod recheck;
mod redteam;
mod reference;
mod reject;
mod request;
mod resume;
mod review;
mod revoke;
mod rollback;
mod run;
mod session;
mod show;
mod stop;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cofferdam_contract::problem::{Code, Problem};
use rustix::io::Errno;
use tokio::runtime::{Builder, Runtime};

use crate::exit::Ending;
use crate::output::Screen;
use crate::wiring;
pub(crate) use edge::{Edge, interrupted};
pub(crate) use request::{Ground, Wanted};
pub(crate) use session::exec::fast as fast_session_exec;

/// A governed runtime for coding agents: an agent works in a walled, disposable copy of a
/// repository; what leaves is a reviewed change with evidence, and nothing else.
#[derive(Parser)]
#[command(name = "cofferdam", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Exit codes: 0 done (awaiting approval is done), 1 internal, 2 usage, \
    3 refused by policy, 4 gate failed, 5 budget or time out, 6 boundary unavailable, 7 conflict, \
    9 stopped, 10 the driver failed or evidence is not valid, 130 left at once by a second signal. \
    redteam ends with 8 if an attack succeeded. \
    exec and session exec end with the program's own code, or 125 where Cofferdam failed.";

macro_rules! commands {
    ($($(#[$attribute:meta])* $variant:ident => $module:ident,)*) => {
        #[derive(Subcommand)]
        enum Command {
            $($(#[$attribute])* $variant($module::Args),)*
        }

        impl Command {
            async fn execute(self, edge: &Edge) -> Result<Ending, Problem> {
                match self {
                    $(Self::$variant(args) => $module::execute(args, edge).await,)*
                }
            }
        }
    };
}

commands! {
    Demo => demo,
    Run => run,
    List => list,
    Show => show,
    Events => events,
    Denials => denials,
    Diff => diff,
    Review => review,
    Approve => approve,
    Reject => reject,
    Recheck => recheck,
    Resume => resume,
    Stop => stop,
    Grant => grant,
    Grants => grants,
    Revoke => revoke,
    Merge => merge,
    Rollback => rollback,
    Prune => prune,
    Pool => pool,
    Evidence => evidence,
    Journal => journal,
    Exec => exec,
    Session => session,
    Doctor => doctor,
    Redteam => redteam,
    Config => config,
    Completions => completions,
    #[command(name = "__attacked", hide = true)]
    Attacked => attacked,
    #[command(name = "__reference", hide = true)]
    Reference => reference,
}

impl Command {
    /// Whether it takes what the launcher has: it tries walls from where they are put up, or mounts.
    fn is_privileged(&self) -> bool {
        matches!(self, Self::Doctor(_) | Self::Redteam(_) | Self::Attacked(_) | Self::Pool(_))
    }

    /// Whether its exit code is a program's own, from which Cofferdam's are told.
    fn runs_a_program(&self) -> bool {
        match self {
            Self::Session(args) => args.runs_a_program(),
            other => matches!(other, Self::Exec(_)),
        }
    }

    /// Whether it only shows or ends what another process holds, which takes no descriptor to be
    /// watched.
    fn holds_nothing(&self) -> bool {
        match self {
            Self::Session(args) => args.holds_nothing(),
            other => {
                matches!(other, Self::List(_) | Self::Show(_) | Self::Stop(_) | Self::Revoke(_))
            }
        }
    }
}

/// Parses the command line, carries it out, and says how it ended.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| mistaken(&error));
    let screen = Screen::of_process(cli.json);
    let runs_a_program = cli.command.runs_a_program();
    let ending = carry_out(cli.command, screen).unwrap_or_else(|problem| match runs_a_program {
        true => exec::failed(&screen, &problem),
        false => {
            screen.problem(&problem);
            Ending::Outcome(problem.code.outcome())
        }
    });
    ending.into()
}

/// Shows help, or what is wrong with the command line: with `--json` as the one object that every
/// problem is.
fn mistaken(error: &clap::Error) -> ! {
    let words = std::env::args_os().take_while(|word| word != "--");
    if error.use_stderr() && words.into_iter().any(|word| word == "--json") {
        let said = error.render().to_string();
        let (detail, hint) = said.split_once("\n\n").unwrap_or((&said, ""));
        let [detail, hint] = [detail.trim_start_matches("error: "), hint]
            .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let problem = Problem::new(Code::RequestInvalid, detail).hint(hint);
        // What people read is what the parser made for them.
        let _closed = Screen::of_process(true).object(&problem);
    }
    error.exit()
}

fn carry_out(command: Command, screen: Screen) -> Result<Ending, Problem> {
    if !command.is_privileged() {
        // Before there is a second thread.
        wiring::give_up_privileges()?;
    }
    let edge = Edge::of_process(screen)?;
    let runtime = runtime(command.holds_nothing())?;
    let ending = runtime.block_on(command.execute(&edge));
    // A blocked read of the terminal must not keep the process.
    runtime.shutdown_background();
    ending
}

/// How many descriptors a user may watch is counted for the whole host, and a session of an ordinary
/// user is that user (`max_user_watches`, epoll(7)): whoever ends it must do without.
fn runtime(holds_nothing: bool) -> Result<Runtime, Problem> {
    let with = |enable: fn(&mut Builder) -> &mut Builder| {
        enable(Builder::new_multi_thread().worker_threads(2)).build()
    };
    let is_full = |error: &io::Error| error.raw_os_error() == Some(Errno::NOSPC.raw_os_error());
    let built = match with(Builder::enable_all) {
        Err(error) if is_full(&error) && holds_nothing => with(Builder::enable_time),
        built => built,
    };
    built.map_err(|error| {
        let detail = format!("starting: {error}");
        if !is_full(&error) {
            return Problem::new(Code::Internal, detail);
        }
        Problem::new(Code::BoundaryUnavailable, detail).hint(
            "a session watches as many descriptors as one user may (fs.epoll.max_user_watches): \
             find it with cofferdam session list or cofferdam list, and end it",
        )
    })
}
