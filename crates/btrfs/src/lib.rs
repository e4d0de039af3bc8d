//! The few requests to a btrfs that disposable views need: subvolumes, their snapshots, a bound on
//! what one may hold, and what was written since.
//!
//! Everything goes by descriptors. The numbers and shapes are those of `linux/btrfs.h` and
//! `linux/btrfs_tree.h`; which privilege a request needs is in ioctl_btrfs(2) (`btrfs-ioctl(3)`).
//! Must never know what a workspace or a base is, nor resolve a path that a session made.

mod search;
mod sys;

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fstat, fstatfs, openat};
pub use rustix::io::Errno;
use rustix::io::Result;

pub use search::{Item, ItemKind, search};

/// `f_type` of a btrfs (statfs(2)).
const MAGIC: u64 = 0x9123_683E;
/// The number of the top directory of every subvolume.
pub const TOP_INODE: u64 = 256;
/// Set on subvolumes that nobody can write.
const READ_ONLY: u64 = 1 << 1;

/// Whether a directory is the top of a subvolume.
///
/// # Errors
/// The file system's.
pub fn is_subvolume(directory: impl AsFd) -> Result<bool> {
    let of_btrfs = u64::try_from(fstatfs(&directory)?.f_type).is_ok_and(|it| it == MAGIC);
    Ok(of_btrfs && fstat(&directory)?.st_ino == TOP_INODE)
}

/// Makes an empty subvolume.
///
/// # Errors
/// `EEXIST` if the name is taken; else the file system's.
pub fn create(parent: impl AsFd, name: &str) -> Result<()> {
    sys::subvol_create(parent.as_fd(), name)
}

/// Makes a subvolume that shares everything with `source` until one of the two is written. What
/// `source` has in memory is written out first; it costs one commit of the file system, whatever
/// the number of files.
///
/// # Errors
/// `EEXIST` if the name is taken, `EXDEV` for another file system; else the file system's.
pub fn snapshot(source: impl AsFd, parent: impl AsFd, name: &str, writable: bool) -> Result<()> {
    let flags = if writable { 0 } else { READ_ONLY };
    sys::snap_create(parent.as_fd(), name, source.as_fd(), flags)
}

/// Removes a subvolume with everything in it, at once; the space comes back in the background.
///
/// # Errors
/// `ENOENT` if there is none; `EPERM` without `CAP_SYS_ADMIN`, unless the mount says
/// `user_subvol_rm_allowed`.
pub fn destroy(parent: impl AsFd, name: &str) -> Result<()> {
    sys::snap_destroy(parent.as_fd(), name)
}

/// Makes a subvolume one that nobody can write.
///
/// # Errors
/// The file system's.
pub fn seal(subvolume: impl AsFd) -> Result<()> {
    sys::set_flags(subvolume.as_fd(), READ_ONLY)
}

/// The transaction in which a subvolume was made. What was written to it later has a greater one.
///
/// # Errors
/// `ENOTTY` on another file system, `EINVAL` for what is no subvolume's top.
pub fn made_in(subvolume: impl AsFd) -> Result<u64> {
    sys::subvolume(subvolume.as_fd()).map(|it| it.otransid)
}

/// Begins to count what each subvolume writes (simple quotas, Linux 6.7). Before it, nothing is
/// counted and nothing is bounded.
///
/// # Errors
/// `EINVAL` from a kernel that does not know them; `EPERM` without `CAP_SYS_ADMIN`.
pub fn count_writes(top: impl AsFd) -> Result<()> {
    sys::enable_simple_quota(top.as_fd())
}

/// Bounds what a subvolume has written of its own, in bytes; beyond it, writing is `EDQUOT`.
///
/// # Errors
/// `ENOTCONN` where writes are not counted; `EPERM` without `CAP_SYS_ADMIN`.
pub fn bound(subvolume: impl AsFd, bytes_max: u64) -> Result<()> {
    sys::limit(subvolume.as_fd(), bytes_max)
}

/// Opens the directory `name` of `parent`, which we made.
///
/// # Errors
/// The file system's.
pub fn open_child(parent: impl AsFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}
