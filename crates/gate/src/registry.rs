//! Every check, in the order in which they run and are shown. Adding one is a file and a line.

use cofferdam_contract::check::CheckResult;
use cofferdam_contract::problem::Problem;

use crate::checks;
use crate::{GateInput, Looked};

/// How a check is run.
pub enum Run {
    /// Looks at the changeset and finds things. An error makes it `errored`.
    Findings(fn(&GateInput<'_>) -> Result<Looked, Problem>),
    /// Gives any number of results, each as it is ready.
    Results(fn(&GateInput<'_>, &mut dyn FnMut(CheckResult))),
}

/// One check.
pub struct Check {
    /// Its name in reports.
    pub name: &'static str,
    /// What it looks for, for the reference page.
    pub about: &'static str,
    /// How it is run.
    pub run: Run,
}

const fn looks(
    name: &'static str,
    about: &'static str,
    look: fn(&GateInput<'_>) -> Result<Looked, Problem>,
) -> Check {
    Check { name, about, run: Run::Findings(look) }
}

/// The registry.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    looks("scope", "paths outside what the policy lets change", checks::scope::look),
    looks("protected", "paths that a person with more authority must look at", checks::protected::look),
    looks("complete", "what the result does not hold, files too large to look into, refusals that were not recorded", checks::complete::look),
    looks("size", "files, lines and bytes over the policy's bounds", checks::size::look),
    looks("kinds", "links, executable bits, submodules, binaries, clashing and dangerous names", checks::kinds::look),
    looks("unicode", "text and names that do not read as they are", checks::unicode::look),
    looks("secrets", "credentials in added lines", checks::secrets::look),
    looks("dependencies", "packages added, where they come from, lock files", checks::dependencies::look),
    looks("host", "files that run or steer something on the machine of whoever takes the change", checks::host::look),
    Check { name: "commands", about: "formatter, linter, tests and scanners, on base and on result", run: Run::Results(checks::commands::run) },
];
