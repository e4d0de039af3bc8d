//! `cargo xtask tidy`: the style as a test.
//!
//! A rule is a function from the project to offences, in a file of its own, and one line in
//! [`RULES`]. What is excused, and why, is in `tidy.toml`; an excuse that nothing needs any more is
//! an offence itself. Must never change a file.

mod arrows;
mod code;
mod dependencies;
mod excuses;
mod fresh;
mod layers;
mod length;
mod names;
mod project;
mod promises;
mod words;

#[cfg(test)]
mod fixture;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::Outcome;
use project::Project;

/// Something that a rule does not allow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Offence {
    /// In which file, relative to the project.
    pub(crate) path: PathBuf,
    /// On which line, from 1.
    pub(crate) line: usize,
    /// Against which rule.
    pub(crate) rule: &'static str,
    /// The name of what offends, by which it can be excused.
    pub(crate) name: String,
    /// What is wrong.
    pub(crate) fault: String,
    /// What to do about it.
    pub(crate) remedy: &'static str,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, fault, remedy, .. } = self;
        write!(f, "{}:{line}: {rule}: {fault}; {remedy}", path.display())
    }
}

type Rule = fn(&Project) -> Vec<Offence>;

const RULES: &[Rule] = &[
    arrows::manifests,
    arrows::sources,
    arrows::stages,
    code::module_docs,
    code::no_unsafe,
    code::no_ignored_tests,
    code::no_sleeping_tests,
    length::functions,
    length::files,
    length::parameters,
    names::glossary,
    words::unfinished,
    words::machine_paths,
];

/// Applies every rule and prints what offends.
pub(crate) fn main(root: &Path, _args: &[String]) -> Outcome {
    let project = Project::read(root)?;
    let excuses = excuses::read(root)?;
    let mut offences = examine(&project, &excuses);
    offences.extend(fresh::generated(root));
    offences.extend(dependencies::linked(root));
    offences.extend(promises::kept(root));
    for offence in &offences {
        println!("{offence}");
    }
    println!("tidy: {} files, {} offences", project.files.len(), offences.len());
    Ok(offences.is_empty())
}

fn examine(project: &Project, excuses: &[excuses::Excuse]) -> Vec<Offence> {
    let found: Vec<Offence> = RULES.iter().flat_map(|rule| rule(project)).collect();
    let mut offences: Vec<Offence> = found
        .iter()
        .filter(|offence| !excuses.iter().any(|it| it.covers(offence)))
        .cloned()
        .collect();
    offences.extend(excuses::unneeded(excuses, &found));
    offences.sort();
    offences
}
