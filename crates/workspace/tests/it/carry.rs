//! Directories that a build needs and git ignores.

use std::fs;

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_workspace::{Carry, ScanBounds, Workspace, WorkspaceError};

use crate::fixture::{lines, link, path_of, write};

struct Carried {
    tmp: tempfile::TempDir,
}

impl Carried {
    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        write(&tmp.path().join("base/web/index.js"), b"i");
        write(&tmp.path().join("base/file"), b"f");
        link(&tmp.path().join("base/link"), b"web");
        write(&tmp.path().join("modules/left-pad/index.js"), b"pad");
        Self { tmp }
    }

    fn make(&self, paths: &[&str], kind: WorkspaceKind) -> Result<Workspace, WorkspaceError> {
        let source = self.tmp.path().join("modules");
        let carry: Vec<_> = paths
            .iter()
            .map(|path| Carry { source: source.clone(), path: path_of(path) })
            .collect();
        let dir = self.tmp.path().join("ses");
        Workspace::create(&dir, &[self.tmp.path().join("base")], &carry, kind)
    }
}

#[test]
fn an_overlay_carries_by_mounts_of_its_own() {
    let site = Carried::new();
    let workspace = site.make(&["web/node_modules"], WorkspaceKind::Overlay).unwrap();
    let WorkspaceMount::Overlay { carries, upper, .. } = workspace.mount() else {
        panic!("not an overlay")
    };
    assert_eq!(carries[0].path, path_of("web/node_modules"));
    assert!(upper.join("web/node_modules").is_dir());
    write(&carries[0].upper.join("new"), b"not a result");
    write(&upper.join("web/index.js"), b"changed");
    assert_eq!(lines(&workspace.scan(&ScanBounds::default()).unwrap()), ["file web/index.js 7"]);
    assert!(workspace.usage().unwrap().inodes >= 4);
}

#[test]
fn a_copy_carries_by_copying_and_the_source_stays() {
    let site = Carried::new();
    let workspace = site.make(&["web/node_modules"], WorkspaceKind::Copy).unwrap();
    let inside = site.tmp.path().join("ses/tree/web/node_modules/left-pad/index.js");
    assert_eq!(fs::read(&inside).unwrap(), b"pad");
    assert_eq!(workspace.usage().unwrap().inodes, 0);
    fs::write(&inside, "changed").unwrap();
    assert!(workspace.scan(&ScanBounds::default()).unwrap().changes.is_empty());
    let source = site.tmp.path().join("modules/left-pad/index.js");
    assert_eq!(fs::read(source).unwrap(), b"pad");
}

#[test]
fn what_cannot_be_carried_is_refused_with_the_field() {
    let site = Carried::new();
    for paths in [
        &["web"][..],
        &["file/below"],
        &["link/below"],
        &[".git/hooks"],
        &["sub/.GIT"],
        &["m", "m/n"],
        &["m", "m"],
    ] {
        let refused = site.make(paths, WorkspaceKind::Overlay).err().unwrap();
        let problem = Problem::from(refused);
        assert_eq!(problem.code, Code::RequestInvalid, "{paths:?}");
        assert_eq!(problem.field.as_deref(), Some("repository.carry"));
    }
    assert!(site.make(&["m", "mm"], WorkspaceKind::Overlay).is_ok());
}
