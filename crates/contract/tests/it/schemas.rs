//! The files under `schemas/v1/` are what the types say.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use cofferdam_contract::schema::published;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schemas/v1")
}

#[test]
fn published_files_are_fresh() {
    for it in published() {
        let path = folder().join(format!("{}.json", it.name));
        let file = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            file == it.to_json(),
            "schemas/v1/{}.json is not what the types say: if the change is meant, and is not a \
             new major version, run: cargo xtask generate",
            it.name
        );
    }
}

#[test]
fn there_is_no_file_without_a_contract() {
    let files: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    let names: BTreeSet<_> = published().iter().map(|it| format!("{}.json", it.name)).collect();
    assert_eq!(files, names);
}

/// Strictness is part of the contract: a schema that allows what the parser refuses would mislead.
#[test]
fn published_objects_are_closed() {
    for it in published() {
        let schema = it.schema.as_value();
        let open = schema.get("properties").is_some()
            && schema.get("additionalProperties") != Some(&serde_json::Value::Bool(false));
        assert!(!open, "{} allows unknown fields", it.name);
    }
}
