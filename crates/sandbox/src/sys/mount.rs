//! Mounts that are made detached and attached where they belong.
//!
//! A mount is a descriptor until it is attached, so that no path of the host is needed inside a
//! session's root. Must never know which mounts a session has.

#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

pub(crate) use rustix::mount::MountAttrFlags as Attributes;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A detached copy of what is mounted at `path`, with everything beneath it.
pub(crate) fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_NO_AUTOMOUNT;
    Ok(rustix::mount::open_tree(rustix::fs::CWD, path, flags)?)
}

/// A detached copy of the one mount that `file` is on, from `file` down, and nothing that is mounted
/// beneath it.
pub(crate) fn clone_one(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(file, "", flags)?)
}

/// Sets attributes on a mount and everything mounted beneath it.
pub(crate) fn restrict(mount: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    set(mount, Change { attr_set: u64::from(attributes.bits()), ..Change::default() })
}

/// Makes files owned by the users of `mapping`, a user namespace, appear as it maps them.
pub(crate) fn map_ids(mount: BorrowedFd<'_>, mapping: BorrowedFd<'_>) -> io::Result<()> {
    let attr_set = u64::from(MountAttrFlags::MOUNT_ATTR_IDMAP.bits());
    set(mount, Change { attr_set, mapping: Some(mapping), ..Change::default() })
}

/// Lets nothing that happens to these mounts be seen elsewhere, nor the other way round.
pub(crate) fn make_private(mount: BorrowedFd<'_>) -> io::Result<()> {
    set(mount, Change { propagation: libc::MS_PRIVATE, ..Change::default() })
}

/// Lets a mount be written that could only be read.
pub(crate) fn let_write(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attr_clr = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    set(mount, Change { attr_clr, ..Change::default() })
}

/// What is to be changed about a mount.
#[derive(Default)]
struct Change<'a> {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    mapping: Option<BorrowedFd<'a>>,
}

fn set(mount: BorrowedFd<'_>, change: Change<'_>) -> io::Result<()> {
    let Change { attr_set, attr_clr, propagation, mapping } = change;
    let userns_fd = mapping.map_or(0, |mapping| mapping.as_raw_fd() as u64);
    let attr = MountAttr { attr_set, attr_clr, propagation, userns_fd };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // An id-mapped mount is one mount, not a tree: what lies beneath is the base alone.
    let flags = if mapping.is_some() { libc::AT_EMPTY_PATH } else { flags };
    // SAFETY: the path is a NUL-terminated constant, the structure outlives the call and its
    // size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A new, detached file system. Options without a value are flags.
pub(crate) fn create(
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: Attributes,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, *key, *value)?,
            None => rustix::mount::fsconfig_set_flag(&context, *key)?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Attaches a detached mount at `path`, which exists.
pub(crate) fn attach(mount: impl AsFd, path: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", rustix::fs::CWD, path, flags)?)
}

/// Attaches a detached mount over what `place` stands for, wherever that is.
pub(crate) fn attach_over(mount: impl AsFd, place: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", place, "", flags)?)
}

/// Makes `root`, a detached mount, this process's root and lets go of the old one.
pub(crate) fn enter_root(root: OwnedFd) -> io::Result<()> {
    attach(&root, Path::new("/"))?;
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    // The old root now lies on top of the new one.
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Detaches what is mounted at `path`; whoever has it open keeps it.
pub(crate) fn detach(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::DETACH)?)
}

/// Where something is mounted, as this process sees it.
pub(crate) fn points() -> io::Result<Vec<PathBuf>> {
    let mounts = std::fs::read("/proc/self/mountinfo")?;
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescaped);
    Ok(mounts.split(|byte| *byte == b'\n').filter_map(point).collect())
}

/// mountinfo writes space, tab, newline and backslash as three octal digits (proc(5)).
fn unescaped(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|it| std::str::from_utf8(it).ok());
        match octal.and_then(|it| u8::from_str_radix(it, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(out).into()
}

/// Unmounts what is mounted at `path`, if nobody holds on to anything of it: else EBUSY.
pub(crate) fn unmount(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::unescaped;
    use std::path::Path;

    #[test]
    fn what_mountinfo_escapes_is_read_as_it_was() {
        assert_eq!(unescaped(b"/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescaped(b"/a\\04"), Path::new("/a\\04"));
        assert_eq!(unescaped(b"/plain"), Path::new("/plain"));
    }
}
