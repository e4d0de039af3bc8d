//! What a session changed: a walk over what it wrote, judged by content against the base.
//!
//! One walk serves every driver. A place of the base is *shown* through what the session wrote (an
//! overlay's ordinary directory), *hidden* by it (an opaque directory, and the whole of a copy: what
//! is not in the layer is gone), or *absent*. Of a snapshot the file system tells which inodes were
//! written: a directory of the base that was not is shown but for those, one that was is hidden,
//! and what has the base's inode and was not written is not looked at. Forged whiteouts and marks can therefore take away
//! the session's own view of the base, and nothing else. The walk holds no more than one directory
//! open, does not recurse, and stops at its bounds.

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cofferdam_contract::change::{FileKind, WorkspaceChange};
use cofferdam_contract::path::RepoPath;
use rustix::io::Errno;

use crate::beneath::{self, Found, Nature, Tree, join};
use crate::changed::{Changed, TOP_INODE};
use crate::error::WorkspaceError;
use crate::git_name::is_git_name;
use crate::ignored::{IGNORE_BYTES_MAX, IGNORE_FILE_BYTES_MAX, IGNORE_PRICE_MAX, Rules};
use crate::layers::Layers;

/// How much a scan may find. Reaching `changes_max` or `entries_max` is an error, since half a
/// result is no result; a file over a byte bound is left out and said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanBounds {
    /// Changes and left-out paths together.
    pub changes_max: u64,
    /// Directory entries that are looked at.
    pub entries_max: u64,
    /// Bytes of one file.
    pub file_bytes_max: u64,
    /// Bytes of all changed files together.
    pub bytes_max: u64,
    /// Directories above a path.
    pub depth_max: u32,
}

impl Default for ScanBounds {
    /// More than a person can review, and still read within seconds.
    fn default() -> Self {
        Self {
            changes_max: 100_000,
            entries_max: 4_000_000,
            file_bytes_max: 512 << 20,
            bytes_max: 2 << 30,
            depth_max: 256,
        }
    }
}

/// What a session left behind, in the order of paths, a removal before a put at the same path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// What must be put into the base's tree, in this order, to get the result's.
    pub changes: Vec<WorkspaceChange>,
    /// What is not part of it though it is there. Such a path stays as it is in the base.
    pub left_out: Vec<LeftOut>,
}

/// A path that a scan left out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LeftOut {
    /// Where; its nearest directory, if the path itself is too long to be one.
    pub path: RepoPath,
    /// Why.
    pub reason: LeftOutReason,
}

/// Why a path is left out. `Display` gives the words for people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum LeftOutReason {
    /// A named pipe.
    #[error("a named pipe")]
    Fifo,
    /// A socket.
    #[error("a socket")]
    Socket,
    /// A block or character device.
    #[error("a device")]
    Device,
    /// A name that some file system takes for `.git`.
    #[error("a name that git keeps for itself")]
    GitDirectory,
    /// A submodule's directory, which the base has as a reference only.
    #[error("inside a submodule")]
    Submodule,
    /// Over [`ScanBounds::file_bytes_max`], or what is left of [`ScanBounds::bytes_max`].
    #[error("larger than what a result may hold")]
    TooLarge,
    /// Over [`ScanBounds::depth_max`].
    #[error("deeper than what a result may hold")]
    TooDeep,
    /// Over 4,095 bytes of path.
    #[error("a path longer than what a result may hold")]
    PathTooLong,
    /// Not ours to read, or moved away while it was looked at.
    #[error("not readable")]
    Unreadable,
    /// A `.gitignore` whose rules cannot be applied; the file itself is in the result.
    #[error("ignore rules that are too large to be applied")]
    IgnoreRules,
}

/// What is walked.
pub(crate) struct Sides<'a> {
    pub(crate) base: &'a Layers,
    /// What the session wrote.
    pub(crate) layer: &'a Tree,
    /// Whether the layer is all there is, rather than lying over the base.
    pub(crate) hides_base: bool,
    /// For a layer that is a snapshot of the base: what was written to it since.
    pub(crate) changed: Option<Changed>,
    /// Directories that are not part of any result.
    pub(crate) carried: &'a [RepoPath],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    Shown,
    Hidden,
    Absent,
}

/// A directory of the layer that is still to be looked at.
struct Place {
    path: Vec<u8>,
    depth: u32,
    base: Base,
    /// Git would pass over what is untracked here.
    ignored: bool,
    rules: Arc<Rules>,
}

struct Walk<'a> {
    sides: Sides<'a>,
    bounds: &'a ScanBounds,
    places: Vec<Place>,
    found: Scan,
    entries: u64,
    bytes: u64,
    ignore_bytes: u64,
    ignore_price: u64,
}

/// Walks the layer and tells how the result differs from the base.
pub(crate) fn scan(sides: Sides<'_>, bounds: &ScanBounds) -> Result<Scan, WorkspaceError> {
    let is_shown = match &sides.changed {
        Some(changed) => !changed.has(TOP_INODE),
        None => !sides.hides_base,
    };
    let base = if is_shown { Base::Shown } else { Base::Hidden };
    let top = Place { path: Vec::new(), depth: 0, base, ignored: false, rules: Arc::default() };
    let mut walk = Walk {
        sides,
        bounds,
        places: vec![top],
        found: Scan::default(),
        entries: 0,
        bytes: 0,
        ignore_bytes: 0,
        ignore_price: 0,
    };
    while let Some(place) = walk.places.pop() {
        walk.directory(place)?;
    }
    let mut found = walk.found;
    found.changes.sort_by(|one, other| {
        let order = |it: &WorkspaceChange| matches!(it, WorkspaceChange::Put { .. });
        (one.path(), order(one)).cmp(&(other.path(), order(other)))
    });
    found.left_out.sort_unstable();
    found.left_out.dedup();
    Ok(found)
}

impl Walk<'_> {
    fn directory(&mut self, mut place: Place) -> Result<(), WorkspaceError> {
        let io = |errno| WorkspaceError::io("look into", &place.path)(errno);
        let opened = match self.sides.layer.directory(&place.path) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(()),
            Err(errno) if is_out_of_reach(errno) && !place.path.is_empty() => {
                return self.leave_out(&place.path, LeftOutReason::Unreadable);
            }
            Err(errno) => return Err(io(errno)),
        };
        // The kernel never takes the top of an upper layer for opaque.
        let is_snapshot = self.sides.changed.is_some();
        let may_be_opaque = place.base == Base::Shown && !place.path.is_empty() && !is_snapshot;
        if may_be_opaque && beneath::is_opaque(&opened) {
            place.base = Base::Hidden;
        }
        let names = self.names(&opened, &place)?;
        if !place.ignored {
            place.rules = self.rules(&place, &names)?;
        }
        let mut there = HashSet::new();
        for name in &names {
            if self.entry(&place, name)? && place.base == Base::Hidden {
                there.insert(name.as_slice());
            }
        }
        if place.base == Base::Hidden {
            self.hidden(&place, &there)?;
        }
        Ok(())
    }

    /// Everything that the base has here and the layer has not is gone.
    fn hidden(&mut self, place: &Place, there: &HashSet<&[u8]>) -> Result<(), WorkspaceError> {
        let io = WorkspaceError::io("look into", &place.path);
        let left = self.bounds.entries_max - self.entries;
        let names = self.sides.base.names(&place.path, left).map_err(io)?;
        for name in self.count(names)? {
            if !there.contains(name.as_slice()) && !is_git_name(&name) {
                self.remove(&join(&place.path, &name))?;
            }
        }
        Ok(())
    }

    /// Looks at one entry of the layer; whether something is there.
    fn entry(&mut self, place: &Place, name: &[u8]) -> Result<bool, WorkspaceError> {
        let path = join(&place.path, name);
        if is_git_name(name) {
            if path != b".git" && !place.ignored {
                self.leave_out(&path, LeftOutReason::GitDirectory)?;
            }
            return Ok(true);
        }
        let Ok(repo_path) = RepoPath::new(path.as_slice()) else {
            self.leave_out(&place.path, LeftOutReason::PathTooLong)?;
            return Ok(true);
        };
        if self.sides.carried.contains(&repo_path) {
            return Ok(true);
        }
        let io = |errno| WorkspaceError::io("look at", &path)(errno);
        let found = match self.sides.layer.find(&path) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(false),
            Err(errno) if is_out_of_reach(errno) => {
                self.leave_out(&path, LeftOutReason::Unreadable)?;
                return Ok(true);
            }
            Err(errno) => return Err(io(errno)),
        };
        let before = match place.base {
            Base::Absent => None,
            Base::Shown | Base::Hidden => self.sides.base.find(&path).map_err(io)?,
        };
        if before.as_ref().is_some_and(|before| self.is_untouched(&found, before)) {
            return Ok(true);
        }
        let nature = found.nature();
        let ignored = self.is_ignored(place, &path, nature, before.as_ref())?;
        match (nature, before) {
            (Nature::Whiteout, before) => {
                if before.is_some() && place.base == Base::Shown {
                    self.remove(&path)?;
                }
                return Ok(false);
            }
            (_, None) if ignored => {}
            // The path is not what git tracks beneath it: that is gone, and this is passed over.
            (Nature::Leaf { .. }, Some(before))
                if ignored && before.nature() == Nature::Directory =>
            {
                self.remove(&path)?;
            }
            (Nature::Directory, before) => {
                self.enter(place, path, ignored, &found, before.as_ref())?;
            }
            (Nature::Leaf { kind, size_bytes }, before) => {
                self.leaf(repo_path, &found, (kind, size_bytes), before.as_ref())?;
            }
            (Nature::Fifo, _) => self.leave_out(&path, LeftOutReason::Fifo)?,
            (Nature::Socket, _) => self.leave_out(&path, LeftOutReason::Socket)?,
            (Nature::Device, _) => self.leave_out(&path, LeftOutReason::Device)?,
        }
        Ok(true)
    }

    /// Whether a snapshot has the base's own inode here, with nothing written to it or beneath it.
    fn is_untouched(&self, found: &Found, before: &Found) -> bool {
        let inode = found.stat().st_ino;
        let changed = self.sides.changed.as_ref();
        changed.is_some_and(|changed| inode == before.stat().st_ino && !changed.leads_to(inode))
    }

    /// How a directory that the base has as well is to be looked into.
    fn side(&self, place: &Place, found: &Found, before: &Found) -> Base {
        let Some(changed) = &self.sides.changed else { return place.base };
        let inode = found.stat().st_ino;
        if inode == before.stat().st_ino && !changed.has(inode) {
            Base::Shown
        } else {
            Base::Hidden
        }
    }

    /// Whether git would pass over a path if it were untracked; not asked of a file that the base
    /// has, nor of a whiteout.
    fn is_ignored(
        &mut self,
        place: &Place,
        path: &[u8],
        nature: Nature,
        before: Option<&Found>,
    ) -> Result<bool, WorkspaceError> {
        let is_leaf = |nature| matches!(nature, Nature::Leaf { .. });
        let is_tracked = is_leaf(nature) && before.is_some_and(|before| is_leaf(before.nature()));
        if place.ignored || is_tracked || nature == Nature::Whiteout {
            return Ok(place.ignored);
        }
        self.ignore_price += place.rules.price;
        if self.ignore_price > IGNORE_PRICE_MAX {
            let unit = "ignore rules times paths";
            return Err(WorkspaceError::TooMuch { max: IGNORE_PRICE_MAX, unit });
        }
        Ok(place.rules.ignore(path, nature == Nature::Directory))
    }

    /// Git keeps no empty directories: what a checkout holds of a submodule is the only one.
    fn is_submodule(&self, path: &[u8]) -> Result<bool, WorkspaceError> {
        self.sides.base.is_empty(path).map_err(WorkspaceError::io("look into", path))
    }

    /// A directory that is to be looked into.
    fn enter(
        &mut self,
        place: &Place,
        path: Vec<u8>,
        ignored: bool,
        found: &Found,
        before: Option<&Found>,
    ) -> Result<(), WorkspaceError> {
        let mut base = Base::Absent;
        match before.map(Found::nature) {
            Some(Nature::Directory) => {
                if self.is_submodule(&path)? {
                    let untouched = found.open_directory().and_then(|it| beneath::is_empty(&it));
                    return match untouched {
                        Ok(true) => Ok(()),
                        _ => self.leave_out(&path, LeftOutReason::Submodule),
                    };
                }
                base = before.map_or(place.base, |before| self.side(place, found, before));
            }
            Some(_) => self.remove(&path)?,
            None => {}
        }
        if place.depth >= self.bounds.depth_max {
            return self.leave_out(&path, LeftOutReason::TooDeep);
        }
        let rules = Arc::clone(&place.rules);
        self.places.push(Place { path, depth: place.depth + 1, base, ignored, rules });
        Ok(())
    }

    /// A file or a link: a change, unless it is what the base has.
    fn leaf(
        &mut self,
        path: RepoPath,
        found: &Found,
        (kind, size_bytes): (FileKind, u64),
        before: Option<&Found>,
    ) -> Result<(), WorkspaceError> {
        if let Some(before) = before.filter(|before| before.nature() == found.nature()) {
            match is_same(kind, size_bytes, found, before) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(_) => return self.leave_out(path.as_bytes(), LeftOutReason::Unreadable),
            }
        }
        let left = self.bounds.bytes_max.saturating_sub(self.bytes);
        if size_bytes > self.bounds.file_bytes_max.min(left) {
            return self.leave_out(path.as_bytes(), LeftOutReason::TooLarge);
        }
        if before.is_some_and(|before| before.nature() == Nature::Directory) {
            self.remove(path.as_bytes())?;
        }
        self.bytes += size_bytes;
        self.found.changes.push(WorkspaceChange::Put { path, kind, size_bytes });
        self.check_changes()
    }

    /// The rules in a directory, by the `.gitignore` that the result has there.
    fn rules(&mut self, place: &Place, names: &[Vec<u8>]) -> Result<Arc<Rules>, WorkspaceError> {
        const NAME: &[u8] = b".gitignore";
        let path = join(&place.path, NAME);
        let found = match (names.binary_search_by(|name| name.as_slice().cmp(NAME)), place.base) {
            (Ok(_), _) => self.sides.layer.find(&path),
            (Err(_), Base::Shown) => self.sides.base.find(&path),
            (Err(_), _) => return Ok(Arc::clone(&place.rules)),
        };
        let Ok(Some(found)) = found else { return Ok(Arc::clone(&place.rules)) };
        // Git does not follow a link here either.
        let Nature::Leaf { kind: FileKind::File | FileKind::Executable, size_bytes } =
            found.nature()
        else {
            return Ok(Arc::clone(&place.rules));
        };
        if size_bytes > IGNORE_FILE_BYTES_MAX.min(IGNORE_BYTES_MAX - self.ignore_bytes) {
            self.leave_out(&path, LeftOutReason::IgnoreRules)?;
            return Ok(Arc::clone(&place.rules));
        }
        self.ignore_bytes += size_bytes;
        let mut bytes = Vec::new();
        let read = found.open_file().map_err(std::io::Error::from);
        let read = read.and_then(|file| file.take(size_bytes).read_to_end(&mut bytes));
        match read.ok().and_then(|_| Rules::with(&place.rules, &place.path, &bytes)) {
            Some(rules) => Ok(rules),
            None => {
                self.leave_out(&path, LeftOutReason::IgnoreRules)?;
                Ok(Arc::clone(&place.rules))
            }
        }
    }

    /// The names to look at: all of them, or those of a snapshot's directory that lead to a change.
    fn names(&mut self, opened: &OwnedFd, place: &Place) -> Result<Vec<Vec<u8>>, WorkspaceError> {
        let left = self.bounds.entries_max - self.entries;
        let names = match &self.sides.changed {
            Some(changed) if place.base == Base::Shown => {
                beneath::names_where(opened, left, |inode| changed.leads_to(inode))
            }
            _ => beneath::names(opened, left),
        };
        let names = names.map_err(WorkspaceError::io("look into", &place.path))?;
        self.count(names)
    }

    /// `None` stands for more than what was left.
    fn count(&mut self, names: Option<Vec<Vec<u8>>>) -> Result<Vec<Vec<u8>>, WorkspaceError> {
        let names = names.ok_or(WorkspaceError::TooMuch {
            max: self.bounds.entries_max,
            unit: "files and directories",
        })?;
        self.entries += names.len() as u64;
        Ok(names)
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), WorkspaceError> {
        let is_carried = |path: &RepoPath| self.sides.carried.contains(path);
        if let Some(path) = RepoPath::new(path).ok().filter(|path| !is_carried(path)) {
            self.found.changes.push(WorkspaceChange::Remove { path });
        }
        self.check_changes()
    }

    fn leave_out(&mut self, path: &[u8], reason: LeftOutReason) -> Result<(), WorkspaceError> {
        if let Ok(path) = RepoPath::new(path) {
            self.found.left_out.push(LeftOut { path, reason });
        }
        self.check_changes()
    }

    fn check_changes(&self) -> Result<(), WorkspaceError> {
        let count = self.found.changes.len() + self.found.left_out.len();
        if count as u64 <= self.bounds.changes_max {
            return Ok(());
        }
        Err(WorkspaceError::TooMuch { max: self.bounds.changes_max, unit: "changed paths" })
    }
}

/// What the kernel says of a path that is not ours to read, that a mount is in the way of, or that
/// left the tree while it was resolved.
fn is_out_of_reach(errno: Errno) -> bool {
    matches!(errno, Errno::ACCESS | Errno::PERM | Errno::XDEV | Errno::AGAIN)
}

/// Whether two leaves of one kind and size have the same bytes.
fn is_same(kind: FileKind, size_bytes: u64, one: &Found, other: &Found) -> std::io::Result<bool> {
    if kind == FileKind::Symlink {
        return Ok(one.target()? == other.target()?);
    }
    let (mut one, mut other) = (one.open_file()?, other.open_file()?);
    let (mut mine, mut theirs) = (vec![0_u8; 64 << 10], vec![0_u8; 64 << 10]);
    let mut left = size_bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(mine.len());
        one.read_exact(&mut mine[..part])?;
        other.read_exact(&mut theirs[..part])?;
        if mine[..part] != theirs[..part] {
            return Ok(false);
        }
        left -= part as u64;
    }
    Ok(true)
}
