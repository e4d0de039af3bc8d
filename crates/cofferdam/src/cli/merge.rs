//! `merge`: moves a branch of the repository to what was applied.

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::Command;

use super::Edge;
use crate::exit::Ending;

/// Move a branch of the repository to what was applied
///
/// Refused for a branch that is checked out somewhere, with the command to use instead.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
    /// The branch
    #[arg(long, value_name = "BRANCH")]
    into: String,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let into = cofferdam_contract::text::escape_bytes(args.into.as_bytes());
    edge.command(args.run, Command::Merge { into: args.into }, |view| {
        format!("merged into {into}\ntake back  cofferdam rollback {}", view.run)
    })
    .await
}
