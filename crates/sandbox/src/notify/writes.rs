//! Whether a call that means to write is about what is mounted read-only.
//!
//! Only for telling: the kernel goes on with each of these calls and decides for itself, and the caller
//! may have changed the path after the look. Nothing is opened but as a place (`O_PATH`, open(2)), and
//! names are looked up in the session's own root. Must never answer a call.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxFlags, fstat, fstatvfs,
    openat2, statx,
};
use rustix::io::Errno;

use super::change::path;
use crate::filter::rule::{Named, Write};

/// The path, as the session has it, that a read-only mount will keep from being written.
pub(super) fn refused(tid: i32, args: &[u64; 6], write: Write) -> Option<PathBuf> {
    let look = Look::of(tid, args)?;
    match write {
        Write::Open { file, flags } => {
            let as_creat = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u32;
            look.opened(look.name(file)?, flags.map_or(as_creat, |at| look.argument(at) as u32))
        }
        Write::Make(name) => look.made(look.name(name)?),
        Write::Link { from, to } => {
            let _there = look.find(&look.name(from)?, false).ok()?;
            look.made(look.name(to)?)
        }
        Write::Remove(name) => {
            let name = look.name(name)?;
            is_read_only(&look.parent(&name)?).then_some(name)
        }
        Write::Move { from, to } => {
            let (from, to) = (look.name(from)?, look.name(to)?);
            let (before, after) = (look.parent(&from)?, look.parent(&to)?);
            // From one mount to another nothing is moved, and programs copy instead.
            (is_read_only(&before) && mount(&before)? == mount(&after)?).then_some(from)
        }
        Write::Change { file, flags } => {
            let flags = flags.map_or(0, |at| look.argument(at) as u32);
            let (name, follows) = (look.name(file)?, flags & NO_FOLLOW == 0);
            is_read_only(&look.find(&name, follows).ok()?).then_some(name)
        }
    }
}

const NO_FOLLOW: u32 = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();

/// One look at a thread that waits.
struct Look<'a> {
    tid: i32,
    args: &'a [u64; 6],
    root: OwnedFd,
}

impl<'a> Look<'a> {
    fn of(tid: i32, args: &'a [u64; 6]) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{tid}/root"), flags, Mode::empty()).ok()?;
        Some(Self { tid, args, root })
    }

    fn argument(&self, at: usize) -> u64 {
        self.args.get(at).copied().unwrap_or_default()
    }

    /// The whole path. The kernel writes links of `/proc` from the root of the mounts that they are in.
    fn name(&self, named: Named) -> Option<PathBuf> {
        let directory = named.directory.map_or(libc::AT_FDCWD, |at| self.argument(at) as i32);
        // Without a path it is about the descriptor.
        let path = match self.argument(named.path) {
            0 => PathBuf::new(),
            pointer => path(self.tid, pointer).ok()??,
        };
        if path.is_absolute() {
            return Some(path);
        }
        let from = match directory {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.tid),
            number => format!("/proc/{}/fd/{number}", self.tid),
        };
        let from = std::fs::read_link(from).ok()?;
        Some(if path.as_os_str().is_empty() { from } else { from.join(path) })
    }

    fn find(&self, name: &Path, follows: bool) -> Result<OwnedFd, Errno> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !follows);
        let rest = name.strip_prefix("/").unwrap_or(name).as_os_str();
        let rest = if rest.is_empty() { OsStr::from_bytes(b".") } else { rest };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, rest, flags, Mode::empty(), resolve)
    }

    /// None of what is no name: the kernel refuses to make or remove `.` wherever that is.
    fn parent(&self, name: &Path) -> Option<OwnedFd> {
        let is_name = !name.as_os_str().as_bytes().ends_with(b"/.") && name.file_name().is_some();
        self.find(name.parent().filter(|_| is_name)?, true).ok()
    }

    fn made(&self, name: PathBuf) -> Option<PathBuf> {
        let is_new = self.find(&name, false).err() == Some(Errno::NOENT);
        (is_new && is_read_only(&self.parent(&name)?)).then_some(name)
    }

    fn opened(&self, name: PathBuf, flags: u32) -> Option<PathBuf> {
        let has = |flag: i32| flags & flag.cast_unsigned() != 0;
        let writes = (has(libc::O_ACCMODE) || has(libc::O_TRUNC)) && !has(libc::O_PATH);
        let is_new = has(libc::O_CREAT) && has(libc::O_EXCL);
        let unnamed = libc::O_TMPFILE.cast_unsigned();
        let is_refused = match self.find(&name, !has(libc::O_NOFOLLOW)) {
            // What is no file can be written to wherever it is.
            Ok(found) => {
                let kind = FileType::from_raw_mode(fstat(&found).ok()?.st_mode);
                let is_file = kind == FileType::RegularFile && !has(libc::O_DIRECTORY);
                let is_meant = (is_file && !is_new) || flags & unnamed == unnamed;
                writes && is_meant && is_read_only(&found)
            }
            Err(Errno::NOENT) if has(libc::O_CREAT) && !has(libc::O_PATH) => {
                is_read_only(&self.parent(&name)?)
            }
            Err(_) => false,
        };
        is_refused.then_some(name)
    }
}

fn is_read_only(place: &OwnedFd) -> bool {
    fstatvfs(place).is_ok_and(|it| it.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn mount(place: &OwnedFd) -> Option<u64> {
    statx(place.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok().map(|it| it.stx_mnt_id)
}
