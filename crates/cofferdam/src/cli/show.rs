//! `show`: one run in a few lines, or what its driver said.

use cofferdam_contract::events::{CallEvent, CallOutcome, EventBody};
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_engine::Engine;

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::objects::OutputObject;
use crate::output::{Filter, review};

/// Show the state of a run, what it came to and what it cost
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: the last one of the repository in the current directory]
    run: Option<RunId>,
    /// Show what its last call wrote to standard output and standard error instead, without what
    /// looked like a secret
    #[arg(long)]
    output: bool,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let engine = edge.reader().await?;
    let run = edge.run(&engine, args.run).await?;
    if args.output {
        return show_output(edge, &engine, &run).await;
    }
    let view = engine.show(&run).await?;
    edge.screen.show(&view, review::shown)?;
    Ok(DONE)
}

/// The record has text of hostile origin: a terminal gets it filtered.
async fn show_output(edge: &Edge, engine: &Engine, run: &RunId) -> Result<Ending, Problem> {
    let events = engine.events(run, 0).await?;
    let outcome = events.into_iter().rev().find_map(|event| match event.body {
        EventBody::Call(CallEvent::Ended(outcome)) => Some(outcome),
        _ => None,
    });
    let Some(CallOutcome { stdout, stderr, .. }) = outcome else {
        return Err(Problem::new(Code::NotInState, "no call of the run has ended yet"));
    };
    let mut said = [vec![], vec![]];
    for (digest, text) in [stdout, stderr].into_iter().zip(&mut said) {
        if let Some(digest) = digest {
            *text = engine.parts().journal.blob(&digest).await?;
        }
    }
    if edge.screen.json {
        let [stdout, stderr] = said.map(|text| String::from_utf8_lossy(&text).into_owned());
        edge.screen.object(&OutputObject { run: run.clone(), stdout, stderr })?;
        return Ok(DONE);
    }
    for text in said {
        if edge.screen.terminal {
            let (mut filter, mut shown) = (Filter::new(), vec![]);
            filter.push(&text, &mut shown);
            filter.finish(&mut shown);
            edge.screen.bytes(&shown)?;
        } else {
            edge.screen.bytes(&text)?;
        }
    }
    Ok(DONE)
}
