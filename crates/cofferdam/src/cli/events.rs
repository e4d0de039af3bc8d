//! `events`: what happened in a run, in order.

use std::time::Duration;

use cofferdam_contract::events::Event;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::text::escape_bytes;
use cofferdam_engine::Engine;

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::objects::EventsObject;
use crate::output::progress;
use crate::output::{Screen, Tone};

/// How often the journal is asked for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// States in which nothing more can happen.
const OVER: [&str; 10] = [
    "rolled_back",
    "refused",
    "failed",
    "cancelled",
    "out_of_budget",
    "expired",
    "interrupted",
    "rejected",
    "unchanged",
    "closed",
];

/// Show what happened in a run, in order
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
    /// Wait for more until the run is over; with --json one event a line
    #[arg(long)]
    follow: bool,
    /// Begin at this position
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    from: u64,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let engine = edge.reader().await?;
    let run = edge.run(&engine, args.run).await?;
    if args.follow {
        return follow(edge, &engine, &run, args.from).await;
    }
    let events = engine.events(&run, args.from).await?;
    edge.screen.show(&EventsObject { run, events }, |screen, object| {
        object.events.iter().map(|event| text(screen, event)).collect()
    })?;
    Ok(DONE)
}

async fn follow(edge: &Edge, engine: &Engine, run: &RunId, from: u64) -> Result<Ending, Problem> {
    let mut next = from;
    let mut every = tokio::time::interval(FOLLOW_EVERY);
    loop {
        // Asked before the events are read, so that none of an ended run is missed.
        let state = engine.parts().journal.run(run).await?.state;
        for event in engine.events(run, next).await? {
            edge.screen.show(&event, text)?;
            next = event.sequence + 1;
        }
        if OVER.contains(&state.as_str()) {
            return Ok(DONE);
        }
        every.tick().await;
    }
}

fn text(screen: &Screen, event: &Event) -> String {
    let kind = event.body.kind();
    let said = progress::line(&event.body).unwrap_or_default();
    let place = screen.tone(Tone::Faint, &format!("{:>4}  {}", event.sequence, event.at));
    let line = format!("{place}  {kind:<18}  {}", escape_bytes(said.as_bytes()));
    format!("{}\n", line.trim_end())
}
