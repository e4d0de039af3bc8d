//! `prune`: takes back disk space.

use cofferdam_contract::problem::Problem;
use cofferdam_contract::text::counted;
use cofferdam_repository::Retain;
use cofferdam_workspace::Pool;

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::objects::PruneObject;
use crate::wiring;

/// Delete the text and results that ended runs left, and bases and mirrors that nobody uses
///
/// Events, digests and branches stay, so that the journal can still be verified. A run that still
/// waits for an answer or can be rolled back keeps its text and its result. A mirror of a URL stays
/// while a run needs it or a result was applied in it.
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
    let copies = match Pool::at(&edge.dirs.pool()) {
        Some(pool) => wiring::blocking(move || Ok(pool.collect()?)).await?,
        None => 0,
    };
    let object = PruneObject {
        runs: pruned.runs,
        blobs: pruned.blobs,
        bases: pruned.bases + copies,
        freed_bytes: pruned.freed_bytes,
        objects: pruned.objects,
        mirrors: pruned.mirrors,
    };
    edge.screen.show(&object, |_, object| {
        format!(
            "pruned {} ({}), {} of results, {} and {} ({})\n",
            counted(object.runs, "run"),
            counted(object.blobs, "blob"),
            counted(object.objects, "object"),
            counted(object.mirrors, "mirror"),
            counted(object.bases, "base"),
            counted(object.freed_bytes, "byte"),
        )
    })?;
    Ok(DONE)
}
