//! Kernel file locks that die with their holder.
//!
//! Must never know what is locked. A lock file is never deleted while anyone may wait on it: its
//! inode is compared after locking.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::error::RepositoryError;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

impl Lock {
    /// Takes the lock, calling `waiting` once if it has to wait.
    pub(crate) fn take(
        path: &Path,
        mode: Mode,
        waiting: impl FnOnce(),
    ) -> Result<Self, RepositoryError> {
        if let Some(lock) = Self::try_take(path, mode)? {
            return Ok(lock);
        }
        waiting();
        loop {
            let file = open(path)?;
            match mode {
                Mode::Shared => file.lock_shared(),
                Mode::Exclusive => file.lock(),
            }
            .map_err(failed(path))?;
            if is_at(&file, path) {
                return Ok(Self { file });
            }
        }
    }

    /// Takes the lock if nobody holds it the other way.
    pub(crate) fn try_take(path: &Path, mode: Mode) -> Result<Option<Self>, RepositoryError> {
        loop {
            let file = open(path)?;
            let taken = match mode {
                Mode::Shared => file.try_lock_shared(),
                Mode::Exclusive => file.try_lock(),
            };
            match taken {
                Ok(()) if is_at(&file, path) => return Ok(Some(Self { file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(failed(path)(source)),
            }
        }
    }

    /// Deletes the lock file; only for an exclusive lock. Whoever waits on it opens it anew.
    pub(crate) fn retire(self, path: &Path) {
        // If it cannot be deleted it is an empty file more.
        let _ = fs::remove_file(path);
        drop(self.file);
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> RepositoryError {
    RepositoryError::io(format!("the lock {} could not be taken", path.display()))
}

fn open(path: &Path) -> Result<File, RepositoryError> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed(path))
}

/// Whether the locked file is still the one that others will open.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => held.ino() == there.ino() && held.dev() == there.dev(),
        _ => false,
    }
}
