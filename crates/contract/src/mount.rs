//! How a workspace appears in a session: made by `workspace`, mounted by `sandbox`.
//!
//! Host paths. They never leave the host part: no event, no report and no session sees them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::path::RepoPath;

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
        /// Directories that are carried in, none beneath another: each is an overlay of its own,
        /// mounted after the workspace at a directory that is there already.
        #[serde(default)]
        carries: Vec<CarryMount>,
    },
    /// A directory of the session's own.
    Directory {
        /// The directory.
        path: PathBuf,
        /// As above.
        #[serde(default)]
        carries: Vec<CarryMount>,
    },
}

impl WorkspaceMount {
    /// A directory of the session's own, with nothing carried in.
    #[must_use]
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::Directory { path: path.into(), carries: Vec::new() }
    }
}

/// What a language's tools have downloaded on the host, for builds without a network.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cache {
    /// Crates and the index of their registry: `registry` in cargo's home.
    Cargo,
    /// Packages that pip fetched or built: `~/.cache/pip`.
    Pip,
    /// Packages by content: `~/.npm/_cacache`.
    Npm,
}

/// A directory that is carried into a workspace copy-on-write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CarryMount {
    /// Where it appears, relative to the workspace.
    pub path: RepoPath,
    /// What is carried; never written.
    pub lower: PathBuf,
    /// What the session writes there.
    pub upper: PathBuf,
    /// The overlay's own scratch directory, on the same file system as `upper`.
    pub work: PathBuf,
}
