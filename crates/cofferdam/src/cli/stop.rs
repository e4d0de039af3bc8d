//! `stop`: ends a run at once.

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::Command;

use super::Edge;
use crate::exit::Ending;

/// End a run at once, and everything that it started
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    edge.command(args.run, Command::Stop {}, |_| "stopped".to_owned()).await
}
