//! Directories that are carried in where mounts can be had: an overlay over each, of its own.

use cofferdam_contract::mount::CarryMount;

use super::Site;
use crate::error::WorkspaceError;
use crate::fill::Filler;
use crate::make_dir;
use crate::usage::{Usage, usage};

/// What `sandbox` mounts, after the workspace.
pub(super) fn mounts(site: &Site<'_>) -> Vec<CarryMount> {
    let place = |at: usize| site.dir.join("carries").join(at.to_string());
    let mount = |(at, carry): (usize, &crate::Carry)| CarryMount {
        path: carry.path.clone(),
        lower: carry.source.clone(),
        upper: place(at).join("upper"),
        work: place(at).join("work"),
    };
    site.carry.iter().enumerate().map(mount).collect()
}

/// Makes the layers, and in the workspace the directories that they are mounted at.
pub(super) fn create(site: &Site<'_>, filler: &Filler<'_>) -> Result<(), WorkspaceError> {
    for carry in mounts(site) {
        make_dir(&carry.upper, 0o755)?;
        make_dir(&carry.work, 0o700)?;
        filler.directory(carry.path.as_bytes())?;
    }
    Ok(())
}

/// What the session has written over them, and `sum`.
pub(super) fn usage_and(site: &Site<'_>, sum: Usage) -> Result<Usage, WorkspaceError> {
    let uppers = mounts(site).into_iter().map(|carry| carry.upper);
    uppers
        .map(|upper| crate::open_dir(&upper).map(|tree| usage(&tree)))
        .try_fold(sum, |sum, next| Ok(sum.plus(next?)))
}
