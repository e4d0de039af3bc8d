//! Disposable copy-on-write views of a prepared base, and what a session changed in one.
//!
//! What a session leaves behind is hostile: everything is opened beneath a directory descriptor,
//! never through a link, and never before it is known to be a regular file. Must never know git's
//! objects (that is `repository`), how a view is mounted (that is `sandbox`), or run anything.

mod error;

pub use error::WorkspaceError;

use std::io::Read;
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::change::{FileKind, TreeChange, WorkspaceChange};
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;

/// A directory that git ignores and a build needs, carried in copy-on-write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carry {
    /// The directory on the host; never written.
    pub source: PathBuf,
    /// Where it appears in the workspace.
    pub path: RepoPath,
}

/// How much a scan may find. Reaching `changes_max` or `entries_max` is an error, since half a
/// result is no result; a file over a byte bound is left out and said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanBounds {
    /// Changes and left-out paths together.
    pub changes_max: u64,
    /// Directory entries that are looked at.
    pub entries_max: u64,
    /// Bytes of one file.
    pub file_bytes_max: u64,
    /// Bytes of all changed files together.
    pub bytes_max: u64,
    /// Directories above a path.
    pub depth_max: u32,
}

/// What a session left behind, in the order of paths, a removal before a put at the same path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// What must be put into the base's tree, in this order, to get the result's.
    pub changes: Vec<WorkspaceChange>,
    /// What is not part of it though it is there. Such a path stays as it is in the base.
    pub left_out: Vec<LeftOut>,
}

/// A path that a scan left out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LeftOut {
    /// Where; its nearest directory, if the path itself is too long to be one.
    pub path: RepoPath,
    /// Why.
    pub reason: LeftOutReason,
}

/// Why a path is left out. `Display` gives the words for people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum LeftOutReason {
    /// A named pipe.
    #[error("a named pipe")]
    Fifo,
}

/// What the writable layer takes on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes that are allocated.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

/// The view of a base that one session has.
pub struct Workspace {}

impl Workspace {
    /// Makes the view under `dir`, a directory of the session's own that may be there already.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub fn create(
        dir: &Path,
        base_root: &Path,
        carry: &[Carry],
        kind: WorkspaceKind,
    ) -> Result<Self, WorkspaceError> {
        let _ = (dir, base_root, carry, kind);
        Err(WorkspaceError::Unfinished)
    }

    /// Finds the view that [`Workspace::create`] made with the same arguments.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub fn open(
        dir: &Path,
        base_root: &Path,
        carry: &[Carry],
        kind: WorkspaceKind,
    ) -> Result<Self, WorkspaceError> {
        let _ = (dir, base_root, carry, kind);
        Err(WorkspaceError::Unfinished)
    }

    /// How it is made.
    pub fn kind(&self) -> WorkspaceKind {
        WorkspaceKind::Overlay
    }

    /// What `sandbox` mounts.
    pub fn mount(&self) -> WorkspaceMount {
        WorkspaceMount::Directory { path: PathBuf::new() }
    }

    /// Puts changes over the base, before the session starts.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub fn fill(
        &self,
        changes: &mut dyn Iterator<Item = Result<TreeChange<'_>, Problem>>,
    ) -> Result<(), WorkspaceError> {
        let _ = changes;
        Err(WorkspaceError::Unfinished)
    }

    /// What differs from the base. The session is frozen or over.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub fn scan(&self, bounds: &ScanBounds) -> Result<Scan, WorkspaceError> {
        let _ = bounds;
        Err(WorkspaceError::Unfinished)
    }

    /// Opens one put of a scan: its kind, its size in bytes and its content.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub fn read(
        &self,
        path: &RepoPath,
    ) -> Result<(FileKind, u64, Box<dyn Read + Send>), WorkspaceError> {
        let _ = path;
        Err(WorkspaceError::Unfinished)
    }

    /// What the session has written so far; for the disk limit.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub fn usage(&self) -> Result<Usage, WorkspaceError> {
        Err(WorkspaceError::Unfinished)
    }

    /// Deletes the session's directory with everything in it.
    ///
    /// # Errors
    /// See [`WorkspaceError`].
    pub fn remove(self) -> Result<(), WorkspaceError> {
        Err(WorkspaceError::Unfinished)
    }
}

/// Deletes `dir` with everything in it, whatever a session left there; for a directory that no
/// [`Workspace`] can be opened on any more.
///
/// # Errors
/// See [`WorkspaceError`].
pub fn remove_dir(dir: &Path) -> Result<(), WorkspaceError> {
    let _ = dir;
    Err(WorkspaceError::Unfinished)
}
