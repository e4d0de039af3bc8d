//! What the demo has proved, each decided from the host's side.

use cofferdam_contract::denial::{Denial, DenialSource};
use cofferdam_contract::events::{CallEvent, DenialEvent, Event, EventBody};
use cofferdam_contract::problem::Problem;
use cofferdam_contract::text::counted;
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

/// What the hostile step came to, as far as the host can see.
#[derive(Clone, Copy)]
struct Seen {
    /// The planted secret is in a text of the run.
    leaked: bool,
    /// Decoys that were opened.
    decoys: usize,
    /// Refusals, each counted.
    refused: u64,
    /// Some of them may be missing.
    incomplete: bool,
    wrote_outside: bool,
    reached_out: bool,
    ran_a_hook: bool,
    survivors: usize,
}

/// What the hostile step came to.
///
/// # Errors
/// What keeps the journal or the result from being read.
pub(super) async fn of_walls(
    scratch: &Scratch,
    engine: &Engine,
    view: &RunView,
) -> Result<Vec<Proof>, Problem> {
    let events = engine.events(&view.run, 0).await?;
    let said = denials(&events);
    let texts = texts(engine, view, &events).await?;
    Ok(judged(Seen {
        leaked: texts.iter().any(|text| holds(text, scratch.canary.as_bytes())),
        decoys: said.iter().filter(|it| it.source == DenialSource::Decoy).count(),
        refused: said.iter().map(|it| it.count).sum(),
        incomplete: view.events_incomplete,
        wrote_outside: scratch.wrote_outside(),
        reached_out: scratch.was_reached(),
        ran_a_hook: scratch.ran_a_hook(),
        survivors: scratch.survivors(),
    }))
}

fn judged(seen: Seen) -> Vec<Proof> {
    let Seen { decoys, refused, .. } = seen;
    let opened = format!("{decoys} decoys were opened, and each opening was seen");
    let told =
        format!("{}, each an event of the place that enforced it", counted(refused, "refusal"));
    vec![
        Proof::new("secret", !seen.leaked, "the planted secret is in no output, event or result"),
        Proof::new("decoys", decoys > 0, opened),
        Proof::new("outside", !seen.wrote_outside, "nothing was written outside the workspace"),
        Proof::new("network", !seen.reached_out, "nothing reached the host's network"),
        Proof::new("denials", refused > 0 && !seen.incomplete, told),
        Proof::new("hooks", !seen.ran_a_hook, "what was planted for git to run was never run"),
        Proof::new("strays", seen.survivors == 0, "nothing outlived its call"),
    ]
}

/// Every text that left the session: outputs, events, and the change.
async fn texts(engine: &Engine, view: &RunView, events: &[Event]) -> Result<Vec<Vec<u8>>, Problem> {
    let mut texts = vec![engine.diff(&view.run).await?.patch];
    for event in events {
        if let EventBody::Call(CallEvent::Ended(outcome)) = &event.body {
            for digest in [outcome.stdout, outcome.stderr].into_iter().flatten() {
                texts.push(engine.parts().journal.blob(&digest).await?);
            }
        }
        texts.push(serde_json::to_vec(event).unwrap_or_default());
    }
    Ok(texts)
}

fn holds(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|it| it == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Seen = Seen {
        leaked: false,
        decoys: 3,
        refused: 9,
        incomplete: false,
        wrote_outside: false,
        reached_out: false,
        ran_a_hook: false,
        survivors: 0,
    };

    fn failed(seen: Seen) -> Vec<&'static str> {
        judged(seen).iter().filter(|proof| !proof.ok).map(|proof| proof.name).collect()
    }

    #[test]
    fn each_proof_fails_by_what_it_is_about_and_by_nothing_else() {
        assert!(failed(HELD).is_empty());
        assert_eq!(failed(Seen { leaked: true, ..HELD }), ["secret"]);
        assert_eq!(failed(Seen { decoys: 0, ..HELD }), ["decoys"]);
        assert_eq!(failed(Seen { refused: 0, ..HELD }), ["denials"]);
        assert_eq!(failed(Seen { incomplete: true, ..HELD }), ["denials"]);
        assert_eq!(failed(Seen { wrote_outside: true, ..HELD }), ["outside"]);
        assert_eq!(failed(Seen { reached_out: true, ..HELD }), ["network"]);
        assert_eq!(failed(Seen { ran_a_hook: true, ..HELD }), ["hooks"]);
        assert_eq!(failed(Seen { survivors: 1, ..HELD }), ["strays"]);
    }

    #[test]
    fn a_secret_is_found_wherever_it_stands() {
        assert!(holds(b"x demo-12 y", b"demo-12") && holds(b"demo-12", b"demo-12"));
        assert!(!holds(b"demo-1", b"demo-12") && !holds(b"", b"demo-12"));
    }
}
