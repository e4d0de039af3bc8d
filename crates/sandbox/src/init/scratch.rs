//! Which scratch file systems are full. The kernel tells nobody when one fills up, so they are
//! looked at when a call ends.
//!
//! Must never know what a full one means.

use super::paths::SCRATCH;
use crate::wire::Full;

/// The full ones; three system calls of a microsecond each.
pub(super) fn full() -> Vec<Full> {
    let mut full = Vec::new();
    for path in SCRATCH {
        let Ok(room) = rustix::fs::statfs(*path) else { continue };
        for (left, files) in [(room.f_bavail, false), (room.f_ffree, true)] {
            if left == 0 {
                full.push(Full { path: (*path).to_owned(), files });
            }
        }
    }
    full
}
