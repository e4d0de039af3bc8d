//! `approve`: a person's yes to exactly one proposal.

use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::{Command, RunView};

use super::Edge;
use crate::exit::Ending;

/// Apply exactly the proposal with this digest to a branch of its own
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
    /// The digest that was reviewed; any change since then makes another one
    #[arg(long, value_name = "DIGEST")]
    digest: Digest,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    edge.command(args.run, Command::Approve { digest: args.digest }, done).await
}

fn done(view: &RunView) -> String {
    let branch = view.branch.as_deref().unwrap_or_default().trim_start_matches("refs/heads/");
    match (&view.state[..], &view.commit) {
        ("applied", Some(commit)) => format!(
            "applied as {} on {branch}\nmerge      cofferdam merge {run} --into BRANCH\ntake back  cofferdam rollback {run}",
            commit.short(),
            run = view.run,
        ),
        (state, _) => format!("approved; the run is {}", state.replace('_', " ")),
    }
}
