//! Small projects for the rules' own tests.

use std::path::PathBuf;

use super::Offence;
use super::layers::Layers;
use super::project::{File, Project};

const LAYERS: &str = r#"
order = ["low", "high", "flow"]
dev = ["kit"]
[crate]
low = { layer = "low", uses = [] }
high = { layer = "high", uses = ["low"] }
kit = { layer = "high", uses = ["low"] }
engine = { layer = "flow", uses = ["low", "high"] }
"#;

/// A project of these files.
pub(crate) fn project(files: &[(&str, &str)]) -> Project {
    let files = files.iter().map(|(path, text)| File::parse(path, (*text).to_owned()).unwrap());
    Project {
        layers: Layers::parse(LAYERS).unwrap(),
        files: files.collect(),
        root: PathBuf::from("/where/it/lies"),
    }
}

/// A project of one file of the crate `low`.
pub(crate) fn source(text: &str) -> Project {
    project(&[("crates/low/src/lib.rs", text)])
}

/// Each offence as `path:line: fault`.
pub(crate) fn faults(offences: &[Offence]) -> Vec<String> {
    let shown = |it: &Offence| format!("{}:{}: {}", it.path.display(), it.line, it.fault);
    offences.iter().map(shown).collect()
}
