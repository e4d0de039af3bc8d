//! `session list`.

use cofferdam_contract::problem::Problem;

use super::super::Edge;
use super::unexpected;
use crate::exit::{DONE, Ending};
use crate::output::objects::SessionsObject;
use crate::output::{Screen, Table};
use crate::supervisor::client::Connection;
use crate::supervisor::wire::{Answer, Request};

/// List the open sessions, the newest first
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(super) async fn execute(_: Args, edge: &Edge) -> Result<Ending, Problem> {
    let sessions = match Connection::open(&edge.dirs)? {
        None => vec![],
        Some(mut connection) => {
            connection.send(Request::List {}, &[], &[])?;
            let (Answer::Sessions(sessions), _) = connection.receive()? else {
                return Err(unexpected());
            };
            sessions
        }
    };
    edge.screen.show(&SessionsObject { sessions }, text)?;
    Ok(DONE)
}

fn text(_: &Screen, list: &SessionsObject) -> String {
    let mut table = Table::new(&["session", "run", "started", "calls", "repository"]);
    for row in &list.sessions {
        let (started, calls) = (row.started.to_string(), row.calls.to_string());
        table.row(&[row.session.as_str(), row.run.as_str(), &started, &calls, &row.repository]);
    }
    if table.is_empty() { "no session is open\n".to_owned() } else { table.lines() }
}
