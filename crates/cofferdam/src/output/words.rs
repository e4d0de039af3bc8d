//! Names of the record as people read them.

use cofferdam_contract::capability::{Wall, WallStatus};
use serde::Serialize;

/// What a name is in JSON, with spaces.
pub(crate) fn words(name: &impl Serialize) -> String {
    match serde_json::to_value(name) {
        Ok(serde_json::Value::String(name)) => name.replace('_', " "),
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// How many walls stand, and which do not.
pub(crate) fn walls(walls: &[Wall]) -> String {
    let of = |status| walls.iter().filter(move |wall| wall.status == status);
    let mut out = format!("{} of {} walls enforced", of(WallStatus::Enforced).count(), walls.len());
    for status in [WallStatus::Degraded, WallStatus::Absent] {
        let names: Vec<String> = of(status).map(|wall| words(&wall.name)).collect();
        if !names.is_empty() {
            out.push_str(&format!("; {}: {}", words(&status), names.join(", ")));
        }
    }
    out
}
