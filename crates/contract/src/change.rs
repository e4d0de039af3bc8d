//! What changed between two trees, and what a session left behind in its workspace.
//!
//! Content is not in these records, only what it is: bytes stay in a store or behind a descriptor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::ObjectId;
use crate::path::RepoPath;

/// What a tree entry is; git knows no more.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file, mode 100644.
    File,
    /// A regular file with the executable bit, mode 100755.
    Executable,
    /// A symbolic link, mode 120000.
    Symlink,
    /// A submodule, mode 160000.
    Submodule,
}

impl FileKind {
    /// The mode as git writes it.
    pub fn git_mode(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
            Self::Submodule => "160000",
        }
    }

    /// The kind that git's mode stands for; `None` for a directory or anything unknown.
    pub fn from_git_mode(mode: &str) -> Option<Self> {
        match mode {
            "100644" | "100664" => Some(Self::File),
            "100755" => Some(Self::Executable),
            "120000" => Some(Self::Symlink),
            "160000" => Some(Self::Submodule),
            _ => None,
        }
    }
}

/// One side of a changed path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileVersion {
    /// What it is.
    pub kind: FileKind,
    /// Its content in the store.
    pub blob: ObjectId,
    /// Its size; 0 for a submodule.
    pub size_bytes: u64,
}

/// One path that differs between base and result. At least one side is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileChange {
    /// Where.
    pub path: RepoPath,
    /// Before; absent if the path is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<FileVersion>,
    /// After; absent if the path is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<FileVersion>,
    /// Lines added; absent for binary content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines_added: Option<u64>,
    /// Lines removed; absent for binary content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines_removed: Option<u64>,
}

/// Everything that differs between a base and a result, sorted by path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changeset {
    /// The base's tree.
    pub base_tree: ObjectId,
    /// The result's tree.
    pub tree: ObjectId,
    /// The paths.
    pub files: Vec<FileChange>,
}

impl Changeset {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// One path as a session left it: what must be put into the base's tree to get the result's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WorkspaceChange {
    /// The path is now this.
    Put {
        /// Where.
        path: RepoPath,
        /// What it is; never a submodule.
        kind: FileKind,
        /// Its size as it was read.
        size_bytes: u64,
    },
    /// The path is gone, and everything beneath it.
    Remove {
        /// Where.
        path: RepoPath,
    },
}

impl WorkspaceChange {
    /// Where.
    pub fn path(&self) -> &RepoPath {
        match self {
            Self::Put { path, .. } | Self::Remove { path } => path,
        }
    }
}

/// One change to a tree, with its content: what is written into a store or into a workspace.
pub enum TreeChange<'a> {
    /// The path becomes this.
    Put {
        /// Where.
        path: RepoPath,
        /// What it is; never a submodule.
        kind: FileKind,
        /// Exactly how many bytes `content` has.
        size_bytes: u64,
        /// The bytes; of a symbolic link, its target.
        content: Box<dyn std::io::Read + Send + 'a>,
    },
    /// The path goes, and everything beneath it.
    Remove {
        /// Where.
        path: RepoPath,
    },
}
