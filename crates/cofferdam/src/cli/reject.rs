//! `reject`: a person's no.

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::Command;

use super::Edge;
use crate::exit::Ending;

/// End a run without a branch
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
    /// Why, for the record
    #[arg(long, value_name = "REASON")]
    reason: String,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let command = Command::Reject { reason: args.reason };
    edge.command(args.run, command, |_| "rejected; nothing was written".to_owned()).await
}
