//! What the demo has proved, each decided from the host's side.

use cofferdam_contract::denial::{Denial, DenialSource};
use cofferdam_contract::events::{CallEvent, DenialEvent, Event, EventBody};
use cofferdam_contract::problem::Problem;
use cofferdam_engine::{Engine, RunView};
use serde::Serialize;

use super::scratch::Scratch;

/// One thing that was to be proved.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct Proof {
    /// Stable name.
    pub(crate) name: &'static str,
    /// Whether it holds.
    pub(crate) ok: bool,
    /// One line.
    pub(crate) line: String,
}

impl Proof {
    pub(super) fn new(name: &'static str, ok: bool, line: impl Into<String>) -> Self {
        Self { name, ok, line: line.into() }
    }
}

/// The refusals in a run.
pub(super) fn denials(events: &[Event]) -> Vec<&Denial> {
    let denial =
        |event: &'_ Event| matches!(&event.body, EventBody::Denial(DenialEvent::Recorded(_)));
    events
        .iter()
        .filter(|event| denial(event))
        .filter_map(|event| match &event.body {
            EventBody::Denial(DenialEvent::Recorded(denial)) => Some(denial),
            _ => None,
        })
        .collect()
}

/// What the hostile step came to.
///
/// # Errors
/// What keeps the journal from being read.
pub(super) async fn of_walls(
    scratch: &Scratch,
    engine: &Engine,
    view: &RunView,
) -> Result<Vec<Proof>, Problem> {
    let events = engine.events(&view.run, 0).await?;
    let leaked = is_anywhere(engine, &events, scratch.canary.as_bytes()).await?;
    let said = denials(&events);
    let decoys = said.iter().filter(|it| it.source == DenialSource::Decoy).count();
    let refused: u64 = said.iter().map(|it| it.count).sum();
    let written = ["outside", "hook-ran"].map(|name| scratch.path(name).exists());
    let host = ["/etc/cofferdam-demo", "/usr/local/bin/cofferdam-demo"];
    let outside = written[0] || host.iter().any(|path| std::path::Path::new(path).exists());
    let survivors = scratch.survivors();
    Ok(vec![
        Proof::new("secret", !leaked, "the planted secret is in no output, no event and no result"),
        Proof::new(
            "decoys",
            decoys > 0,
            format!("{decoys} decoys were opened, and each opening was seen"),
        ),
        Proof::new("outside", !outside, "nothing was written outside the workspace"),
        Proof::new("network", !scratch.was_reached(), "nothing reached the host's network"),
        Proof::new(
            "denials",
            refused > 0 && !view.events_incomplete,
            format!("{refused} refusals, each an event of the place that enforced it"),
        ),
        Proof::new("hooks", !written[1], "what was planted for git to run was never run"),
        Proof::new("strays", survivors == 0, "nothing outlived its call"),
    ])
}

/// Whether `needle` came out in any text of the run or any event.
async fn is_anywhere(engine: &Engine, events: &[Event], needle: &[u8]) -> Result<bool, Problem> {
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|it| it == needle);
    for event in events {
        if let EventBody::Call(CallEvent::Ended(outcome)) = &event.body {
            for digest in [outcome.stdout, outcome.stderr].into_iter().flatten() {
                if holds(&engine.parts().journal.blob(&digest).await?) {
                    return Ok(true);
                }
            }
        }
        let text = serde_json::to_vec(event).unwrap_or_default();
        if holds(&text) {
            return Ok(true);
        }
    }
    Ok(false)
}
