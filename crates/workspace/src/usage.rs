//! What a session has written so far, while it may be writing on.

use std::collections::HashSet;

use cofferdam_contract::path::PATH_BYTES_MAX;

use crate::beneath::{Nature, Tree, join, names};

/// Most entries that are counted in one look; a session's inode limit is far below.
const ENTRIES_MAX: u64 = 4_000_000;

/// What the writable layer takes on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Bytes that are allocated.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
    /// False if something was too deep, too much or not ours to look into: it is more than this.
    pub is_complete: bool,
}

impl Usage {
    /// Nothing.
    pub const NONE: Self = Self { bytes: 0, inodes: 0, is_complete: true };

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
            is_complete: self.is_complete && other.is_complete,
        }
    }
}

/// Counts what is beneath a tree's top, files with several names once. What vanishes meanwhile is
/// not counted.
pub(crate) fn usage(tree: &Tree) -> Usage {
    let mut usage = Usage::NONE;
    let mut linked = HashSet::new();
    let mut places = vec![Vec::new()];
    while let Some(place) = places.pop() {
        let listed = tree.directory(&place).and_then(|opened| match opened {
            Some(opened) => names(&opened, ENTRIES_MAX.saturating_sub(usage.inodes)),
            None => Ok(Some(Vec::new())),
        });
        let Ok(Some(listed)) = listed else {
            usage.is_complete = false;
            continue;
        };
        for name in listed {
            let path = join(&place, &name);
            let Ok(found) = tree.find(&path) else {
                usage.is_complete = false;
                continue;
            };
            let Some(found) = found else { continue };
            let stat = found.stat();
            let is_directory = found.nature() == Nature::Directory;
            if is_directory || stat.st_nlink < 2 || linked.insert(stat.st_ino) {
                usage.inodes += 1;
                usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
            }
            if is_directory && path.len() <= PATH_BYTES_MAX {
                places.push(path);
            } else if is_directory {
                usage.is_complete = false;
            }
        }
    }
    usage
}
