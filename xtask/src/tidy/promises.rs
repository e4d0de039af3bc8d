//! Whether the schemas still keep what their published version promised.
//!
//! `schemas/released/v1` holds each schema as it was published. Within a major version a field may
//! be added if it need not be there, and a value may be added to a list; whatever was valid stays
//! valid. Anything else needs a new major version. Must never know what a schema is about.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_contract::schema::published;
use serde_json::Value;

use super::Offence;

/// Where the published ones are.
const RELEASED: &str = "schemas/released/v1";
const REMEDY: &str =
    "make a new field optional and leave old ones as they are, or make a new major version";

/// One offence for each promise that is broken.
pub(crate) fn kept(root: &Path) -> Vec<Offence> {
    let mut offences = vec![];
    for now in published() {
        let path = PathBuf::from(RELEASED).join(format!("{}.json", now.name));
        let released = fs::read_to_string(root.join(&path)).unwrap_or_default();
        let faults = match serde_json::from_str(&released) {
            Ok(released) => broken(&released, now.schema.as_value()),
            Err(error) => vec![format!("what was published cannot be read: {error}")],
        };
        offences.extend(faults.into_iter().map(|fault| Offence {
            path: path.clone(),
            line: 1,
            rule: "published",
            name: now.name.to_owned(),
            fault,
            remedy: REMEDY,
        }));
    }
    offences
}

/// What was valid by `released` and is not by `now`.
pub(crate) fn broken(released: &Value, now: &Value) -> Vec<String> {
    let mut compare = Compare { released, now, seen: BTreeSet::new(), faults: vec![] };
    compare.at("", released, now);
    compare.faults
}

struct Compare<'a> {
    released: &'a Value,
    now: &'a Value,
    /// Definitions that were compared, since they may hold themselves.
    seen: BTreeSet<(String, String)>,
    faults: Vec<String>,
}

impl<'a> Compare<'a> {
    fn at(&mut self, place: &str, before: &'a Value, after: &'a Value) {
        let (old, new) = (reference(before), reference(after));
        if let (Some(old), Some(new)) = (old, new)
            && !self.seen.insert((old.to_owned(), new.to_owned()))
        {
            return;
        }
        let before = old.map_or(before, |to| follow(self.released, to));
        let after = new.map_or(after, |to| follow(self.now, to));
        self.values(place, before, after);
        self.properties(place, before, after);
        if let (Some(before), Some(after)) = (before.get("items"), after.get("items")) {
            self.at(&format!("{place}[]"), before, after);
        }
        self.variants(place, before, after);
    }

    /// Types, listed values and constants may get more and not fewer.
    fn values(&mut self, place: &str, before: &Value, after: &Value) {
        for list in ["type", "enum", "const"] {
            let (old, new) = (listed(before.get(list)), listed(after.get(list)));
            let lost = old.iter().filter(|value| !new.contains(value));
            let lost: Vec<_> = lost.map(ToString::to_string).collect();
            if !(lost.is_empty()
                || list == "type" && new.is_empty() && after.get("anyOf").is_some())
            {
                self.faults.push(format!("{place}: {list} has lost {}", lost.join(", ")));
            }
        }
    }

    fn properties(&mut self, place: &str, before: &'a Value, after: &'a Value) {
        let names = |schema: &Value| listed(schema.get("required")).into_iter().cloned().collect();
        let (old, new): (Vec<Value>, Vec<Value>) = (names(before), names(after));
        for name in new.iter().filter(|name| !old.contains(name)) {
            self.faults.push(format!("{place}: {name} must be there now"));
        }
        for (name, before) in
            before.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            match after.get("properties").and_then(|it| it.get(name)) {
                Some(after) => self.at(&format!("{place}.{name}"), before, after),
                None => self.faults.push(format!("{place}.{name} is gone")),
            }
        }
    }

    /// Each alternative is still one of them.
    fn variants(&mut self, place: &str, before: &'a Value, after: &'a Value) {
        for choice in ["oneOf", "anyOf"] {
            let new = listed(after.get(choice));
            for old in listed(before.get(choice)) {
                let name = variant(old);
                match new.iter().find(|it| variant(it) == name) {
                    Some(new) => self.at(&format!("{place}({name})"), old, new),
                    None => self.faults.push(format!("{place}: {name} is no choice any more")),
                }
            }
        }
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref").and_then(Value::as_str)
}

fn follow<'a>(root: &'a Value, to: &str) -> &'a Value {
    root.pointer(to.trim_start_matches('#')).unwrap_or(&Value::Null)
}

/// One value or a list of them.
fn listed(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(one) => vec![one],
        None => vec![],
    }
}

/// What tells an alternative from the others: its constant, its tag, its only field, or its kind.
fn variant(schema: &Value) -> String {
    let tag = schema.pointer("/properties/type/const");
    let told = schema.get("const").or(tag).or(schema.get("$ref"));
    let field = || schema.pointer("/required/0");
    told.or_else(field)
        .or(schema.get("enum"))
        .or(schema.get("type"))
        .unwrap_or(&Value::Null)
        .to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn released() -> Value {
        json!({
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"type": "string"}, "b": {"$ref": "#/$defs/B"}},
            "$defs": {"B": {"oneOf": [
                {"const": "x"},
                {"type": "object", "required": ["y"], "properties": {"y": {"enum": ["1", "2"]}}},
            ]}},
        })
    }

    fn faults(pointer: &str, value: Value) -> Vec<String> {
        let mut now = released();
        let (place, name) = pointer.rsplit_once('/').unwrap();
        now.pointer_mut(place).unwrap()[name] = value;
        broken(&released(), &now)
    }

    #[test]
    fn what_was_valid_stays_valid() {
        let optional = json!({"a": {"type": "string"}, "b": {"$ref": "#/$defs/B"}, "c": {}});
        assert_eq!(faults("/properties", optional), Vec::<String>::new());
        assert!(faults("/required", json!([])).is_empty());
        assert!(faults("/properties/a/type", json!(["string", "null"])).is_empty());
        assert!(faults("/$defs/B/oneOf/1/properties/y/enum", json!(["1", "2", "3"])).is_empty());
    }

    #[test]
    fn what_would_break_a_reader_or_a_writer_is_seen() {
        for (pointer, value, fault) in [
            ("/required", json!(["a", "b"]), ": \"b\" must be there now"),
            ("/properties", json!({"b": {"$ref": "#/$defs/B"}}), ".a is gone"),
            ("/properties/a/type", json!("integer"), ".a: type has lost \"string\""),
            ("/$defs/B/oneOf/0/const", json!("z"), ".b: \"x\" is no choice any more"),
            (
                "/$defs/B/oneOf/1/properties/y/enum",
                json!(["1"]),
                ".b(\"y\").y: enum has lost \"2\"",
            ),
        ] {
            assert_eq!(faults(pointer, value), [fault], "{pointer}");
        }
    }

    #[test]
    fn a_schema_that_was_never_published_and_is_not_there_is_an_offence() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(kept(root.path()).len(), published().len());
    }
}
