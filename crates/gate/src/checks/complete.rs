//! Whether the gate saw everything: what the result does not hold, and files too large to look into.

use cofferdam_contract::change::FileKind;
use cofferdam_contract::check::Finding;
use cofferdam_contract::problem::Problem;

use crate::ports::SCAN_BYTES_MAX;
use crate::{FindingCode, GateInput, Looked};

/// Says what could not be seen.
pub fn look(input: &GateInput<'_>) -> Result<Looked, Problem> {
    const NAME: &str = "complete";
    let left_out = input.left_out.iter().map(|it| FindingCode::LeftOut.at(NAME, None, None, it));
    let large = input.changeset.files.iter().filter(|it| {
        it.after.as_ref().is_some_and(|version| {
            version.kind != FileKind::Submodule && version.size_bytes > SCAN_BYTES_MAX
        })
    });
    let large = large.map(|it| {
        let message = format!("{} is over {SCAN_BYTES_MAX} bytes and was not looked into", it.path);
        FindingCode::NotScanned.at(NAME, Some(&it.path), None, message)
    });
    let findings: Vec<Finding> = left_out.chain(large).collect();
    Ok(Looked::At(input.changeset.files.len(), findings.into()))
}
