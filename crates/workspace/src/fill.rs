//! Putting files into a workspace before its session starts.
//!
//! Over an overlay's base a removal is a whiteout; in a copy it is a removal. No mark of an opaque
//! directory is ever written: a directory that takes the place of a removed one gets a whiteout
//! for each name that the base has there, which needs no extended attributes.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use cofferdam_contract::change::{FileKind, TreeChange};
use cofferdam_contract::path::{PATH_BYTES_MAX, RepoPath};
use rustix::fs::{FileType, Mode, OFlags, fchmod, mkdirat, mknodat, openat, symlinkat};

use crate::beneath::{Nature, Tree, ancestors, join, split, unlink};
use crate::error::WorkspaceError;
use crate::git_name::is_git_name;
use crate::layers::Layers;
use crate::remove::remove_entry;

/// Where changes are put.
pub(crate) struct Filler<'a> {
    /// What a session will write over.
    pub(crate) layer: &'a Tree,
    /// What lies beneath the layer; absent for a copy.
    pub(crate) lower: Option<&'a Layers>,
}

impl Filler<'_> {
    pub(crate) fn apply(&self, change: TreeChange<'_>) -> Result<(), WorkspaceError> {
        let path = match &change {
            TreeChange::Put { path, .. } | TreeChange::Remove { path } => path,
        };
        if path.components().any(is_git_name) {
            return Err(refused(path, "a name that git keeps for itself"));
        }
        match change {
            TreeChange::Put { path, kind, size_bytes, mut content } => {
                self.put(&path, kind, size_bytes, &mut content)
            }
            TreeChange::Remove { path } => self.remove(path.as_bytes()),
        }
    }

    fn put(
        &self,
        path: &RepoPath,
        kind: FileKind,
        size_bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), WorkspaceError> {
        let (parent, name) = split(path.as_bytes());
        let parent = self.directory(parent)?;
        let io = |errno| WorkspaceError::io("write", path.as_bytes())(errno);
        remove_entry(&parent, name).map_err(io)?;
        let mode = match kind {
            FileKind::Submodule => return Err(refused(path, "a submodule has no content")),
            FileKind::Symlink => {
                let target = link_target(path, size_bytes, content)?;
                return symlinkat(target, &parent, name).map_err(io);
            }
            FileKind::File => Mode::from_raw_mode(0o644),
            FileKind::Executable => Mode::from_raw_mode(0o755),
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&parent, name, flags, mode).map_err(io)?;
        fchmod(&file, mode).map_err(io)?;
        let copied = std::io::copy(&mut content.take(size_bytes), &mut File::from(file))
            .map_err(WorkspaceError::std_io("write", path.as_bytes()))?;
        if copied != size_bytes {
            return Err(refused(path, "its content is shorter than was said"));
        }
        Ok(())
    }

    fn remove(&self, path: &[u8]) -> Result<(), WorkspaceError> {
        let io = |errno| WorkspaceError::io("remove", path)(errno);
        for above in ancestors(path) {
            match self.layer.find(above).map_err(io)? {
                Some(found) if found.nature() != Nature::Directory => return Ok(()),
                _ => {}
            }
        }
        let (parent, name) = split(path);
        let in_lower = match self.lower {
            Some(lower) => lower.find(path).map_err(io)?.is_some(),
            None => false,
        };
        if in_lower {
            let parent = self.directory(parent)?;
            remove_entry(&parent, name).map_err(io)?;
            return whiteout(&parent, name).map_err(io);
        }
        match self.layer.directory(parent).map_err(io)? {
            Some(parent) => remove_entry(&parent, name).map_err(io),
            None => Ok(()),
        }
    }

    /// The directory at `path` of the layer, opened; made, with what is above it, where it is not.
    pub(crate) fn directory(&self, path: &[u8]) -> Result<OwnedFd, WorkspaceError> {
        let whole = std::iter::once(path).filter(|path| !path.is_empty());
        for step in ancestors(path).chain(whole) {
            self.make_directory(step)?;
        }
        let io = WorkspaceError::io("look into", path);
        let missing = rustix::io::Errno::NOTDIR;
        self.layer.directory(path).and_then(|found| found.ok_or(missing)).map_err(io)
    }

    fn make_directory(&self, path: &[u8]) -> Result<(), WorkspaceError> {
        let io = |errno| WorkspaceError::io("make the directory", path)(errno);
        let (parent, name) = split(path);
        let before = self.layer.find(path).map_err(io)?.map(|found| found.nature());
        if before == Some(Nature::Directory) {
            return Ok(());
        }
        let missing = rustix::io::Errno::NOTDIR;
        let parent = self.layer.directory(parent).and_then(|it| it.ok_or(missing)).map_err(io)?;
        unlink(&parent, name).map_err(io)?;
        let mode = Mode::from_raw_mode(0o755);
        mkdirat(&parent, name, mode).map_err(io)?;
        let made = self.layer.directory(path).and_then(|it| it.ok_or(missing)).map_err(io)?;
        fchmod(&made, mode).map_err(io)?;
        // Where something of the layer was, the base's directory must not shine through.
        match (before, self.lower) {
            (Some(_), Some(lower)) => self.hide(lower, path, &made),
            _ => Ok(()),
        }
    }

    fn hide(&self, lower: &Layers, path: &[u8], made: &OwnedFd) -> Result<(), WorkspaceError> {
        let io = |errno| WorkspaceError::io("hide", path)(errno);
        for name in lower.names(path, u64::MAX).map_err(io)?.unwrap_or_default() {
            whiteout(made, &name)
                .map_err(|errno| WorkspaceError::io("hide", &join(path, &name))(errno))?;
        }
        Ok(())
    }
}

/// Marks `name` as gone. Anyone may, since Linux 5.8.
fn whiteout(directory: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
}

fn link_target(
    path: &RepoPath,
    size_bytes: u64,
    content: &mut dyn Read,
) -> Result<Vec<u8>, WorkspaceError> {
    if size_bytes == 0 || size_bytes > PATH_BYTES_MAX as u64 {
        return Err(refused(path, "a link's target has 1 to 4095 bytes"));
    }
    let mut target = Vec::new();
    content
        .take(size_bytes)
        .read_to_end(&mut target)
        .map_err(WorkspaceError::std_io("read", path.as_bytes()))?;
    if target.len() as u64 != size_bytes || target.contains(&0) {
        return Err(refused(path, "its content is not a link's target"));
    }
    Ok(target)
}

fn refused(path: &RepoPath, reason: &'static str) -> WorkspaceError {
    WorkspaceError::Fill { path: path.clone(), reason }
}
