//! `resume`: goes on with a run whose holder was lost.

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::Command;

use super::Edge;
use crate::exit::Ending;

/// Go on with a run whose process was lost, from its last checkpoint
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    edge.command(args.run, Command::Resume {}, |view| {
        format!("the run is {}", view.state.replace('_', " "))
    })
    .await
}
