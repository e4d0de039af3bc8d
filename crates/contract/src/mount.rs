//! How a workspace appears in a session: made by `workspace`, mounted by `sandbox`.
//!
//! Host paths. They never leave the host part: no event, no report and no session sees them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is mounted at the session's workspace path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WorkspaceMount {
    /// A writable layer over read-only ones.
    Overlay {
        /// Read-only layers, the uppermost first.
        lowers: Vec<PathBuf>,
        /// What the session writes.
        upper: PathBuf,
        /// The overlay's own scratch directory, on the same file system as `upper`.
        work: PathBuf,
    },
    /// A directory of the session's own.
    Directory {
        /// The directory.
        path: PathBuf,
    },
}
