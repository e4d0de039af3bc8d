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

pub(crate) struct Site {
    pub(crate) tmp: tempfile::TempDir,
    pub(crate) workspace: Workspace,
}

impl Site {
    pub(crate) fn overlay(base: &[(&str, &str)]) -> Self {
        Self::new(base, WorkspaceKind::Overlay)
    }

    pub(crate) fn new(base: &[(&str, &str)], kind: WorkspaceKind) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("base");
        fs::create_dir_all(root.join(".git/objects")).unwrap();
        for (path, content) in base {
            write(&root.join(path), content.as_bytes());
        }
        let workspace = Workspace::create(&tmp.path().join("ses"), &[root], &[], kind).unwrap();
        Self { tmp, workspace }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.tmp.path().join("ses")
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
