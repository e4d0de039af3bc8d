//! `session diff`.

use cofferdam_contract::problem::Problem;
use cofferdam_engine::Diff;

use super::super::Edge;
use super::{Target, ask, unexpected};
use crate::exit::Ending;
use crate::supervisor::wire::{Answer, Request};

/// Show what an open session has changed so far, as a unified diff
///
/// The session is frozen while it is looked at.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    match ask(edge, Request::Diff(args.target.which(edge)))? {
        (Answer::Changed { run, changeset }, patch) => {
            super::super::diff::show(edge, run, Diff { changeset: *changeset, patch })
        }
        _ => Err(unexpected()),
    }
}
