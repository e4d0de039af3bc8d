//! `session start`.

use cofferdam_contract::capability::WallStatus;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::DriverRequest;

use super::super::Edge;
use super::super::request::{Ground, Wanted};
use super::unexpected;
use crate::exit::{DONE, Ending};
use crate::output::objects::StartObject;
use crate::output::{Screen, Tone, walls, words};
use crate::supervisor::client::ask_or_start;
use crate::supervisor::wire::{Answer, Request};
use crate::wiring::blocking;

/// Open a session on a repository
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    ground: Ground,
    /// What it is for, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    task: String,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let wanted = Wanted::of(DriverRequest::Attached {}, args.task);
    let request = args.ground.request(edge, wanted)?;
    request.validate()?;
    let (dirs, request) = (edge.dirs.clone(), Request::Start(Box::new(request)));
    let (answer, _) = blocking(move || ask_or_start(&dirs, &request)).await?;
    let Answer::Started { run, session, capabilities } = answer else {
        return Err(unexpected());
    };
    edge.screen.show(&StartObject { run, session, capabilities: *capabilities }, text)?;
    Ok(DONE)
}

fn text(screen: &Screen, started: &StartObject) -> String {
    let report = &started.capabilities;
    let session = screen.tone(Tone::Strong, started.session.as_str());
    let mut out = format!("{session}\n{}\n", walls(&report.walls));
    for wall in report.walls.iter().filter(|wall| wall.status != WallStatus::Enforced) {
        let (name, status) = (words(&wall.name), words(&wall.status));
        let detail = cofferdam_contract::text::escape_bytes(wall.detail.as_bytes());
        out.push_str(&format!("  {} {name}: {detail}\n", screen.tone(Tone::Careful, &status)));
    }
    out.push_str(&format!(
        "call into it  cofferdam session exec {} -- EXE ARG…\n",
        started.session
    ));
    out
}
