//! Files, lines and bytes over the policy's bounds.

use cofferdam_contract::problem::Problem;

use crate::text::lines_changed;
use crate::{FindingCode, GateInput, Looked};

/// Compares with the policy's bounds.
pub fn look(input: &GateInput<'_>) -> Result<Looked, Problem> {
    const NAME: &str = "size";
    let bounds = &input.policy.tables().change;
    let files = &input.changeset.files;
    let mut findings = Vec::new();
    let count = files.len() as u64;
    if count > bounds.files_max {
        let message = format!("{count} paths differ, at most {} may", bounds.files_max);
        findings.push(FindingCode::TooManyFiles.at(NAME, None, None, message));
    }
    let lines = files.iter().map(lines_changed).fold(0, u64::saturating_add);
    if lines > bounds.lines_max {
        let message = format!("{lines} lines differ, at most {} may", bounds.lines_max);
        findings.push(FindingCode::TooManyLines.at(NAME, None, None, message));
    }
    for change in files {
        let bytes = change.after.as_ref().map_or(0, |it| it.size_bytes);
        if bytes > bounds.file_bytes_max {
            let message = format!(
                "{} has {bytes} bytes, at most {} may be",
                change.path, bounds.file_bytes_max
            );
            findings.push(FindingCode::FileTooLarge.at(NAME, Some(&change.path), None, message));
        }
    }
    Ok(Looked::At(files.len(), findings.into()))
}
