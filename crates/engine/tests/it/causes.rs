//! Every event but the first names the event that caused it, and the chain leads from a branch
//! back to the request.

use std::collections::BTreeMap;
use std::sync::Arc;

use cofferdam_contract::events::Event;
use cofferdam_engine::{Command, Unobserved};

use crate::flow::{approve, command};
use crate::world::{Death, World};

/// Fails unless every event but the first names an event before it.
#[track_caller]
pub(crate) fn assert_caused(events: &[Event]) {
    for (at, event) in events.iter().enumerate() {
        let before = |cause| events[..at].iter().any(|it| it.id == cause);
        let caused = event.cause.clone().is_some_and(before);
        assert_eq!(caused, at > 0, "{event:#?}");
    }
}

/// What led to each kind of event.
fn led(events: &[Event]) -> String {
    let kinds: BTreeMap<_, _> = events.iter().map(|it| (it.id.clone(), it.body.kind())).collect();
    let mut lines: Vec<String> = vec![];
    for event in events {
        let cause = event.cause.as_ref().map_or("-", |id| kinds[id]);
        let line = format!("{:<18} <- {cause}", event.body.kind());
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_names_what_led_to_it() {
    let mut world = World::new(21);
    world.profile.executables.deny = ["forbidden".to_owned()].into();
    let engine = world.boot(Death::NONE).await.unwrap();
    let denied = engine.admit(world.request(&["forbidden"])).await.unwrap().run;
    engine.advance(&denied, Arc::new(Unobserved)).await.unwrap();
    let run = engine.admit(world.request(&["write", "file.txt", "two\n"])).await.unwrap().run;
    let view = engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
    command(&engine, &run, approve(&view)).await.unwrap();
    command(&engine, &run, Command::Merge { into: "main".to_owned() }).await.unwrap();
    command(&engine, &run, Command::Rollback {}).await.unwrap();
    let mut all = String::new();
    for run in [run, denied] {
        let events = engine.events(&run, 0).await.unwrap();
        assert_caused(&events);
        all = format!("{all}{}\n\n", led(&events));
    }
    insta::assert_snapshot!(all.trim_end());
}
