//! `denials`: what was refused, one by one or grouped, and whether that can be all.

use cofferdam_contract::denial::{Attribution, Denial};
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::text::counted;
use cofferdam_engine::{DenialGrouping, DenialQuery, DenialsView};

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::{Screen, Table, Tone, words};

/// Show what was refused: by which rule, on what, how often, and what may be done instead
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run, or what `exec` and a session are recorded as [default: the last one of the repository
    /// in the current directory]
    run: Option<RunId>,
    /// Of every run instead of one
    #[arg(long, conflicts_with = "run")]
    all: bool,
    /// Count them by what they have in common, the most frequent first
    #[arg(long, value_enum, value_name = "WHAT")]
    by: Option<By>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: usize,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum By {
    /// The rule that refused
    Rule,
    /// What was tried on: a path, an address, a system call
    Target,
    /// The driver of the run
    Driver,
}

impl From<By> for DenialGrouping {
    fn from(by: By) -> Self {
        match by {
            By::Rule => Self::Rule,
            By::Target => Self::Target,
            By::Driver => Self::Driver,
        }
    }
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let engine = edge.reader().await?;
    let run = match args.all {
        true => None,
        false => Some(edge.last(&engine, args.run, |_| true).await?),
    };
    let query = DenialQuery { run, by: args.by.map(Into::into), limit: args.limit };
    let view = engine.denials(&query).await?;
    let of = query.run.as_ref();
    edge.screen.show(&view, |screen, view| text(screen, view, args.by, of))?;
    Ok(DONE)
}

fn text(screen: &Screen, view: &DenialsView, by: Option<By>, of: Option<&RunId>) -> String {
    let mut out = match by {
        _ if view.records_total == 0 => String::new(),
        Some(by) => groups(view, by),
        None => records(&view.records),
    };
    if view.more > 0 {
        out.push_str(&format!("and {} more; see --limit\n", view.more));
    }
    out.push_str(&total(view, of));
    if view.events_incomplete {
        out.push_str(&screen.tone(Tone::Careful, &missing(view)));
        out.push('\n');
    }
    out
}

fn total(view: &DenialsView, of: Option<&RunId>) -> String {
    let of = of.map_or_else(|| counted(view.runs, "run"), ToString::to_string);
    match view.denials {
        0 => format!("nothing was refused in {of}\n"),
        count => format!("{} in {of}\n", counted(count, "refusal")),
    }
}

fn missing(view: &DenialsView) -> String {
    let lost = match view.denials_lost {
        0 => "some may be missing from the record".to_owned(),
        lost => format!("{lost} more could not be recorded"),
    };
    let runs: Vec<&str> = view.incomplete_runs.iter().map(RunId::as_str).collect();
    format!("events incomplete: {lost} ({})", runs.join(", "))
}

fn groups(view: &DenialsView, by: By) -> String {
    let title = match by {
        By::Rule => "rule",
        By::Target => "target",
        By::Driver => "driver",
    };
    let mut table = Table::new(&["denials", "runs", title, "instead"]);
    for group in &view.groups {
        // What helps against one rule is no advice about all that a driver did.
        let hint = if matches!(by, By::Driver) { "" } else { &group.hint };
        let (denials, runs) = (group.denials.to_string(), group.runs.to_string());
        table.row(&[&denials, &runs, &group.key, hint]);
    }
    table.lines()
}

fn records(records: &[Denial]) -> String {
    let mut table = Table::new(&["when", "count", "operation", "rule", "target", "by", "call"]);
    for denial in records {
        let operation = words(&denial.operation);
        let process = &denial.process;
        let by = process.exe.as_deref().or(process.argv0.as_deref()).unwrap_or("-");
        let call = match (&denial.call, denial.attribution) {
            (Some(call), Attribution::Exact) => call.to_string(),
            (Some(call), Attribution::Inferred) => format!("{call} (inferred)"),
            (None, _) => "-".to_owned(),
        };
        let (at, count) = (denial.at.to_string(), denial.count.to_string());
        table.row(&[&at, &count, &operation, &denial.rule, &denial.target, by, &call]);
    }
    table.lines()
}
