//! `show`: one run in a few lines.

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::review;

/// Show the state of a run, what it came to and what it cost
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let engine = edge.reader().await?;
    let run = edge.run(&engine, args.run).await?;
    let view = engine.show(&run).await?;
    edge.screen.show(&view, review::summary)?;
    Ok(DONE)
}
