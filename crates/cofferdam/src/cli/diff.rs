//! `diff`: what a run's result differs in from its base.

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::Diff;

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::objects::DiffObject;
use crate::output::painted_diff;

/// Show what a run changed, as a unified diff
///
/// On a terminal the diff is escaped and coloured; into a file or a pipe it goes byte for byte.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let engine = edge.reader().await?;
    let run = edge.run(&engine, args.run).await?;
    let diff = engine.diff(&run).await?;
    show(edge, run, diff)
}

/// Shows a diff as the reader can take it.
pub(super) fn show(edge: &Edge, run: RunId, diff: Diff) -> Result<Ending, Problem> {
    if edge.screen.json {
        edge.screen.object(&DiffObject {
            run,
            base_tree: diff.changeset.base_tree,
            tree: diff.changeset.tree,
            files: diff.changeset.files,
            patch: String::from_utf8_lossy(&diff.patch).into_owned(),
        })?;
    } else if edge.screen.terminal {
        edge.screen.text(&painted_diff(&edge.screen, &diff.patch))?;
    } else {
        edge.screen.bytes(&diff.patch)?;
    }
    Ok(DONE)
}
