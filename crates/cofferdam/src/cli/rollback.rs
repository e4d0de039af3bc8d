//! `rollback`: takes back what was applied or merged.

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_engine::Command;

use super::Edge;
use crate::exit::{Ending, of_run};
use crate::output::objects::CommandObject;

/// Take back what a run applied or merged
///
/// A branch that nobody else has written since goes back to where it was. Where others have built
/// upon a merge, its inverse becomes a proposal of its own, to be checked and approved.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let rolled_back = edge.command(args.run.clone(), Command::Rollback {}, |view| {
        format!("the run is {}", view.state.replace('_', " "))
    });
    match rolled_back.await {
        Err(problem) if problem.code == Code::BranchMoved => {
            propose_inverse(args, edge, problem).await
        }
        ended => ended,
    }
}

/// # Errors
/// The problem that kept the branch from going back, unless the inverse can be proposed.
async fn propose_inverse(args: Args, edge: &Edge, moved: Problem) -> Result<Ending, Problem> {
    let engine = edge.writer().await?;
    let run = edge.run(&engine, args.run).await?;
    let inverse = match engine.admit_revert(&run, edge.principal.clone()).await {
        Err(problem) if problem.code == Code::NotInState => return Err(moved),
        admitted => admitted?.run,
    };
    edge.screen.progress(&format!("{moved}; its inverse is proposed as {inverse}"));
    let view = engine.advance(&inverse, edge.observer()).await?;
    if edge.screen.json {
        let ending = of_run(&view.state, view.problem.as_ref());
        edge.screen
            .object(&CommandObject { reverts: Some(run), ..CommandObject::of(view, false) })?;
        return Ok(ending);
    }
    super::run::show(edge, &engine, view).await
}
