//! `session end`.

use cofferdam_contract::problem::Problem;

use super::super::Edge;
use super::{Target, ask, unexpected};
use crate::exit::{DONE, Ending};
use crate::supervisor::wire::{Answer, Request};

/// End a session and everything in it; what it changed is gone
///
/// With --json the run that recorded it, as with `cofferdam show`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    match ask(edge, Request::End(args.target.which(edge)))? {
        (Answer::Ended { run, session }, _) => {
            let view = edge.reader().await?.show(&run).await?;
            edge.screen.show(&view, |_, _| format!("{session} is ended\n"))?;
            Ok(DONE)
        }
        _ => Err(unexpected()),
    }
}
