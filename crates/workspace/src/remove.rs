//! Deleting what a session left, whatever it left.
//!
//! A session can make directories deeper than any path or any number of descriptors reaches. So a
//! tree is not walked but flattened: each directory found is moved to the top, where it is emptied
//! in turn. Nothing is followed, and no more than two directories are open at once. A subvolume,
//! which only we can have made, goes at once.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags, renameat_with, unlinkat};
use rustix::io::{Errno, Result};

use crate::beneath::{Found, Nature, Tree, entry, names, unlink};

/// Deletes the directory `dir` of our own; nothing there is success.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match Tree::open(dir).and_then(|tree| tree.directory(b"")) {
        Ok(Some(opened)) => empty(&opened)?,
        Ok(None) | Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    match rustix::fs::rmdir(dir) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Deletes the entry `name` of an opened directory, a whole tree if it is one.
pub(crate) fn remove_entry(directory: &OwnedFd, name: &[u8]) -> Result<()> {
    let found = match entry(directory, name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if found.nature() != Nature::Directory {
        return unlink(directory, name);
    }
    if !is_destroyed(directory, name, &found)? {
        empty(&open(&found)?)?;
        unlinkat(directory, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Whether the entry was a subvolume, and is gone.
fn is_destroyed(directory: &OwnedFd, name: &[u8], found: &Found) -> Result<bool> {
    let is_subvolume = || cofferdam_btrfs::is_subvolume(found);
    if found.stat().st_ino != cofferdam_btrfs::TOP_INODE || !is_subvolume()? {
        return Ok(false);
    }
    let name = std::str::from_utf8(name).map_err(|_| Errno::INVAL)?;
    cofferdam_btrfs::destroy(directory, name).map(|()| true)
}

/// Deletes everything in an opened directory.
fn empty(top: &OwnedFd) -> Result<()> {
    let mut last = 0_u64;
    loop {
        let names = names(top, u64::MAX)?.unwrap_or_default();
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            let found = entry(top, &name)?;
            if found.nature() == Nature::Directory {
                if is_destroyed(top, &name, &found)? {
                    continue;
                }
                flatten(&open(&found)?, top, &mut last)?;
                unlinkat(top, name.as_slice(), AtFlags::REMOVEDIR)?;
            } else {
                unlink(top, &name)?;
            }
        }
    }
}

/// Empties `directory` by deleting its files and moving its directories to `top`.
fn flatten(directory: &OwnedFd, top: &OwnedFd, last: &mut u64) -> Result<()> {
    for name in names(directory, u64::MAX)?.unwrap_or_default() {
        let found = entry(directory, &name)?;
        if found.nature() != Nature::Directory {
            unlink(directory, &name)?;
            continue;
        }
        if is_destroyed(directory, &name, &found)? {
            continue;
        }
        // Moving a directory to another parent writes its `..`, which takes its write bit.
        found.open_up()?;
        loop {
            *last += 1;
            let free = format!("{last}");
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(directory, name.as_slice(), top, free.as_str(), flags) {
                Err(Errno::EXIST) => {}
                other => break other?,
            }
        }
    }
    Ok(())
}

fn open(found: &Found) -> Result<OwnedFd> {
    found.open_up()?;
    found.open_directory()
}
