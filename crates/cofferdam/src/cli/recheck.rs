//! `recheck`: the gate once more, on the base branch as it is now.

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::Command;

use super::Edge;
use crate::exit::Ending;

/// Check a proposal once more, on the base branch as it is now
///
/// For a base that moved, or a check that is not steady. What comes of it is a new proposal, which
/// needs a new approval.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    edge.command(args.run, Command::Recheck {}, |view| {
        let digest = view.digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        format!(
            "checked once more; the proposal is {digest}\nreview     cofferdam review {}",
            view.run
        )
    })
    .await
}
