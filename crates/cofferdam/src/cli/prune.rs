//! `prune`: takes back disk space.

use cofferdam_contract::problem::Problem;
use cofferdam_repository::Retain;

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::objects::PruneObject;

/// Delete the text that ended runs left, and prepared bases that nobody uses
///
/// Events, digests and branches stay, so that the journal can still be verified. A run that still
/// waits for an answer or can be rolled back keeps its text.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Prepared bases that may stay
    #[arg(long, value_name = "N", default_value_t = 16)]
    bases: usize,
    /// Bytes of prepared bases that may stay
    #[arg(long, value_name = "BYTES", default_value_t = 20 << 30)]
    bases_bytes: u64,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let engine = edge.writer().await?;
    let retain = Retain { bases_max: args.bases, bytes_max: args.bases_bytes };
    let pruned = engine.prune(retain).await?;
    let object = PruneObject {
        runs: pruned.runs,
        blobs: pruned.blobs,
        bases: pruned.bases,
        freed_bytes: pruned.freed_bytes,
    };
    edge.screen.show(&object, |_, object| {
        let PruneObject { runs, blobs, bases, freed_bytes } = object;
        format!("pruned {runs} runs ({blobs} blobs) and {bases} bases ({freed_bytes} bytes)\n")
    })?;
    Ok(DONE)
}
