//! `journal`: whether what is recorded is what was recorded.

use clap::Subcommand;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::{counted, escape_bytes};

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::objects::{FaultObject, JournalObject};
use crate::output::{Screen, Tone};

/// Verify the journal
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find any event, run or blob that was edited, dropped or reordered
    Verify,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let Command::Verify = args.command;
    let report = edge.reader().await?.verify_journal().await?;
    let faults = report.faults.iter().map(|fault| FaultObject {
        run: fault.run.clone(),
        sequence: fault.sequence,
        detail: escape_bytes(fault.to_string().as_bytes()),
    });
    let object = JournalObject {
        ok: report.faults.is_empty(),
        runs: report.runs,
        events: report.events,
        faults: faults.collect(),
    };
    edge.screen.show(&object, text)?;
    Ok(if object.ok { DONE } else { Ending::Outcome(Code::JournalCorrupt.outcome()) })
}

fn text(screen: &Screen, object: &JournalObject) -> String {
    if object.ok {
        let ok = screen.tone(Tone::Good, "intact");
        let (runs, events) = (counted(object.runs, "run"), counted(object.events, "event"));
        return format!("{ok}: {runs}, {events}\n");
    }
    let bad = screen.tone(Tone::Bad, "fault");
    object.faults.iter().map(|fault| format!("{bad} {}\n", fault.detail)).collect()
}
