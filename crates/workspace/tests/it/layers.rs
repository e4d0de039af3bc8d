//! A base of several layers is one base, to a session and to whoever reads what it left.

use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::change::{FileKind, TreeChange};
use cofferdam_workspace::{Carry, ScanBounds, Workspace};

use crate::fixture::{lines, link, path_of, whiteout, write};
use crate::model::in_overlay;

const KINDS: [WorkspaceKind; 2] = [WorkspaceKind::Overlay, WorkspaceKind::Copy];

/// Three layers: everything that one can do to another happens.
fn layers(top: &Path) -> Vec<PathBuf> {
    let [lowest, middle, upper] = ["lowest", "middle", "upper"].map(|name| top.join(name));
    for path in ["a", "d/x", "d/y", "d/e/z", "gone/in/all", "flat/x", "back/old", "file", "same"] {
        write(&lowest.join(path), b"lowest");
    }
    write(&lowest.join(".gitignore"), b"*.log\n");
    fs::create_dir_all(lowest.join("module")).unwrap();
    write(&middle.join("a"), b"middle");
    whiteout(&middle.join("d/x"));
    whiteout(&middle.join("back"));
    write(&middle.join("flat"), b"a file now");
    write(&middle.join("d/new"), b"middle");
    fs::remove_file(lowest.join("file")).unwrap();
    write(&lowest.join("file"), b"lowest");
    whiteout(&upper.join("gone"));
    whiteout(&upper.join("d/new"));
    write(&upper.join("back/new"), b"upper");
    write(&upper.join("file/inside"), b"upper");
    link(&upper.join("d/l"), b"y");
    vec![upper, middle, lowest]
}

/// What a session sees of them.
const SEEN: &str = "./.gitignore ./a ./back/new ./d/e/z ./d/l ./d/y ./file/inside ./flat ./same";

struct Site {
    tmp: tempfile::TempDir,
    workspace: Workspace,
    kind: WorkspaceKind,
}

impl Site {
    fn new(kind: WorkspaceKind) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("ses");
        let workspace = Workspace::create(&dir, &layers(tmp.path()), &[], kind).unwrap();
        Self { tmp, workspace, kind }
    }

    /// Runs a script where the session would be; what it writes to standard output.
    fn run(&self, script: &str) -> String {
        let (file, merged) = (self.tmp.path().join("script"), self.tmp.path().join("merged"));
        let said = self.tmp.path().join("said");
        fs::write(&file, format!("{{ {script}; }} > '{}'\n", said.display())).unwrap();
        if self.kind == WorkspaceKind::Overlay {
            let _ = fs::create_dir(&merged);
            in_overlay(&self.workspace.mount(), &merged, &file);
        } else {
            crate::model::run(&file, &self.tmp.path().join("ses/tree"));
        }
        fs::read_to_string(said).unwrap()
    }

    fn scan(&self) -> Vec<String> {
        lines(&self.workspace.scan(&ScanBounds::default()).unwrap())
    }
}

#[test]
fn the_kernel_and_the_host_see_the_same_base() {
    for kind in KINDS {
        let site = Site::new(kind);
        let seen = site.run("find . -mindepth 1 ! -type d | LC_ALL=C sort | xargs");
        assert_eq!(seen.trim_end(), SEEN, "{kind:?}");
        assert_eq!(
            site.run("cat a d/y flat file/inside; ls module | wc -l"),
            "middlelowesta file nowupper0\n"
        );
        assert!(site.scan().is_empty(), "{kind:?}: looking changes nothing");
    }
}

#[test]
fn changes_are_judged_by_the_layer_that_decides() {
    for kind in KINDS {
        let site = Site::new(kind);
        site.run(
            "printf middle > a; printf lowest > d/y; printf new > d/x; rm -r back; mkdir back; \
             printf upper > back/new; printf x > back/old; rm flat; mkdir flat; printf x > flat/x; \
             printf x > d/hidden.log; rm -r file; printf lowest > file",
        );
        assert_eq!(
            site.scan(),
            [
                "file back/old 1",
                "file d/x 3",
                "gone file",
                "file file 6",
                "gone flat",
                "file flat/x 1"
            ],
            "{kind:?}"
        );
    }
}

#[test]
fn everything_can_be_removed_and_submodules_stay_references() {
    for kind in KINDS {
        let site = Site::new(kind);
        site.run("printf f > module/f");
        assert_eq!(site.scan(), ["left module: inside a submodule"], "{kind:?}");
        site.run("rm module/f; rm -rf a back d file flat same .gitignore");
        let gone = [".gitignore", "a", "back", "d", "file", "flat", "same"];
        assert_eq!(site.scan(), gone.map(|path| format!("gone {path}")), "{kind:?}");
    }
}

#[test]
fn a_filling_over_layers_is_seen_as_filled() {
    for kind in KINDS {
        let site = Site::new(kind);
        let put = |at: &str| TreeChange::Put {
            path: path_of(at),
            kind: FileKind::File,
            size_bytes: 1,
            content: Box::new(&b"f"[..]),
        };
        let changes = [
            TreeChange::Remove { path: path_of("d") },
            put("d/e/new"),
            TreeChange::Remove { path: path_of("d/x") },
            TreeChange::Remove { path: path_of("gone/in/all") },
            put("gone/again"),
        ];
        site.workspace.fill(&mut changes.into_iter().map(Ok)).unwrap();
        assert_eq!(site.run("find d gone -type f | LC_ALL=C sort"), "d/e/new\ngone/again\n");
        assert_eq!(
            site.scan(),
            ["file d/e/new 1", "gone d/e/z", "gone d/l", "gone d/y", "file gone/again 1"],
            "{kind:?}"
        );
    }
}

#[test]
fn a_carried_directory_may_be_where_a_layer_took_something_away() {
    let tmp = tempfile::tempdir().unwrap();
    let layers = layers(tmp.path());
    let source = tmp.path().join("modules");
    fs::create_dir(&source).unwrap();
    let make = |path: &str, dir: &str| {
        let carry = [Carry { source: source.clone(), path: path_of(path) }];
        Workspace::create(&tmp.path().join(dir), &layers, &carry, WorkspaceKind::Overlay)
    };
    assert!(make("gone", "one").is_ok());
    assert!(make("back/old", "two").is_ok());
    for path in ["back", "flat/below", "d/l/below"] {
        assert!(make(path, "three").is_err(), "{path}");
    }
}
