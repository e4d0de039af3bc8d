//! Looking at hostile directories: the only place of this crate that opens anything in them.
//!
//! Every path is resolved beneath a directory descriptor with `openat2(2)`, without links and
//! without crossing a mount, first as `O_PATH`, which neither blocks on a FIFO nor wakes a driver.
//! Only what `fstat(2)` then says is a regular file or a directory is opened, through that same
//! descriptor, so what was looked at is what is read, whatever the path has become meanwhile.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use cofferdam_contract::change::FileKind;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, chmod, fgetxattr, fstat, openat,
    openat2, readlinkat,
};
use rustix::io::{Errno, Result};

/// Where overlayfs keeps its mark of an opaque directory: the first with `userxattr`, as sessions
/// have it, the second without (`Documentation/filesystems/overlayfs.rst`).
const OPAQUE: [&str; 2] = ["user.overlay.opaque", "trusted.overlay.opaque"];

/// A directory that everything is looked up beneath.
#[derive(Debug)]
pub(crate) struct Tree {
    top: OwnedFd,
}

/// Something found in a tree: not opened yet, but held.
#[derive(Debug)]
pub(crate) struct Found {
    held: OwnedFd,
    stat: Stat,
}

/// One layer's answer for a path.
pub(crate) enum Step {
    /// It has nothing there, and nothing in the way.
    Absent,
    /// On the way there is something that is no directory.
    Blocked,
    /// It has this.
    Found(Found),
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nature {
    Directory,
    /// A regular file, or a symbolic link whose size is that of its target.
    Leaf {
        kind: FileKind,
        size_bytes: u64,
    },
    /// The character device 0/0 by which an overlay says that a lower path is gone.
    Whiteout,
    Fifo,
    Socket,
    Device,
}

impl Tree {
    /// Opens a directory of our own.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { top: openat(CWD, path, flags, Mode::empty())? })
    }

    /// What is at `path` (empty for the tree's top); `None` if nothing is, or if the way there
    /// does not lead through directories alone.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Option<Found>> {
        match self.step(path)? {
            Step::Found(found) => Ok(Some(found)),
            Step::Absent | Step::Blocked => Ok(None),
        }
    }

    /// The same, telling what is absent from what is blocked.
    pub(crate) fn step(&self, path: &[u8]) -> Result<Step> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let path = if path.is_empty() { b"." } else { path };
        match openat2(&self.top, path, flags, Mode::empty(), resolve) {
            Ok(held) => Ok(Step::Found(Found { stat: fstat(&held)?, held })),
            Err(Errno::NOENT) => Ok(Step::Absent),
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(Step::Blocked),
            Err(errno) => Err(errno),
        }
    }

    /// The directory at `path`, opened; `None` if there is none.
    pub(crate) fn directory(&self, path: &[u8]) -> Result<Option<OwnedFd>> {
        match self.find(path)? {
            Some(found) if found.nature() == Nature::Directory => found.open_directory().map(Some),
            _ => Ok(None),
        }
    }
}

impl Found {
    pub(crate) fn nature(&self) -> Nature {
        let size_bytes = u64::try_from(self.stat.st_size).unwrap_or(0);
        let leaf = |kind| Nature::Leaf { kind, size_bytes };
        match FileType::from_raw_mode(self.stat.st_mode) {
            FileType::Directory => Nature::Directory,
            // As git decides it: by the owner's bit alone.
            FileType::RegularFile if self.stat.st_mode & 0o100 != 0 => leaf(FileKind::Executable),
            FileType::RegularFile => leaf(FileKind::File),
            FileType::Symlink => leaf(FileKind::Symlink),
            FileType::CharacterDevice if self.stat.st_rdev == 0 => Nature::Whiteout,
            FileType::Fifo => Nature::Fifo,
            FileType::Socket => Nature::Socket,
            _ => Nature::Device,
        }
    }

    pub(crate) fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Opens a directory for listing; one that its owner took the bits from gets them back.
    pub(crate) fn open_directory(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.with_access(0o700, || openat(&self.held, ".", flags, Mode::empty()))
    }

    /// Opens a regular file for reading; one that its owner took the bit from gets it back.
    pub(crate) fn open_file(&self) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let same = magic_link(&self.held);
        self.with_access(0o400, || openat(CWD, same.as_str(), flags, Mode::empty())).map(File::from)
    }

    /// The target of a symbolic link.
    pub(crate) fn target(&self) -> Result<Vec<u8>> {
        readlinkat(&self.held, "", Vec::new()).map(std::ffi::CString::into_bytes)
    }

    fn with_access<T>(&self, bits: u32, open: impl Fn() -> Result<T>) -> Result<T> {
        match open() {
            Err(Errno::ACCESS) => {
                allow_owner(&self.held, &self.stat, bits)?;
                open()
            }
            other => other,
        }
    }
}

/// The name under which the kernel gives the very inode of a descriptor.
fn magic_link(held: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", held.as_raw_fd())
}

/// Adds `bits` to the mode of what `held` (opened with `O_PATH`) is.
pub(crate) fn allow_owner(held: &OwnedFd, stat: &Stat, bits: u32) -> Result<()> {
    if stat.st_mode & bits == bits {
        return Ok(());
    }
    chmod(magic_link(held).as_str(), Mode::from_raw_mode((stat.st_mode & 0o777) | bits))
}

/// Whether an overlay takes nothing from the layers below this directory.
pub(crate) fn is_opaque(directory: &OwnedFd) -> bool {
    OPAQUE.iter().any(|name| {
        let mut value = [0_u8; 2];
        // A longer value is not the mark: the kernel looks for exactly one letter.
        matches!(fgetxattr(directory, *name, &mut value[..]), Ok(1)) && value[0] == b'y'
    })
}

/// The names in an opened directory, sorted; at most `max` of them, or `None`.
pub(crate) fn names(directory: &OwnedFd, max: u64) -> Result<Option<Vec<Vec<u8>>>> {
    names_where(directory, max, |_| true)
}

/// The same of the entries whose inode is wanted.
pub(crate) fn names_where(
    directory: &OwnedFd,
    max: u64,
    wanted: impl Fn(u64) -> bool,
) -> Result<Option<Vec<Vec<u8>>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || !wanted(entry.ino()) {
            continue;
        }
        if names.len() as u64 >= max {
            return Ok(None);
        }
        names.push(name.to_vec());
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// Whether an opened directory has no entries.
pub(crate) fn is_empty(directory: &OwnedFd) -> Result<bool> {
    Ok(names(directory, 0)?.is_some())
}

/// `path` with one more component.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(path.len() + 1 + name.len());
    joined.extend_from_slice(path);
    if !path.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

/// `path` as the directory it is in and its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The directories above `path`, the outermost first.
pub(crate) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// Opens the entry `name` of an opened directory as `O_PATH`, following nothing.
pub(crate) fn entry(directory: &impl AsFd, name: &[u8]) -> Result<Found> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = openat(directory, name, flags, Mode::empty())?;
    Ok(Found { stat: fstat(&held)?, held })
}

/// Deletes the entry `name`, which is no directory.
pub(crate) fn unlink(directory: &impl AsFd, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

impl AsFd for Found {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.held.as_fd()
    }
}

impl Found {
    /// Gives its owner every right to a directory.
    pub(crate) fn open_up(&self) -> Result<()> {
        allow_owner(&self.held, &self.stat, 0o700)
    }
}
