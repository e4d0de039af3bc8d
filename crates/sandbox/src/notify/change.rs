//! Changes of modes and times, made for a flat session by the supervisor.
//!
//! Landlock says nothing of chmod(2) and utimensat(2), and the session's user owns the host's files
//! too. Looking and letting the kernel go on would be no wall: the caller can change the path
//! meanwhile. So the supervisor takes a copy of the path, finds the file itself, beneath one of the
//! session's own directories and through no link that leads out of it, and makes the change on what
//! it found. Must never act on a path twice.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};

use super::address::read;
use crate::filter::rule::{Change, ChangedFile};

/// `PATH_MAX`, the end included.
const PATH_BYTES_MAX: usize = 4096;
/// Both structures of utimensat(2).
const TIMES_BYTES: usize = 32;

/// The directories that are a session's own.
pub(crate) struct OwnDirectories(Vec<Directory>);

struct Directory {
    /// By the name that the session was given, and by the one without links.
    names: [PathBuf; 2],
    opened: OwnedFd,
}

/// What comes of one.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Wished {
    /// Beneath the session's directories, and this is the kernel's answer to looking for it.
    Failed(i32),
    /// Not beneath them.
    Outside(PathBuf),
}

/// A change whose file is found.
pub(super) struct Found {
    file: OwnedFd,
    deed: Deed,
}

enum Deed {
    Mode(u32),
    Times(Timestamps),
}

impl OwnDirectories {
    /// Opens them. They are there already, and nothing runs in the session yet.
    pub(crate) fn open(paths: &[PathBuf]) -> io::Result<Self> {
        let open = |path: &PathBuf| -> io::Result<Directory> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(path, flags, Mode::empty())?;
            Ok(Directory { names: [path.clone(), path.canonicalize()?], opened })
        };
        paths.iter().map(open).collect::<io::Result<_>>().map(Self)
    }

    /// The directory that `path` is beneath by its name, and the rest of the name.
    fn above<'a>(&self, path: &'a Path) -> Option<(&OwnedFd, &'a Path)> {
        self.0.iter().find_map(|directory| {
            let rest = directory.names.iter().find_map(|name| path.strip_prefix(name).ok())?;
            Some((&directory.opened, rest))
        })
    }

    /// Finds the file that the call of thread `tid` is about.
    pub(super) fn find(
        &self,
        tid: i32,
        args: &[u64; 6],
        file: ChangedFile,
        change: Change,
    ) -> Result<Found, Wished> {
        let argument = |index: usize| args.get(index).copied().unwrap_or_default();
        let file = match file {
            ChangedFile::Open { descriptor } => self.opened(tid, argument(descriptor))?,
            ChangedFile::At { directory, path, flags } => {
                let flags = flags.map_or(0, argument) as u32;
                let directory = directory.map_or(i64::from(libc::AT_FDCWD) as u64, argument);
                self.at(tid, directory, argument(path), flags)?
            }
        };
        let deed = match change {
            Change::Mode(index) => Deed::Mode(argument(index) as u32 & 0o7777),
            Change::Times(index) => Deed::Times(times(tid, argument(index))?),
        };
        Ok(Found { file, deed })
    }

    fn at(&self, tid: i32, directory: u64, pointer: u64, flags: u32) -> Result<OwnedFd, Wished> {
        // As the kernel has it: without a path it is about the directory's descriptor.
        let path = if pointer == 0 { Some(PathBuf::new()) } else { path(tid, pointer)? };
        let Some(path) = path else { return Err(Wished::Failed(libc::ENAMETOOLONG)) };
        let is_empty = path.as_os_str().is_empty();
        if is_empty && pointer != 0 && flags & libc::AT_EMPTY_PATH.cast_unsigned() == 0 {
            return Err(Wished::Failed(libc::ENOENT));
        }
        // What C libraries use where a call has no flags.
        let named =
            path.strip_prefix("/proc/self/fd").ok().and_then(|it| it.to_str()?.parse().ok());
        if let Some(number) = named {
            return self.opened(tid, number);
        }
        let is_here = directory as i32 == libc::AT_FDCWD;
        if is_empty && !is_here {
            return self.opened(tid, directory);
        }
        let follows = flags & libc::AT_SYMLINK_NOFOLLOW.cast_unsigned() == 0;
        let from = match (path.is_absolute(), is_here) {
            (true, _) => PathBuf::new(),
            (false, true) => link(&format!("/proc/{tid}/cwd"))?,
            (false, false) => link(&format!("/proc/{tid}/fd/{}", directory as i32))?,
        };
        self.beneath(from.join(path), follows)
    }

    fn beneath(&self, path: PathBuf, follows: bool) -> Result<OwnedFd, Wished> {
        let Some((directory, rest)) = self.above(&path) else { return Err(Wished::Outside(path)) };
        let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !follows);
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(directory, rest, flags, Mode::empty(), resolve) {
            Ok(found) => Ok(found),
            Err(rustix::io::Errno::XDEV) => Err(Wished::Outside(path)),
            Err(error) => Err(Wished::Failed(error.raw_os_error())),
        }
    }

    /// An open file is the session's if its name is beneath: nothing of the session can give a
    /// file of others such a name, since Landlock lets it neither move nor link one.
    fn opened(&self, tid: i32, number: u64) -> Result<OwnedFd, Wished> {
        let path = format!("/proc/{tid}/fd/{}", number as i32);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|_| Wished::Failed(libc::EBADF))?;
        let name = link(&format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
        if self.above(&name).is_some() { Ok(opened) } else { Err(Wished::Outside(name)) }
    }
}

impl Found {
    /// Makes the change; 0, or the kernel's answer.
    pub(super) fn change(&self) -> i32 {
        let done = match &self.deed {
            Deed::Mode(mode) => {
                // SAFETY: the path is a constant and the descriptor is ours.
                let result = unsafe {
                    libc::syscall(
                        libc::SYS_fchmodat2,
                        self.file.as_raw_fd(),
                        c"".as_ptr(),
                        *mode,
                        libc::AT_EMPTY_PATH,
                    )
                };
                if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            }
            Deed::Times(times) => {
                rustix::fs::utimensat(self.file.as_fd(), "", times, AtFlags::EMPTY_PATH)
                    .map_err(Into::into)
            }
        };
        done.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EPERM), |()| 0)
    }
}

fn link(path: &str) -> Result<PathBuf, Wished> {
    std::fs::read_link(path).map_err(|_| Wished::Failed(libc::EBADF))
}

/// The text at `pointer` of the thread; none if it is too long.
pub(super) fn path(tid: i32, pointer: u64) -> Result<Option<PathBuf>, Wished> {
    let mut bytes = [0_u8; PATH_BYTES_MAX];
    let count = read(tid, pointer, &mut bytes).map_err(|_| Wished::Failed(libc::EFAULT))?;
    let text = CStr::from_bytes_until_nul(&bytes[..count.min(PATH_BYTES_MAX)]);
    Ok(text.ok().map(|text| PathBuf::from(OsStr::from_bytes(text.to_bytes()))))
}

fn times(tid: i32, pointer: u64) -> Result<Timestamps, Wished> {
    let now = Timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW };
    if pointer == 0 {
        return Ok(Timestamps { last_access: now, last_modification: now });
    }
    let mut bytes = [0_u8; TIMES_BYTES];
    if !matches!(read(tid, pointer, &mut bytes), Ok(TIMES_BYTES)) {
        return Err(Wished::Failed(libc::EFAULT));
    }
    let number = |at: usize| {
        let eight = bytes.get(at..at + 8).and_then(|it| it.try_into().ok());
        eight.map_or(0, i64::from_ne_bytes)
    };
    Ok(Timestamps {
        last_access: Timespec { tv_sec: number(0), tv_nsec: number(8) },
        last_modification: Timespec { tv_sec: number(16), tv_nsec: number(24) },
    })
}
