//! Whether the gate saw everything: what the result does not hold, files too large to look into,
//! and refusals that no record tells of.

use cofferdam_contract::change::FileKind;
use cofferdam_contract::check::Finding;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::refusals::Refusals;
use cofferdam_contract::text::counted;

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
    let missing = incomplete(input.refusals)
        .map(|message| FindingCode::RecordIncomplete.at(NAME, None, None, message));
    let findings: Vec<Finding> = left_out.chain(large).chain(missing).collect();
    Ok(Looked::At(input.changeset.files.len(), findings.into()))
}

/// What is missing from the record of refusals, if anything may be.
fn incomplete(refusals: &Refusals) -> Option<String> {
    let (told, lost, cut_short) = (refusals.denials(), refusals.lost(), refusals.cut_short());
    refusals.is_incomplete().then(|| match (lost, cut_short) {
        (0, 0) => "records of refusals may have been lost".to_owned(),
        (0, _) => {
            format!("{} ended with their holder and told no more", counted(cut_short, "session"))
        }
        (_, _) => format!("{} missing from the record, which has {told}", counted(lost, "refusal")),
    })
}
