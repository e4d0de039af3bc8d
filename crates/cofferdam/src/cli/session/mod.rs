//! `session`: the same boundary, kept open, for whoever brings their own loop.

mod diff;
mod end;
pub(super) mod exec;
mod list;
mod start;

use clap::Subcommand;
use cofferdam_contract::ids::SessionId;
use cofferdam_contract::problem::{Code, Problem};

use super::Edge;
use crate::exit::Ending;
use crate::supervisor::client::Connection;
use crate::supervisor::wire::{Answer, Request, Which};

/// Open a session and call into it as often as you like
///
/// A session is held by a background supervisor, which is gone after the last one.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Start(start::Args),
    Exec(exec::Args),
    Diff(diff::Args),
    List(list::Args),
    End(end::Args),
}

impl Args {
    pub(super) fn runs_a_program(&self) -> bool {
        matches!(self.command, Command::Exec(_))
    }

    pub(super) fn holds_nothing(&self) -> bool {
        matches!(self.command, Command::Diff(_) | Command::List(_) | Command::End(_))
    }
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    match args.command {
        Command::Start(args) => start::execute(args, edge).await,
        Command::Exec(args) => exec::execute(args, edge).await,
        Command::Diff(args) => diff::execute(args, edge).await,
        Command::List(args) => list::execute(args, edge).await,
        Command::End(args) => end::execute(args, edge).await,
    }
}

/// Which session.
#[derive(clap::Args, Clone)]
struct Target {
    /// The session [default: the newest one of the repository in the current directory]
    session: Option<SessionId>,
}

impl Target {
    fn which(&self, edge: &Edge) -> Which {
        Which { session: self.session.clone(), cwd: edge.cwd.to_string_lossy().into_owned() }
    }
}

/// Asks the supervisor that has a session.
fn ask(edge: &Edge, request: Request) -> Result<(Answer, Vec<u8>), Problem> {
    let mut connection = Connection::to_session(&edge.dirs)?;
    connection.send(request, &[], &[])?;
    connection.receive()
}

fn unexpected() -> Problem {
    Problem::new(Code::Internal, "the supervisor answered something else")
}
