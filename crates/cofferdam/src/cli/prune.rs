//! `prune`: takes back disk space.

use std::time::Duration;

use cofferdam_contract::ids::RunId;
use cofferdam_contract::ports::Clock as _;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_journal::RunRow;
use cofferdam_repository::Retain;

use super::Edge;
use super::request::duration;
use crate::exit::{DONE, Ending};
use crate::output::objects::PruneObject;
use crate::wiring::{SystemClock, blocking};

/// States in which a run still needs its text.
const IN_WORK: [&str; 7] = [
    "preparing",
    "working",
    "checking",
    "awaiting_approval",
    "applying",
    "merging",
    "rolling_back",
];

/// Delete the text that old runs left, and prepared bases that nobody uses
///
/// Events and digests stay, so that the journal can still be verified. A run in work keeps its
/// text.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this run, however old it is
    run: Option<RunId>,
    /// Runs to which nothing has happened for this long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30d")]
    older_than: Duration,
    /// Prepared bases that may stay
    #[arg(long, value_name = "N", default_value_t = 16)]
    bases: usize,
    /// Bytes of prepared bases that may stay
    #[arg(long, value_name = "BYTES", default_value_t = 20 << 30)]
    bases_bytes: u64,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let engine = edge.writer().await?;
    let older_ms = u64::try_from(args.older_than.as_millis()).unwrap_or(u64::MAX);
    let mut pruned = vec![];
    let mut blobs = 0;
    let rows = match args.run {
        Some(run) => vec![named(engine.parts().journal.run(&run).await?)?],
        None => engine.runs().await?.into_iter().filter(|row| is_old(row, older_ms)).collect(),
    };
    for row in rows {
        // Whoever holds it is at work on it.
        let Ok(_held) = engine.parts().journal.hold(&row.run).await else { continue };
        blobs += engine.parts().journal.prune(&row.run).await?;
        pruned.push(row.run);
    }
    let retain = Retain { bases_max: args.bases, bytes_max: args.bases_bytes };
    let of = engine.clone();
    let collected = blocking(move || Ok(of.parts().broker.collect_garbage(&retain)?)).await?;
    let object = PruneObject {
        runs: pruned,
        blobs,
        bases: collected.removed as u64,
        freed_bytes: collected.freed_bytes,
    };
    edge.screen.show(&object, |_, object| {
        let (runs, blobs) = (object.runs.len(), object.blobs);
        let (bases, bytes) = (object.bases, object.freed_bytes);
        format!("pruned {runs} runs ({blobs} blobs) and {bases} prepared bases ({bytes} bytes)\n")
    })?;
    Ok(DONE)
}

fn is_old(row: &RunRow, older_ms: u64) -> bool {
    let is_over = !IN_WORK.contains(&row.state.as_str());
    is_over && SystemClock.now().ms_since(row.updated) >= older_ms
}

fn named(row: RunRow) -> Result<RunRow, Problem> {
    if IN_WORK.contains(&row.state.as_str()) {
        let detail = format!("the run is {}, and needs its text", row.state.replace('_', " "));
        return Err(Problem::new(Code::NotInState, detail));
    }
    Ok(row)
}
