//! Paths outside what the policy lets change.

use cofferdam_contract::check::Finding;
use cofferdam_contract::problem::Problem;
use cofferdam_policy::PathRule;

use crate::{FindingCode, GateInput, Looked};

/// Asks the policy about every changed path.
pub fn look(input: &GateInput<'_>) -> Result<Looked, Problem> {
    let files = &input.changeset.files;
    let outside = files.iter().filter(|it| input.policy.path(&it.path) == PathRule::Outside);
    let findings: Vec<Finding> = outside
        .map(|it| {
            let message = format!("{} is outside the paths that may change", it.path);
            FindingCode::OutsideAllowedPaths.at("scope", Some(&it.path), None, message)
        })
        .collect();
    Ok(Looked::At(files.len(), findings.into()))
}
