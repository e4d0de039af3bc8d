//! Reads stored events of every version that was ever written. The only file that knows old forms.
//!
//! A new version of an event type adds a step here and a golden journal under `tests/golden/`;
//! stored bytes are never rewritten.

use cofferdam_contract::events::{EVENT_VERSION, Event};
use serde_json::Value;

use crate::error::JournalError;

/// Turns an event of one version into the next one's form.
type Step = fn(Value) -> Value;

/// The step from version `n` to `n + 1` is at index `n - 1`.
const STEPS: &[Step] = &[];

/// The event that `stored` holds, whatever version wrote it.
///
/// # Errors
/// [`JournalError::Corrupt`] for bytes that are no event, [`JournalError::FormatUnknown`] for an
/// event of a later version.
pub fn read_event(stored: &[u8]) -> Result<Event, JournalError> {
    read_with(STEPS, stored)
}

fn read_with(steps: &[Step], stored: &[u8]) -> Result<Event, JournalError> {
    let corrupt = |error: serde_json::Error| JournalError::Corrupt(format!("no event: {error}"));
    if steps.is_empty() {
        // The common case, without a detour over a tree of values.
        if let Ok(event) = serde_json::from_slice::<Event>(stored)
            && event.version == EVENT_VERSION
        {
            return Ok(event);
        }
    }
    let mut value: Value = serde_json::from_slice(stored).map_err(corrupt)?;
    let known = steps.len() as u64 + 1;
    let version = value.get("version").and_then(Value::as_u64).unwrap_or(0);
    if version == 0 {
        return Err(JournalError::Corrupt("an event has no version".to_owned()));
    }
    if version > known {
        let found = i64::try_from(version).unwrap_or(i64::MAX);
        return Err(JournalError::FormatUnknown { found, known: i64::from(EVENT_VERSION) });
    }
    for (step, to) in steps.iter().zip(2_u64..).skip(version as usize - 1) {
        value = step(value);
        value["version"] = to.into();
    }
    serde_json::from_value(value).map_err(corrupt)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{STEPS, Step, read_with};
    use crate::error::JournalError;

    /// An event as version 0 of a made-up history had it: the label was called a name then, and a
    /// tree had no label at all before.
    const OLD: &str = include_str!("../../contract/tests/golden/event.json");

    fn stored(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut value: Value = serde_json::from_str(OLD).unwrap();
        change(&mut value);
        serde_json::to_vec(&value).unwrap()
    }

    fn named(value: &mut Value) {
        let data = value["body"]["data"].as_object_mut().unwrap();
        let label = data.remove("label").unwrap();
        data.insert("name".to_owned(), label);
    }

    /// From version 1, in which the label was a name, to 2; and from there to 3, where it got longer.
    const MADE_UP: &[Step] = &[
        |mut value| {
            let data = value["body"]["data"].as_object_mut().unwrap();
            let name = data.remove("name").unwrap();
            data.insert("label".to_owned(), name);
            value
        },
        |mut value| {
            let label = value["body"]["data"]["label"].as_str().unwrap().to_owned();
            value["body"]["data"]["label"] = json!(format!("the {label}"));
            value
        },
    ];

    fn label(steps: &[Step], stored: &[u8]) -> Result<(u32, Value), JournalError> {
        let event = read_with(steps, stored)?;
        let body = serde_json::to_value(&event.body).unwrap();
        Ok((event.version, body["data"]["label"].clone()))
    }

    #[test]
    fn each_version_is_brought_up_from_where_it_is() {
        let first = stored(named);
        assert_eq!(label(MADE_UP, &first).unwrap(), (3, json!("the setup")));
        let second = stored(|value| value["version"] = json!(2));
        assert_eq!(label(MADE_UP, &second).unwrap(), (3, json!("the setup")));
        let third = stored(|value| value["version"] = json!(3));
        assert_eq!(label(MADE_UP, &third).unwrap(), (3, json!("setup")));
        // The control: without the steps the old form is no event, and the bytes stay as they are.
        assert!(matches!(label(STEPS, &first), Err(JournalError::Corrupt(_))));
        assert_eq!(label(STEPS, OLD.as_bytes()).unwrap(), (1, json!("setup")));
    }

    #[test]
    fn a_version_that_comes_after_this_build_is_not_guessed_at() {
        for (version, later) in [(4, true), (0, false)] {
            let stored = stored(|value| value["version"] = json!(version));
            let refused = label(MADE_UP, &stored).unwrap_err();
            assert_eq!(matches!(refused, JournalError::FormatUnknown { .. }), later, "{refused}");
        }
    }
}
