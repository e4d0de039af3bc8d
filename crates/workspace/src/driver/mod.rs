//! How a view is made: one file per kind, and this list of them.

mod btrfs;
mod carries;
mod copy;
mod overlay;

use std::path::{Path, PathBuf};

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::mount::WorkspaceMount;

use crate::Carry;
use crate::beneath::Tree;
use crate::changed::Changed;
use crate::error::WorkspaceError;
use crate::layers::Layers;
use crate::usage::Usage;

/// Where a view is and what it is of.
pub(crate) struct Site<'a> {
    /// The session's directory.
    pub(crate) dir: &'a Path,
    /// The base's layers, the uppermost first; an empty directory for a session without one.
    pub(crate) base_layers: &'a [PathBuf],
    /// The same, opened.
    pub(crate) base: &'a Layers,
    pub(crate) carry: &'a [Carry],
}

/// One way to make a view.
pub(crate) trait Driver: Send + Sync {
    /// Makes what the view needs, in a directory that is there.
    fn create(&self, site: &Site<'_>) -> Result<(), WorkspaceError>;

    /// The name in the session's directory of what the session writes.
    fn layer(&self) -> &'static str;

    /// Whether the layer is all there is, rather than lying over the base.
    fn hides_base(&self) -> bool;

    /// What `sandbox` mounts.
    fn mount(&self, site: &Site<'_>) -> WorkspaceMount;

    /// What the session has written.
    fn usage(&self, site: &Site<'_>, layer: &Tree) -> Result<Usage, WorkspaceError>;

    /// What was written since it was made, at most `max` files and directories; none where only
    /// looking at everything tells. The session is frozen.
    fn changed(&self, _site: &Site<'_>, _max: u64) -> Result<Option<Changed>, WorkspaceError> {
        Ok(None)
    }

    /// Has the file system refuse what the session writes beyond this; whether it will.
    fn bound(&self, _site: &Site<'_>, _bytes_max: u64) -> bool {
        false
    }
}

pub(crate) use copy::Copying;

/// The driver of a kind. A session without a base is a copy of nothing.
pub(crate) fn of(kind: WorkspaceKind) -> &'static dyn Driver {
    match kind {
        WorkspaceKind::Overlay => &overlay::Overlay,
        WorkspaceKind::Btrfs => &btrfs::Btrfs,
        WorkspaceKind::Copy | WorkspaceKind::Empty => &copy::Copy,
    }
}
