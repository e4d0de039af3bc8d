//! `grants`: what sessions were given, and what they ask for.

use std::fmt::Write as _;

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::text::escape_bytes;
use cofferdam_engine::{GrantState, GrantView};

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::objects::GrantsObject;
use crate::output::{Screen, Tone};

/// Show the grants of a run, and what its session asks for
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run [default: every run whose session works]
    run: Option<RunId>,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let engine = edge.reader().await?;
    let runs = match args.run {
        Some(run) => vec![run],
        None => {
            let rows = engine.runs().await?.into_iter();
            rows.filter(|row| row.state == "working").map(|row| row.run).collect()
        }
    };
    let mut grants = vec![];
    for run in runs {
        grants.extend(engine.grants(&run).await?);
    }
    edge.screen.show(&GrantsObject { grants }, |screen, object| {
        let rows = object.grants.iter().map(|view| row(screen, view));
        let text: String = rows.collect();
        if text.is_empty() { "no grants and no requests\n".to_owned() } else { text }
    })?;
    Ok(DONE)
}

/// A few lines on one grant. What a session wrote is escaped.
pub(super) fn row(screen: &Screen, view: &GrantView) -> String {
    let escaped = |text: &str| escape_bytes(text.as_bytes());
    let id = match (&view.grant, &view.request) {
        (Some(grant), _) => grant.as_str(),
        (None, Some(request)) => request.as_str(),
        (None, None) => "-",
    };
    let (tone, state) = match view.state {
        GrantState::Pending => (Tone::Careful, "pending"),
        GrantState::Refused => (Tone::Bad, "refused"),
        GrantState::Live => (Tone::Good, "live"),
        GrantState::Expired => (Tone::Faint, "expired"),
        GrantState::UsedUp => (Tone::Faint, "used up"),
        GrantState::Revoked => (Tone::Faint, "revoked"),
    };
    let mut out = String::new();
    let state = screen.tone(tone, state);
    let _ = writeln!(out, "{} {state} {}", screen.tone(Tone::Strong, id), escaped(&view.kind));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<8} {value}");
    };
    line("session", view.session.to_string());
    if let Some(place) = &view.place {
        line("inside", escaped(place));
    }
    if view.grant.is_some() {
        line("used", format!("{} of {}", view.used, view.uses));
    }
    if let Some(until) = view.expires_at {
        line("until", until.to_string());
    }
    if let Some(by) = &view.by {
        line("by", by.to_string());
    }
    line("reason", escaped(&view.reason));
    if view.state == GrantState::Pending {
        line("yes", format!("cofferdam grant {} --request {id} --reason REASON", view.session));
        line("no", format!("cofferdam revoke {id} --reason REASON"));
    }
    out
}
