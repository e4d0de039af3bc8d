//! Builds the integration tests of crates and says where they are.
//!
//! For whatever runs them in another way than cargo does. Must never run one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::shell;

/// The binaries of `tests/it` by the directory names of their crates, of the project at `root`.
///
/// # Errors
/// They cannot be built.
pub(crate) fn of_tests(
    root: &Path,
    crates: &[&str],
    more: &[&str],
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut args = vec!["test", "--no-run", "--locked", "--quiet", "--test", "it"];
    let packages: Vec<_> = crates
        .iter()
        .map(|name| match *name {
            "cofferdam" => "--package=cofferdam".to_owned(),
            name => format!("--package=cofferdam-{name}"),
        })
        .collect();
    args.extend(packages.iter().map(String::as_str));
    args.push("--message-format=json-render-diagnostics");
    args.extend(more);
    let built = shell::output(root, env!("CARGO"), &args)?;
    let mut binaries = BTreeMap::new();
    for line in built.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("what cargo built")?;
        let manifest = message["manifest_path"].as_str().map(Path::new).and_then(Path::parent);
        let name = manifest.and_then(Path::file_name).map(|name| name.to_string_lossy());
        if let (Some(name), "it", Some(binary)) = (
            name,
            message["target"]["name"].as_str().unwrap_or_default(),
            message["executable"].as_str(),
        ) {
            binaries.insert(name.into_owned(), PathBuf::from(binary));
        }
    }
    Ok(binaries)
}
