//! `list`: the runs of this state directory.

use cofferdam_contract::problem::Problem;

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::objects::{ListObject, ListedRun};
use crate::output::{Screen, Table, review};
use crate::repository;

/// List runs, the newest first
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only runs of the repository in the current directory
    #[arg(long)]
    here: bool,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let here = match args.here {
        true => Some(review::plain_source(&repository::source(None, &edge.cwd)?)),
        false => None,
    };
    let rows = edge.reader().await?.runs().await?;
    let shown = rows.into_iter().filter(|row| here.as_ref().is_none_or(|it| *it == row.repository));
    let runs = shown.take(args.limit).map(|row| ListedRun {
        run: row.run,
        state: row.state,
        repository: row.repository,
        driver: row.driver,
        created: row.created,
        updated: row.updated,
        branch: row.branch,
        digest: row.digest,
    });
    edge.screen.show(&ListObject { runs: runs.collect() }, text)?;
    Ok(DONE)
}

fn text(_: &Screen, list: &ListObject) -> String {
    let mut table = Table::new(&["run", "state", "driver", "created", "repository"]);
    for run in &list.runs {
        let created = run.created.to_string();
        table.row(&[run.run.as_str(), &run.state, &run.driver, &created, &run.repository]);
    }
    if table.is_empty() { "there are no runs\n".to_owned() } else { table.lines() }
}
