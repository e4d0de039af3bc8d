//! The gate's parsers of foreign files.

use cofferdam_gate::formats::{cargo, npm, python, sarif as report, secrets};
use cofferdam_gate::text::added_lines;

/// One of them, chosen by the first byte.
pub(crate) fn any(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    match choice % 9 {
        0 => drop(cargo::manifest(rest)),
        1 => drop(cargo::lock(rest)),
        2 => drop(npm::manifest(rest)),
        3 => drop(npm::lock(rest)),
        4 => drop(python::requirements(rest)),
        5 => drop(python::pyproject(rest)),
        6 => drop(python::lock(rest)),
        7 => {
            for line in rest.split(|b| *b == b'\n') {
                drop(secrets::find(line, line.len() % 2 == 0));
            }
        }
        _ => {
            let (before, after) = rest.split_at(rest.len() / 2);
            let lines = after.split(|b| *b == b'\n').count();
            assert!(added_lines(before, after).len() <= lines);
        }
    }
}

/// The report of a scanner that ran in a session.
pub(crate) fn sarif(bytes: &[u8]) {
    drop(report::parse(bytes, "/workspace"));
}
