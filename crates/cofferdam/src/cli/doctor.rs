//! `doctor`: what a session's boundary would consist of here, and how to get what is missing.

use cofferdam_contract::problem::Problem;

use super::Edge;
use crate::exit::{DONE, Ending};

/// Tell which walls and requirements are there, and how to get what is missing
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(super) async fn execute(_: Args, _edge: &Edge) -> Result<Ending, Problem> {
    Ok(DONE)
}
