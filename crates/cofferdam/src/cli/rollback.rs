//! `rollback`: takes back what was applied or merged.

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::Command;

use super::Edge;
use crate::exit::Ending;

/// Take back what a run applied or merged
///
/// A branch that nobody else has written since goes back to where it was.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    edge.command(args.run, Command::Rollback {}, |view| {
        format!("the run is {}", view.state.replace('_', " "))
    })
    .await
}
