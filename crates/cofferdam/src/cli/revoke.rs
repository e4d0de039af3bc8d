//! `revoke`: takes a grant back, or refuses what a session asks for.

use cofferdam_contract::grant::GrantRef;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::{Command, Given};

use super::Edge;
use super::grant::find;
use super::grants::row;
use crate::exit::{DONE, Ending};

/// Take a grant back at once, or refuse a request
///
/// What holds on to a granted path is killed, and so is what traces; a call that was let through
/// goes on.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The grant, or the session's request
    #[arg(value_name = "GRANT|REQUEST")]
    what: GrantRef,
    /// Why; it stays in the record
    #[arg(long, default_value = "taken back by hand")]
    reason: String,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let engine = edge.reader().await?;
    let run = engine.run_of_grant(&args.what).await?;
    let command = Command::Revoke { what: args.what.clone(), reason: args.reason };
    let given = Given { by: edge.principal.clone(), command };
    engine.command(&run, given, edge.observer()).await?;
    let view = find(&engine, &run, &args.what).await?;
    edge.screen.show(&view, row)?;
    Ok(DONE)
}
