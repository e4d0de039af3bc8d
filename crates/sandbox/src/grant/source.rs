//! A path of the host, looked at and held.
//!
//! It is resolved once, without following any link; what is mounted later is compared with what
//! was looked at. Refused is whatever is above, at or beneath what holds credentials or what runs
//! stand on, judged by identity as well as by name, so that no other name of it helps. The look
//! into a directory is bounded and a look: what the host puts there later is seen inside too. Must
//! never say to a session why a path was refused.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cofferdam_contract::text::escape_bytes;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};

use super::names::{PROGRAMS, SYSTEM, is_kernel_state, is_secret};
use crate::error::SandboxError;
use crate::sys::mount;

/// Most entries of a granted directory, all of them beneath it counted.
const ENTRIES_MAX: usize = 100_000;

/// What no grant may show, beyond what every host has.
#[derive(Clone, Debug, Default)]
pub struct Guarded {
    /// The home of whoever runs this.
    pub home: PathBuf,
    /// Nothing at, beneath or above these: state, cache, configuration.
    pub never: Vec<PathBuf>,
    /// Nothing at, beneath or above these to be written: the repository, directories on `PATH`.
    pub never_written: Vec<PathBuf>,
}

/// A path that was looked at and may be granted.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: OwnedFd,
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) is_directory: bool,
}

/// Device and inode.
pub(crate) type Identity = (u64, u64);

pub(crate) fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

fn refused(detail: impl Into<String>) -> SandboxError {
    SandboxError::NotGranted { detail: detail.into() }
}

/// How a path is resolved, here and by whoever mounts it: from the root, and no link on the way.
pub(crate) fn resolve(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve)
}

impl Source {
    /// Looks at `path`, which is absolute and plain.
    ///
    /// # Errors
    /// [`SandboxError::NotGranted`] says what is in the way.
    pub(crate) fn look_at(
        path: &Path,
        writable: bool,
        guarded: &Guarded,
    ) -> Result<Self, SandboxError> {
        let plain =
            path.components().all(|it| matches!(it, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain {
            return Err(refused("the path is not absolute and plain"));
        }
        judge_names(path, writable, &guarded.home)?;
        let file = resolve(path).map_err(|error| match error {
            rustix::io::Errno::LOOP => {
                refused("a symbolic link is on the way: name what it leads to")
            }
            rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => {
                refused("there is no such path")
            }
            error => refused(format!("it cannot be opened: {}", std::io::Error::from(error))),
        })?;
        let failed = |error: rustix::io::Errno| refused(std::io::Error::from(error).to_string());
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        let is_directory = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile if stat.st_nlink == 1 => false,
            FileType::RegularFile => return Err(refused("the file has other names")),
            _ => return Err(refused("it is neither a directory nor a regular file")),
        };
        let kind = rustix::fs::fstatfs(&file).map_err(failed)?.f_type;
        if is_kernel_state(kind.cast_unsigned()) {
            return Err(refused("it is the kernel's state and no file"));
        }
        let source = Self { file, path: path.to_owned(), identity: identity(&stat), is_directory };
        source.keep_below(&guarded.home)?;
        source.keep_away_from(&guarded.never, "what Cofferdam keeps")?;
        if writable {
            source
                .keep_away_from(&guarded.never_written, "the repository or a directory on PATH")?;
        }
        source.nothing_mounted_beneath()?;
        if is_directory {
            source.look_into(ENTRIES_MAX)?;
        }
        Ok(source)
    }

    /// Neither at, nor beneath, nor above any of these.
    fn keep_away_from(&self, guarded: &[PathBuf], what: &str) -> Result<(), SandboxError> {
        let beneath: HashSet<Identity> = line(&self.path).collect();
        for dir in guarded {
            let above: HashSet<Identity> = line(&real(dir)).collect();
            let at = std::fs::metadata(dir).ok().map(|it| id(&it));
            if above.contains(&self.identity) || at.is_some_and(|at| beneath.contains(&at)) {
                return Err(refused(format!("it is at, above or beneath {what}")));
            }
        }
        Ok(())
    }

    /// A home is too much; what is in it may do.
    fn keep_below(&self, home: &Path) -> Result<(), SandboxError> {
        if line(&real(home)).any(|it| it == self.identity) {
            return Err(refused("it is a home or above one: name what is needed of it"));
        }
        Ok(())
    }

    /// A mount of one file system shows what lies under other mounts, which nobody looked at.
    fn nothing_mounted_beneath(&self) -> Result<(), SandboxError> {
        let points = mount::points()
            .map_err(|error| refused(format!("the host's mounts cannot be read: {error}")))?;
        if points.iter().any(|point| *point != self.path && point.starts_with(&self.path)) {
            return Err(refused("another file system is mounted beneath it: grant that by itself"));
        }
        Ok(())
    }

    /// Names only: nothing is opened but directories, and no link is followed.
    fn look_into(&self, entries_max: usize) -> Result<(), SandboxError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut open = vec![PathBuf::from(".")];
        let mut entries = 0;
        while let Some(relative) = open.pop() {
            let failed = |error: rustix::io::Errno| {
                let shown = escape_bytes(relative.as_os_str().as_bytes());
                refused(format!("{shown} in it cannot be read: {}", std::io::Error::from(error)))
            };
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let dir = rustix::fs::openat2(&self.file, &relative, flags, Mode::empty(), resolve);
            for entry in Dir::new(dir.map_err(failed)?).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                entries += 1;
                if entries > entries_max {
                    let detail = format!("it has more than {entries_max} entries: grant less");
                    return Err(refused(detail));
                }
                let path = relative.join(OsStr::from_bytes(name));
                if self.judge_entry(&path, name, entry.file_type())? {
                    open.push(path);
                }
            }
        }
        Ok(())
    }

    /// Whether it is a directory to be looked into.
    fn judge_entry(&self, path: &Path, name: &[u8], kind: FileType) -> Result<bool, SandboxError> {
        let shown = || escape_bytes(path.as_os_str().as_bytes());
        if is_secret(name) {
            return Err(refused(format!("{} in it may hold a credential", shown())));
        }
        let kind = match kind {
            FileType::Unknown => rustix::fs::statat(&self.file, path, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |it| FileType::from_raw_mode(it.st_mode)),
            kind => kind,
        };
        match kind {
            FileType::Directory => Ok(true),
            FileType::RegularFile | FileType::Symlink => Ok(false),
            // Whoever is at the other end of it on the host could be talked to.
            _ => Err(refused(format!("{} in it is a socket, a pipe or a device", shown()))),
        }
    }

    pub(crate) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What the words of the path say.
fn judge_names(path: &Path, writable: bool, home: &Path) -> Result<(), SandboxError> {
    let near = |other: &&str| path.starts_with(other) || Path::new(other).starts_with(path);
    if SYSTEM.iter().any(near) {
        return Err(refused("it is at, above or beneath a directory of the system"));
    }
    if writable && PROGRAMS.iter().any(near) {
        return Err(refused("programs that the host executes are there"));
    }
    if path.components().any(|it| is_secret(it.as_os_str().as_bytes())) {
        return Err(refused("its name is that of a place for credentials"));
    }
    let homes = Path::new("/home");
    if path == homes || path.parent() == Some(homes) || path == Path::new("/root") {
        return Err(refused("it is a home or above one: name what is needed of it"));
    }
    let of_home = path.strip_prefix(home).ok();
    let of_any = path.strip_prefix(homes).or_else(|_| path.strip_prefix("/root")).ok();
    let hidden =
        |rest: &Path| rest.components().any(|it| it.as_os_str().as_bytes().first() == Some(&b'.'));
    if of_home.is_some_and(hidden) || of_any.is_some_and(hidden) {
        return Err(refused("hidden directories and files of a home are not granted"));
    }
    Ok(())
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn id(metadata: &std::fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

/// The identities of a path and of all above it.
fn line(path: &Path) -> impl Iterator<Item = Identity> {
    path.ancestors().filter_map(|it| std::fs::metadata(it).ok()).map(|it| id(&it))
}

#[cfg(test)]
mod tests;
