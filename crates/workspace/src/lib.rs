//! Disposable copy-on-write views of a prepared base, and what a session changed in one.
//!
//! What a session leaves behind is hostile: everything is opened beneath a directory descriptor,
//! never through a link, and never before it is known to be a regular file. Must never know git's
//! objects (that is `repository`), how a view is mounted (that is `sandbox`), or run anything.

mod beneath;
mod changed;
mod driver;
mod error;
mod fill;
#[cfg(fuzzing)]
pub mod fuzzing;
mod git_name;
mod ignored;
mod layers;
mod pool;
mod read;
mod remove;
mod scan;
mod usage;

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::change::{FileKind, TreeChange};
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use beneath::{Nature, Tree, ancestors};
use driver::{Driver, Site};
pub use error::WorkspaceError;
use fill::Filler;
use git_name::is_git_name;
use layers::Layers;
pub use pool::Pool;
pub use scan::{LeftOut, LeftOutReason, Scan, ScanBounds};
pub use usage::Usage;

/// A directory that git ignores and a build needs, carried in copy-on-write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carry {
    /// The directory on the host; never written.
    pub source: PathBuf,
    /// Where it appears in the workspace.
    pub path: RepoPath,
}

/// The view of a base that one session has.
pub struct Workspace {
    dir: PathBuf,
    base_layers: Vec<PathBuf>,
    base: Layers,
    layer: Tree,
    carry: Vec<Carry>,
    carried: Vec<RepoPath>,
    kind: WorkspaceKind,
    driver: &'static dyn Driver,
}

impl Workspace {
    /// Makes the view under `dir`, a directory of the session's own that may be there already. The
    /// base's layers are given uppermost first; for [`WorkspaceKind::Empty`] they are not looked
    /// at, and for [`WorkspaceKind::Btrfs`] they are what [`Pool::base`] gave.
    ///
    /// # Errors
    /// [`WorkspaceError::Carry`] for a directory that is not there, not outside the base's own
    /// paths, or beneath another; [`WorkspaceError::BaseTooLarge`] for a copy; else the file
    /// system's.
    pub fn create(
        dir: &Path,
        base_layers: &[PathBuf],
        carry: &[Carry],
        kind: WorkspaceKind,
    ) -> Result<Self, WorkspaceError> {
        make_dir(dir, 0o700)?;
        let base_layers = base_of(dir, base_layers, kind)?;
        let base = open_layers(&base_layers)?;
        check_carry(&base, carry)?;
        let site = Site { dir, base_layers: &base_layers, base: &base, carry };
        driver::of(kind).create(&site)?;
        Self::open(dir, &base_layers, carry, kind)
    }

    /// Finds the view that [`Workspace::create`] made with the same arguments.
    ///
    /// # Errors
    /// [`WorkspaceError::Io`] if it is not there.
    pub fn open(
        dir: &Path,
        base_layers: &[PathBuf],
        carry: &[Carry],
        kind: WorkspaceKind,
    ) -> Result<Self, WorkspaceError> {
        let driver = driver::of(kind);
        let base_layers = base_of(dir, base_layers, kind)?;
        Ok(Self {
            base: open_layers(&base_layers)?,
            layer: open_dir(&dir.join(driver.layer()))?,
            dir: dir.to_path_buf(),
            base_layers,
            carry: carry.to_vec(),
            carried: carry.iter().map(|carry| carry.path.clone()).collect(),
            kind,
            driver,
        })
    }

    /// How it is made.
    pub fn kind(&self) -> WorkspaceKind {
        self.kind
    }

    /// What `sandbox` mounts.
    pub fn mount(&self) -> WorkspaceMount {
        self.driver.mount(&self.site())
    }

    /// Puts changes over the base, before the session starts, in the order in which they come.
    ///
    /// # Errors
    /// [`WorkspaceError::Source`] if `changes` gives an error, [`WorkspaceError::Fill`] for a
    /// change that cannot be put into a workspace. It is then half filled: remove it.
    pub fn fill(
        &self,
        changes: &mut dyn Iterator<Item = Result<TreeChange<'_>, Problem>>,
    ) -> Result<(), WorkspaceError> {
        let lower = (!self.driver.hides_base()).then_some(&self.base);
        let filler = Filler { layer: &self.layer, lower };
        for change in changes {
            filler.apply(change.map_err(WorkspaceError::Source)?)?;
        }
        // Where a carried directory is mounted must be there, whatever was removed.
        for path in &self.carried {
            filler.directory(path.as_bytes())?;
        }
        Ok(())
    }

    /// What differs from the base, without what git would ignore and without carried directories.
    /// The session is frozen or over.
    ///
    /// # Errors
    /// [`WorkspaceError::TooMuch`] if a bound on counts is reached, else the file system's.
    pub fn scan(&self, bounds: &ScanBounds) -> Result<Scan, WorkspaceError> {
        let sides = scan::Sides {
            base: &self.base,
            layer: &self.layer,
            hides_base: self.driver.hides_base(),
            changed: self.driver.changed(&self.site(), bounds.entries_max)?,
            carried: &self.carried,
        };
        scan::scan(sides, bounds)
    }

    /// Opens one put of a scan: its kind, its size in bytes and its content, which ends in an error
    /// if the file changed while it was read. The content of a link is its target.
    ///
    /// # Errors
    /// [`WorkspaceError::NotReadable`] for anything but a file or link that the session left.
    pub fn read(
        &self,
        path: &RepoPath,
    ) -> Result<(FileKind, u64, Box<dyn Read + Send>), WorkspaceError> {
        read::read(&self.layer, path)
    }

    /// What the session has written so far, carried directories included; for the disk limit.
    ///
    /// # Errors
    /// [`WorkspaceError::Io`] if the view is not there any more.
    pub fn usage(&self) -> Result<Usage, WorkspaceError> {
        self.driver.usage(&self.site(), &self.layer)
    }

    /// Has the file system itself refuse what the session writes beyond `bytes_max`, where it can;
    /// whether it will.
    pub fn bound(&self, bytes_max: u64) -> bool {
        self.driver.bound(&self.site(), bytes_max)
    }

    /// Deletes the session's directory with everything in it.
    ///
    /// # Errors
    /// [`WorkspaceError::Io`]; what could be deleted is, and trying again goes on from there.
    pub fn remove(self) -> Result<(), WorkspaceError> {
        remove_dir(&self.dir)
    }

    fn site(&self) -> Site<'_> {
        Site {
            dir: &self.dir,
            base_layers: &self.base_layers,
            base: &self.base,
            carry: &self.carry,
        }
    }
}

/// What a directory of the session's own, other than its workspace, takes on disk.
///
/// # Errors
/// [`WorkspaceError::Io`] if it is not there any more.
pub fn usage_of(dir: &Path) -> Result<Usage, WorkspaceError> {
    Ok(usage::usage(&open_dir(dir)?))
}

/// Deletes `dir` with everything in it, whatever a session left there, following no link; for a
/// directory of which no [`Workspace`] can be opened any more. Nothing there is success.
///
/// # Errors
/// [`WorkspaceError::Io`]; what could be deleted is, and trying again goes on from there.
pub fn remove_dir(dir: &Path) -> Result<(), WorkspaceError> {
    remove::remove_dir(dir).map_err(WorkspaceError::io("remove", dir.as_os_str().as_bytes()))
}

/// The base of a session without one is an empty directory.
fn base_of(
    dir: &Path,
    base_layers: &[PathBuf],
    kind: WorkspaceKind,
) -> Result<Vec<PathBuf>, WorkspaceError> {
    if kind != WorkspaceKind::Empty {
        return Ok(base_layers.to_vec());
    }
    let nothing = dir.join("nothing");
    make_dir(&nothing, 0o700)?;
    Ok(vec![nothing])
}

/// A carried directory is there, is none of the base's own, and is apart from the others.
fn check_carry(base: &Layers, carry: &[Carry]) -> Result<(), WorkspaceError> {
    for (at, one) in carry.iter().enumerate() {
        let refuse = |reason| Err(WorkspaceError::Carry { path: one.path.clone(), reason });
        if Tree::open(&one.source).is_err() {
            return refuse("it is not a directory that can be opened");
        }
        if one.path.components().any(is_git_name) {
            return refuse("git keeps that name for itself");
        }
        let io = |errno| WorkspaceError::io("look at", one.path.as_bytes())(errno);
        if base.find(one.path.as_bytes()).map_err(io)?.is_some() {
            return refuse("the base commit has something there");
        }
        for above in ancestors(one.path.as_bytes()) {
            let found = base.find(above).map_err(io)?;
            if found.is_some_and(|found| found.nature() != Nature::Directory) {
                return refuse("the base commit has a file or a link on the way there");
            }
        }
        let meets =
            |other: &Carry| other.path.is_beneath(&one.path) || one.path.is_beneath(&other.path);
        if carry[..at].iter().any(meets) {
            return refuse("another carried directory is there");
        }
    }
    Ok(())
}

fn open_dir(path: &Path) -> Result<Tree, WorkspaceError> {
    Tree::open(path).map_err(WorkspaceError::io("open", path.as_os_str().as_bytes()))
}

/// Opens a directory of our own to be listed, locked or asked of its file system.
fn open_own(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn open_layers(paths: &[PathBuf]) -> Result<Layers, WorkspaceError> {
    Layers::open(paths).map_err(WorkspaceError::io("open", b"a layer of the base"))
}

/// Makes a directory of our own, and what is above it, with exactly this mode if it is new.
fn make_dir(path: &Path, mode: u32) -> Result<(), WorkspaceError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(WorkspaceError::std_io("make the directory", path.as_os_str().as_bytes()))
}
