//! A base, a view of it, and hands that put into the writable layer whatever a session could.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::change::{FileKind, WorkspaceChange};
use cofferdam_contract::path::RepoPath;
use cofferdam_workspace::{Scan, ScanBounds, Workspace};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::pool::Mounted;

/// The fields are dropped in this order: a pool can be taken down when nothing in it is open.
pub(crate) struct Site {
    pub(crate) workspace: Workspace,
    dir: PathBuf,
    _pool: Option<Mounted>,
    pub(crate) tmp: tempfile::TempDir,
}

/// Every kind of view of a base that there can be: snapshots are root's alone.
pub(crate) fn kinds() -> Vec<WorkspaceKind> {
    let is_root = rustix::process::geteuid().is_root();
    let snapshot = is_root.then_some(WorkspaceKind::Btrfs);
    [WorkspaceKind::Overlay, WorkspaceKind::Copy].into_iter().chain(snapshot).collect()
}

/// The same on every kind of view.
pub(crate) fn on_each(base: &[(&str, &str)], test: impl Fn(Site)) {
    for kind in kinds() {
        println!("on {kind:?}");
        test(Site::new(base, kind));
    }
}

impl Site {
    pub(crate) fn overlay(base: &[(&str, &str)]) -> Self {
        Self::new(base, WorkspaceKind::Overlay)
    }

    /// A path that ends in `/` is an empty directory.
    pub(crate) fn new(base: &[(&str, &str)], kind: WorkspaceKind) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("base");
        fs::create_dir_all(root.join(".git/objects")).unwrap();
        for (path, content) in base {
            match path.strip_suffix('/') {
                Some(directory) => fs::create_dir_all(root.join(directory)).unwrap(),
                None => write(&root.join(path), content.as_bytes()),
            }
        }
        let pool = (kind == WorkspaceKind::Btrfs).then(|| Mounted::new().expect("root has pools"));
        let (workspace, dir) = match &pool {
            Some(pool) => (pool.workspace("ses", &[root]), pool.pool.sessions().join("ses")),
            None => {
                let dir = tmp.path().join("ses");
                (Workspace::create(&dir, &[root], &[], kind).unwrap(), dir)
            }
        };
        Self { workspace, dir, _pool: pool, tmp }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.tmp.path().join("base")
    }

    /// A path in what the session writes.
    pub(crate) fn at(&self, path: impl AsRef<OsStr>) -> PathBuf {
        let layer = match self.workspace.kind() {
            WorkspaceKind::Overlay => "upper",
            _ => "tree",
        };
        self.dir().join(layer).join(path.as_ref())
    }

    /// The same, with nothing there any more of what a copy or a snapshot has of the base. In an
    /// overlay what is put there takes the place of the base's.
    pub(crate) fn vacant(&self, path: &str) -> PathBuf {
        let at = self.at(path);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&at).unwrap(),
            Ok(_) => fs::remove_file(&at).unwrap(),
            Err(_) => {}
        }
        at
    }

    /// As a session removes it.
    pub(crate) fn remove(&self, path: &str) {
        let at = self.vacant(path);
        if self.workspace.kind() == WorkspaceKind::Overlay {
            whiteout(&at);
        }
    }

    /// How often a race is run: each look at a snapshot takes one of that first.
    pub(crate) fn rounds(&self) -> u32 {
        if self.workspace.kind() == WorkspaceKind::Btrfs { 300 } else { 3000 }
    }

    /// How many inodes count, after one file was written: a snapshot counts its top as well, which a
    /// name in it changed.
    pub(crate) fn inodes_of_one_file(&self) -> u64 {
        if self.workspace.kind() == WorkspaceKind::Btrfs { 2 } else { 1 }
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        write(&self.at(path), content.as_bytes());
    }

    pub(crate) fn scan(&self) -> Vec<String> {
        lines(&self.workspace.scan(&ScanBounds::default()).unwrap())
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (_, _, mut content) = self.workspace.read(&path_of(path)).unwrap();
        content.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

pub(crate) fn path_of(path: impl AsRef<[u8]>) -> RepoPath {
    RepoPath::new(path.as_ref()).unwrap()
}

pub(crate) fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(crate) fn executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap();
}

pub(crate) fn link(path: &Path, target: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(OsStr::from_bytes(target), path).unwrap();
}

pub(crate) fn whiteout(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

pub(crate) fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
}

pub(crate) fn opaque(path: &Path) {
    fs::create_dir_all(path).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "user.overlay.opaque", b"y", flags).unwrap();
}

/// A scan as lines, left-out paths last.
pub(crate) fn lines(scan: &Scan) -> Vec<String> {
    let change = |change: &WorkspaceChange| match change {
        WorkspaceChange::Put { path, kind, size_bytes } => {
            let kind = match kind {
                FileKind::File => "file",
                FileKind::Executable => "exec",
                FileKind::Symlink => "link",
                FileKind::Submodule => "submodule",
            };
            format!("{kind} {path} {size_bytes}")
        }
        WorkspaceChange::Remove { path } => format!("gone {path}"),
    };
    let left = scan.left_out.iter().map(|left| format!("left {}: {}", left.path, left.reason));
    scan.changes.iter().map(change).chain(left).collect()
}
