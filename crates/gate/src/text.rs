//! What a change adds, line by line.
//!
//! A line counts as added if the result has it more often than the base. That is not a diff (a
//! moved line is not added), it is linear in size whatever the content, and it can be told without
//! an algorithm that hostile content makes slow.

use std::collections::HashMap;

use cofferdam_contract::change::{FileChange, FileKind, FileVersion};
use cofferdam_contract::problem::Problem;

use crate::ports::{Contents, SCAN_BYTES_MAX};

/// How far git looks for a NUL to call a file binary.
const BINARY_PREFIX_BYTES: usize = 8000;

/// The lines that one file gained.
pub struct Added {
    /// Number in the result, from 1, and content without the line feed.
    pub lines: Vec<(u64, Vec<u8>)>,
    /// Whether the file is not text by git's rule.
    pub binary: bool,
}

/// Whether `bytes` are not text by git's rule: a NUL among the first 8,000 bytes.
pub fn is_binary(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(BINARY_PREFIX_BYTES)].contains(&0)
}

/// Lines added and removed together; binary content counts none.
pub fn lines_changed(change: &FileChange) -> u64 {
    change.lines_added.unwrap_or(0).saturating_add(change.lines_removed.unwrap_or(0))
}

/// Whether this is a regular file that can be looked into.
pub fn is_readable(version: &FileVersion) -> bool {
    matches!(version.kind, FileKind::File | FileKind::Executable)
        && version.size_bytes <= SCAN_BYTES_MAX
}

/// A regular file's content on each side, where there is one that can be looked into.
#[derive(Default)]
pub struct Sides {
    /// In the base.
    pub before: Option<Vec<u8>>,
    /// In the result.
    pub after: Option<Vec<u8>>,
}

/// Reads both sides.
///
/// # Errors
/// What the port says.
pub fn sides(contents: &dyn Contents, change: &FileChange) -> Result<Sides, Problem> {
    let mut sides = Sides::default();
    if change.before.as_ref().is_some_and(is_readable) {
        sides.before = Some(contents.before(change)?);
    }
    if change.after.as_ref().is_some_and(is_readable) {
        sides.after = Some(contents.after(change)?);
    }
    Ok(sides)
}

/// What the change adds to this path; `None` if the result has no regular file there that can be
/// looked into.
///
/// # Errors
/// What the port says.
pub fn added(contents: &dyn Contents, change: &FileChange) -> Result<Option<Added>, Problem> {
    if !change.after.as_ref().is_some_and(is_readable) {
        return Ok(None);
    }
    let Sides { before, after } = sides(contents, change)?;
    let after = after.unwrap_or_default();
    Ok(Some(Added {
        lines: added_lines(before.as_deref().unwrap_or_default(), &after),
        binary: is_binary(&after),
    }))
}

/// The lines that `after` has more often than `before`.
pub fn added_lines(before: &[u8], after: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut known: HashMap<&[u8], u64> = HashMap::new();
    for line in before.split(|b| *b == b'\n') {
        *known.entry(line).or_default() += 1;
    }
    let mut added = Vec::new();
    for (number, line) in (1_u64..).zip(after.split(|b| *b == b'\n')) {
        match known.get_mut(line) {
            Some(count) if *count > 0 => *count -= 1,
            _ if line.is_empty() => {}
            _ => added.push((number, line.to_vec())),
        }
    }
    added
}
