//! `tidy.toml`: what is excused from a rule, and why.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::Offence;

/// One excuse.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Excuse {
    /// From which rule.
    rule: String,
    /// In which file.
    path: PathBuf,
    /// What by name; everything in the file if absent.
    #[serde(default)]
    name: Option<String>,
    /// Why.
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Excuses {
    #[serde(default)]
    excuse: Vec<Excuse>,
}

/// Reads `tidy.toml`.
pub(crate) fn read(root: &Path) -> anyhow::Result<Vec<Excuse>> {
    let text = fs::read_to_string(root.join("tidy.toml")).context("reading tidy.toml")?;
    parse(&text).context("tidy.toml")
}

fn parse(text: &str) -> anyhow::Result<Vec<Excuse>> {
    let excuses = toml::from_str::<Excuses>(text)?.excuse;
    if let Some(excuse) = excuses.iter().find(|excuse| excuse.reason.trim().is_empty()) {
        bail!("{} is excused without a reason", excuse.path.display());
    }
    Ok(excuses)
}

impl Excuse {
    /// Whether the excuse is for this offence.
    pub(crate) fn covers(&self, offence: &Offence) -> bool {
        self.rule == offence.rule
            && self.path == offence.path
            && self.name.as_ref().is_none_or(|name| *name == offence.name)
    }
}

/// Excuses that nothing needs any more.
pub(crate) fn unneeded(excuses: &[Excuse], found: &[Offence]) -> Vec<Offence> {
    let unneeded = excuses.iter().filter(|excuse| !found.iter().any(|it| excuse.covers(it)));
    let offence = |excuse: &Excuse| Offence {
        path: PathBuf::from("tidy.toml"),
        line: 1,
        rule: "excuse",
        name: String::new(),
        fault: format!("{} needs no excuse from {}", excuse.path.display(), excuse.rule),
        remedy: "remove the excuse",
    };
    unneeded.map(offence).collect()
}

#[cfg(test)]
mod tests {
    use super::super::examine;
    use super::super::fixture::{faults, project};
    use super::*;

    fn offending() -> super::super::Project {
        let crates = ["low", "high", "kit", "engine"];
        let manifests: Vec<_> = crates.iter().map(|it| format!("crates/{it}/Cargo.toml")).collect();
        let mut files: Vec<(&str, &str)> = manifests.iter().map(|it| (it.as_str(), "")).collect();
        files.push(("crates/low/src/lib.rs", "//! Doc.\nstruct Info;\nstruct JobId;\n"));
        project(&files)
    }

    fn excuse(lines: &str) -> Vec<Excuse> {
        let head = "[[excuse]]\nrule = \"glossary\"\npath = \"crates/low/src/lib.rs\"\n";
        parse(&format!("{head}{lines}\n")).unwrap()
    }

    #[test]
    fn without_an_excuse_both_offend() {
        assert_eq!(examine(&offending(), &[]).len(), 2);
    }

    #[test]
    fn an_excuse_covers_one_name_or_a_whole_file() {
        let named = excuse("name = \"Info\"\nreason = \"theirs\"");
        let left = examine(&offending(), &named);
        let fault = "crates/low/src/lib.rs:3: JobId is called by the word \"job\"";
        assert_eq!(faults(&left), [fault]);
        assert_eq!(examine(&offending(), &excuse("reason = \"theirs\"")), []);
    }

    #[test]
    fn an_excuse_that_nothing_needs_offends() {
        let other = excuse("name = \"Gone\"\nreason = \"theirs\"");
        assert_eq!(examine(&offending(), &other).len(), 3);
    }

    #[test]
    fn an_excuse_without_a_reason_is_refused() {
        let text = "[[excuse]]\nrule = \"a\"\npath = \"b\"\nreason = \" \"\n";
        assert!(parse(text).is_err());
    }
}
