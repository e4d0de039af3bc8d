//! `review`: everything that an answer should rest on.

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::review;

/// Show what a proposal changes and what the gate found, and ask for the answer
///
/// The question is asked on a terminal only; elsewhere the commands that answer it are shown.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let engine = edge.reader().await?;
    let run = edge.run(&engine, args.run).await?;
    let view = engine.show(&run).await?;
    if edge.screen.json {
        edge.screen.object(&view)?;
        return Ok(DONE);
    }
    let diff = engine.diff(&run).await?;
    edge.screen.text(&review::review(&edge.screen, &view, &diff))?;
    Ok(super::approve::ask(edge, &view).await?.unwrap_or(DONE))
}
