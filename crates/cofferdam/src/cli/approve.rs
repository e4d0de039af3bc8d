//! `approve`: a person's yes to exactly one proposal.

use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::{Command, RunView};

use super::Edge;
use crate::exit::Ending;
use crate::output::{self, ask::can_ask};

/// How much of a digest a question shows: the whole of it stands above.
const DIGEST_SHOWN: usize = 19;

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

/// Asks the person at the terminal, if there is one, whether the proposal that they were just shown
/// is to be applied, and does so.
///
/// # Errors
/// The refusal of the approval.
pub(super) async fn ask(edge: &Edge, view: &RunView) -> Result<Option<Ending>, Problem> {
    let (Some(digest), "awaiting_approval") = (view.digest, view.state.as_str()) else {
        return Ok(None);
    };
    if !can_ask(&edge.screen) {
        return Ok(None);
    }
    let shown: String = digest.to_string().chars().take(DIGEST_SHOWN).collect();
    if !output::ask::ask(&edge.screen, &format!("\napply exactly {shown}…?")).await? {
        edge.screen.text("nothing was applied; the proposal waits\n")?;
        return Ok(None);
    }
    edge.command(Some(view.run.clone()), Command::Approve { digest }, done).await.map(Some)
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
