//! A pool: a btrfs of our own in which bases are subvolumes and workspaces are snapshots of them.
//!
//! Everything in it can be made again: it is formatted anew after a boot, and a base in it is a
//! copy of a prepared base. Must never know how it was made or mounted.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cofferdam_btrfs as btrfs;
use cofferdam_contract::digest::Digest;
use rustix::fs::{FlockOperation, fstat, stat};
use rustix::io::Errno;

use crate::beneath::Tree;
use crate::driver::Copying;
use crate::error::WorkspaceError;
use crate::layers::Layers;
use crate::remove::remove_dir;
use crate::{make_dir, open_dir, open_own as open};

const BASES: &str = "bases";
const SESSIONS: &str = "sessions";
/// In a base's directory: the subvolume.
const TREE: &str = "tree";
/// In a base's directory: the layers that it is made of, a line each.
const OF: &str = "of";
/// Beside a base, of one that could not be made: a directory with what it would have been made of, and
/// the room that was there.
const REFUSED: &str = "refused";
const ROOM: &str = "room";

/// A pool that is mounted.
#[derive(Clone, Debug)]
pub struct Pool {
    dir: PathBuf,
}

impl Pool {
    /// The pool whose top is `dir`; none if no pool is mounted there. Only root can use one.
    #[must_use]
    pub fn at(dir: &Path) -> Option<Self> {
        let opened = open(dir).ok()?;
        let is_ours = rustix::process::geteuid().is_root()
            && btrfs::is_subvolume(&opened).unwrap_or(false)
            && dir.join(SESSIONS).is_dir();
        is_ours.then(|| Self { dir: dir.to_owned() })
    }

    /// The pool in which sessions have their directories, if [`Pool::sessions`] gave that.
    #[must_use]
    pub fn of_sessions(sessions: &Path) -> Option<Self> {
        sessions.ends_with(SESSIONS).then(|| Self::at(sessions.parent()?)).flatten()
    }

    /// Makes a file system that was just formatted and mounted a pool; whether the kernel will
    /// count and bound what a session writes.
    ///
    /// # Errors
    /// [`WorkspaceError::Io`].
    pub fn prepare(dir: &Path) -> Result<bool, WorkspaceError> {
        let opened = open(dir).map_err(failed("open", dir))?;
        let counts = btrfs::count_writes(&opened).is_ok();
        for name in [BASES, SESSIONS] {
            make_dir(&dir.join(name), 0o700)?;
        }
        Ok(counts)
    }

    /// Where sessions have their directories.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.dir.join(SESSIONS)
    }

    /// The base with these layers, the uppermost first, as one subvolume; made if it is not there.
    /// Where the layers below are there, only the uppermost is copied. Whoever asks meanwhile waits.
    ///
    /// # Errors
    /// [`WorkspaceError::BaseTooLarge`], or [`WorkspaceError::Io`].
    pub fn base(&self, layers: &[PathBuf]) -> Result<PathBuf, WorkspaceError> {
        let (place, partial) = self.place(layers);
        let tree = place.join(TREE);
        loop {
            if tree.is_dir() {
                return Ok(tree);
            }
            make_dir(&partial, 0o700)?;
            let Some(_held) = held(&partial).map_err(failed("lock", &partial))? else { continue };
            if tree.is_dir() {
                remove_dir(&partial).map_err(failed("remove", &partial))?;
                return Ok(tree);
            }
            let room_bytes = self.room_bytes();
            self.make(layers, &partial).inspect_err(|_| {
                // It may be what filled the pool.
                let _tried_again_by_the_next = remove_dir(&partial);
                let _tried_again_likewise = refuse(&place, layers, room_bytes);
            })?;
            fs::rename(&partial, &place).map_err(failed_io("rename", &partial))?;
            let _never_refused = remove_dir(&place.with_extension(REFUSED));
            return Ok(tree);
        }
    }

    /// Whether it is worth a try to have this base: not where one failed that had as much room.
    #[must_use]
    pub fn may_take(&self, layers: &[PathBuf]) -> bool {
        let (place, _) = self.place(layers);
        let room = fs::read_to_string(place.with_extension(REFUSED).join(ROOM));
        let tried_bytes = room.ok().and_then(|it| it.parse().ok());
        tried_bytes.is_none_or(|tried_bytes: u64| self.room_bytes() > tried_bytes)
    }

    fn room_bytes(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.dir);
        found.map_or(0, |it| it.f_bavail.saturating_mul(it.f_frsize))
    }

    /// Removes bases whose layers are gone, and what a killed preparer left; how many there were.
    ///
    /// # Errors
    /// [`WorkspaceError::Io`].
    pub fn collect(&self) -> Result<u64, WorkspaceError> {
        let bases = self.dir.join(BASES);
        let mut removed = 0;
        for entry in fs::read_dir(&bases).map_err(failed_io("list", &bases))?.flatten() {
            let path = entry.path();
            let lock = try_held(&path).map_err(failed("lock", &path))?;
            if lock.is_some() && !is_of_something(&path) {
                remove_dir(&path).map_err(failed("remove", &path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The directory of a base, and the one in which it is made.
    fn place(&self, layers: &[PathBuf]) -> (PathBuf, PathBuf) {
        let name = Digest::of(&lines(layers)).hex();
        let bases = self.dir.join(BASES);
        (bases.join(&name), bases.join(format!("{name}.partial")))
    }

    fn make(&self, layers: &[PathBuf], partial: &Path) -> Result<(), WorkspaceError> {
        let io = failed("make a base in", partial);
        let opened = open(partial).map_err(failed("open", partial))?;
        // Of a preparer that was killed.
        match btrfs::destroy(&opened, TREE) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(io(errno)),
        }
        fs::write(partial.join(OF), lines(layers)).map_err(failed_io("write", partial))?;
        match layers {
            [uppermost, below @ ..] if !below.is_empty() => {
                let below = self.base(below)?;
                let below = open(&below).map_err(failed("open", &below))?;
                btrfs::snapshot(&below, &opened, TREE, true).map_err(io)?;
                put_over(partial, Layers::open(std::slice::from_ref(uppermost)))?;
            }
            layers => {
                btrfs::create(&opened, TREE).map_err(io)?;
                put_over(partial, Layers::open(layers))?;
            }
        }
        let made = btrfs::open_child(&opened, TREE).and_then(btrfs::seal);
        made.map_err(failed("seal", partial))
    }
}

/// Takes note that a base could not be made.
fn refuse(place: &Path, layers: &[PathBuf], room_bytes: u64) -> Result<(), WorkspaceError> {
    let note = place.with_extension(REFUSED);
    make_dir(&note, 0o700)?;
    fs::write(note.join(OF), lines(layers)).map_err(failed_io("write", &note))?;
    fs::write(note.join(ROOM), room_bytes.to_string()).map_err(failed_io("write", &note))
}

/// Copies a layer over what a base has already.
fn put_over(partial: &Path, layer: rustix::io::Result<Layers>) -> Result<(), WorkspaceError> {
    let layer = layer.map_err(failed("open a layer for", partial))?;
    let tree: Tree = open_dir(&partial.join(TREE))?;
    Copying::into(&tree).tree(&layer, b"")
}

/// Whether the layers of a base that is ready, or was refused, are still there.
fn is_of_something(base: &Path) -> bool {
    let is_ready = base.extension().is_none_or(|it| it == REFUSED);
    let of = fs::read(base.join(OF)).unwrap_or_default();
    let mut layers = of.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    is_ready
        && !of.is_empty()
        && layers.all(|path| Path::new(std::ffi::OsStr::from_bytes(path)).is_dir())
}

/// A zero byte after each: no path has one.
fn lines(layers: &[PathBuf]) -> Vec<u8> {
    layers.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect()
}

/// Waits for a directory's lock. None: the directory of that name is another one by now.
fn held(dir: &Path) -> Result<Option<OwnedFd>, Errno> {
    let opened = match open(dir) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    rustix::fs::flock(&opened, FlockOperation::LockExclusive)?;
    is_still(dir, &opened).map(|still| still.then_some(opened))
}

/// The same without waiting. None also if another has it.
fn try_held(dir: &Path) -> Result<Option<OwnedFd>, Errno> {
    let opened = open(dir)?;
    match rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(None),
        other => other.and_then(|()| is_still(dir, &opened)).map(|it| it.then_some(opened)),
    }
}

fn is_still(dir: &Path, opened: &impl AsFd) -> Result<bool, Errno> {
    match stat(dir) {
        Err(Errno::NOENT) => Ok(false),
        found => Ok(found?.st_ino == fstat(opened)?.st_ino),
    }
}

fn failed(action: &'static str, at: &Path) -> impl Fn(Errno) -> WorkspaceError + use<> {
    let at = at.as_os_str().as_bytes().to_vec();
    move |errno| WorkspaceError::io(action, &at)(errno)
}

fn failed_io(action: &'static str, at: &Path) -> impl FnOnce(io::Error) -> WorkspaceError + use<> {
    WorkspaceError::std_io(action, at.as_os_str().as_bytes())
}
