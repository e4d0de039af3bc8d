//! Protected paths: changing them is possible, and escalates.

use cofferdam_contract::problem::Problem;
use cofferdam_policy::PathRule;

use crate::{FindingCode, GateInput, Looked};

/// Asks the policy about every changed path.
pub fn look(input: &GateInput<'_>) -> Result<Looked, Problem> {
    let files = &input.changeset.files;
    let mut findings = Vec::new();
    for change in files {
        if let PathRule::Protected(pattern) = input.policy.path(&change.path) {
            let message = format!("{} is protected by {pattern}", change.path);
            let finding =
                FindingCode::ProtectedPath.at("protected", Some(&change.path), None, message);
            findings.push(finding);
        }
    }
    Ok(Looked::At(files.len(), findings.into()))
}
