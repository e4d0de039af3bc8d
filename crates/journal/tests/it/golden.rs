//! Journals of every version that was ever written still read to the same events.
//!
//! A golden journal is never edited. A new event type adds a line to the newest one; a changed
//! form adds a version, a golden journal and a step in `upcast.rs`.

use std::collections::BTreeSet;

use cofferdam_contract::chain;
use cofferdam_contract::events::Event;
use cofferdam_contract::schema::published;
use cofferdam_journal::{JournalError, read_event};

const V1: &str = include_str!("../golden/v1.jsonl");

fn read_all(golden: &str) -> Vec<Event> {
    golden.lines().map(|line| read_event(line.as_bytes()).unwrap()).collect()
}

#[test]
fn version_1_reads_to_the_same_events() {
    let events = read_all(V1);
    insta::assert_debug_snapshot!(events);
}

#[test]
fn this_build_writes_version_1_byte_for_byte() {
    for (line, event) in V1.lines().zip(read_all(V1)) {
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}

#[test]
fn the_chain_over_version_1_is_what_it_was() {
    let events = read_all(V1);
    let genesis = chain::run_genesis(&events[0].run);
    let lines = (0..).zip(V1.lines());
    let link =
        lines.fold(genesis, |link, (at, line)| chain::event_link(&link, at, line.as_bytes()));
    insta::assert_snapshot!(link.to_string());
}

/// Every event type that the published schema has.
fn published_kinds() -> BTreeSet<String> {
    fn collect(value: &serde_json::Value, kinds: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                if let Some(kind) = fields.get("const").and_then(|it| it.as_str()) {
                    kinds.extend(kind.contains('.').then(|| kind.to_owned()));
                }
                fields.values().for_each(|it| collect(it, kinds));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|it| collect(it, kinds)),
            _ => {}
        }
    }
    let mut kinds = BTreeSet::new();
    let event = published().into_iter().find(|it| it.name == "event").unwrap();
    collect(event.schema.as_value(), &mut kinds);
    kinds
}

#[test]
fn every_event_type_is_in_the_golden_journal() {
    let golden: BTreeSet<_> = read_all(V1).iter().map(|it| it.body.kind().to_owned()).collect();
    assert!(golden.len() >= 25);
    assert_eq!(golden, published_kinds());
}

#[test]
fn what_is_no_event_is_refused_and_told_from_a_later_version() {
    let line = V1.lines().next().unwrap();
    let later = line.replacen("\"version\":1", "\"version\":2", 1);
    assert!(matches!(
        read_event(later.as_bytes()),
        Err(JournalError::FormatUnknown { found: 2, known: 1 })
    ));
    let damaged = [
        line.replacen("\"version\":1", "\"version\":0", 1),
        line.replacen("\"version\":1,", "", 1),
        line.replacen("run.admitted", "run.unheard_of", 1),
        line.replacen("run.admitted", "nothing", 1),
        line.replacen("\"driver\":", "\"chauffeur\":", 1),
        line.replacen("\"epoch\":1", "\"epoch\":-1", 1),
        line[..line.len() - 1].to_owned(),
        String::new(),
    ];
    for bytes in damaged {
        let read = read_event(bytes.as_bytes());
        assert!(matches!(read, Err(JournalError::Corrupt(_))), "{bytes}: {read:?}");
    }
}
