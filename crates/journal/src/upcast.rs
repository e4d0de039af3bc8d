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
