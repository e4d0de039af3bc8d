//! Random edits through a real overlay, compared with the same edits in a plain directory, where
//! git itself says what it would add.
//!
//! The overlay is mounted in a private mount namespace of a child, so that nothing is mounted on
//! the host.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::change::{FileKind, WorkspaceChange};
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_workspace::{ScanBounds, Workspace};
use proptest::prelude::*;

use crate::fixture::{link, write};
use crate::pool::Mounted;

type Tree = BTreeMap<Vec<u8>, (FileKind, Vec<u8>)>;

const PATHS: &[&str] = &[
    "a",
    "b.log",
    "d",
    "d/x",
    "d/y.log",
    "d/e",
    "d/e/z",
    "d/e/deep/f",
    "n",
    "n/m",
    "n/.gitignore",
    "d/.gitignore",
    ".gitignore",
    "we ird\nname",
    "\u{fffd}",
    "out/o",
    "out",
];
const RULES: &[&str] = &["*.log", "/d/e/\\n!z", "out/\\n*\\n!a\\n!d", "m\\n/n/**\\nx", "!*", ""];

fn edit() -> impl Strategy<Value = String> {
    let path = || prop::sample::select(PATHS).prop_map(|path| format!("'./{path}'"));
    prop_oneof![
        3 => (path(), "[a-c]{0,3}").prop_map(|(path, text)| format!("printf {text}: > {path}")),
        2 => path().prop_map(|path| format!("rm -rf {path}")),
        2 => path().prop_map(|path| format!("mkdir -p {path}")),
        1 => (path(), path()).prop_map(|(one, two)| format!("mv -T {one} {two}")),
        1 => (path(), path()).prop_map(|(one, two)| format!("ln -sfT {one} {two}")),
        1 => path().prop_map(|path| format!("chmod -R +x {path}")),
        1 => path().prop_map(|path| format!("touch {path}")),
        1 => (prop::sample::select(RULES), prop::sample::select(&["", "d/", "n/"][..]))
            .prop_map(|(rule, place)| format!("printf '{rule}\\n' > './{place}.gitignore'")),
        1 => path().prop_map(|path| format!("rm -rf {path} && mkdir {path}")),
    ]
}

fn make_base(root: &Path) {
    for path in ["a", "b.log", "d/x", "d/e/z", "d/e/deep/f", "we ird\nname", "out/o"] {
        write(&root.join(path), path.as_bytes());
    }
    link(&root.join("d/to"), b"e/z");
    write(&root.join(".gitignore"), b"out/\n");
    git(root, &["init", "-q"]);
    git(root, &["add", "-Af", "."]);
}

fn git(root: &Path, args: &[&str]) -> Vec<u8> {
    let done = Command::new("git")
        .current_dir(root)
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git is needed to run this test");
    assert!(done.status.success(), "{}", done.stderr.escape_ascii());
    done.stdout
}

/// Runs a script at the top of the overlay, as root or with a user namespace of one's own.
pub(crate) fn in_overlay(mount: &WorkspaceMount, merged: &Path, script: &Path) {
    let WorkspaceMount::Overlay { lowers, upper, work, .. } = mount else { panic!("no overlay") };
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr,metacopy=off,index=off,redirect_dir=nofollow",
        lowers.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(":"),
        upper.display(),
        work.display()
    );
    let done = Command::new("unshare")
        .args(["-Urm", "sh", "-c"])
        .arg("mount -t overlay overlay -o \"$1\" \"$2\" && cd \"$2\" && exec sh \"$3\"")
        .arg("sh")
        .args([OsStr::new(&options), merged.as_os_str(), script.as_os_str()])
        .output()
        .expect("unshare (util-linux) is needed to run this test");
    assert!(
        done.status.success(),
        "this test needs user namespaces with overlay mounts: {}",
        done.stderr.escape_ascii()
    );
}

fn load(root: &Path, path: &[u8]) -> Option<(FileKind, Vec<u8>)> {
    let path = root.join(OsStr::from_bytes(path));
    let found = fs::symlink_metadata(&path).ok()?;
    if found.is_symlink() {
        let target = fs::read_link(&path).unwrap();
        return Some((FileKind::Symlink, target.as_os_str().as_bytes().to_vec()));
    }
    let executable = found.permissions().mode() & 0o100 != 0;
    let kind = if executable { FileKind::Executable } else { FileKind::File };
    found.is_file().then(|| (kind, fs::read(&path).unwrap()))
}

/// What git would commit of a directory: what it tracks and is there, and what it would add.
fn by_git(root: &Path) -> Tree {
    let tracked = git(root, &["ls-files", "-z"]);
    let others = git(root, &["ls-files", "-z", "-o", "--exclude-per-directory=.gitignore"]);
    let paths = [tracked, others].concat();
    let paths = paths.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    // A tracked path beneath what is a link now is gone, though it resolves.
    let straight = |path: &&[u8]| {
        let mut above = Path::new(OsStr::from_bytes(path)).ancestors().skip(1);
        above.all(|part| !root.join(part).is_symlink() || part.as_os_str().is_empty())
    };
    paths.filter(straight).filter_map(|path| Some((path.to_vec(), load(root, path)?))).collect()
}

fn by_scan(workspace: &Workspace, mut tree: Tree) -> Tree {
    let scan = workspace.scan(&ScanBounds::default()).unwrap();
    assert!(scan.left_out.is_empty(), "{:?}", scan.left_out);
    for change in &scan.changes {
        match change {
            WorkspaceChange::Remove { path } => {
                let whole = path.as_bytes().to_vec();
                let inside = [&whole[..], b"/"].concat();
                let before = tree.len();
                tree.retain(|at, _| *at != whole && !at.starts_with(&inside));
                assert!(tree.len() < before, "{path} was not there to be removed");
            }
            WorkspaceChange::Put { path, kind, size_bytes } => {
                let mut bytes = Vec::new();
                let (read_kind, size, mut content) = workspace.read(path).unwrap();
                content.read_to_end(&mut bytes).unwrap();
                assert_eq!((read_kind, size, bytes.len() as u64), (*kind, *size_bytes, size));
                let before = tree.insert(path.as_bytes().to_vec(), (*kind, bytes.clone()));
                assert_ne!(before, Some((*kind, bytes)), "{path} is put though it is unchanged");
            }
        }
    }
    tree
}

fn compare(edits: &[String], kind: WorkspaceKind) {
    compare_in(edits, |dir, base| {
        Workspace::create(dir, std::slice::from_ref(base), &[], kind).unwrap()
    });
}

fn compare_in(edits: &[String], make: impl Fn(&Path, &PathBuf) -> Workspace) {
    let tmp = tempfile::tempdir().unwrap();
    let (base, model) = (tmp.path().join("base"), tmp.path().join("model"));
    let (merged, script) = (tmp.path().join("merged"), tmp.path().join("script"));
    make_base(&base);
    let copied = Command::new("cp").arg("-a").args([&base, &model]).status().unwrap();
    assert!(copied.success());
    fs::create_dir(&merged).unwrap();
    let lines: String = edits.iter().map(|edit| format!("{{ {edit}; }} 2>/dev/null\n")).collect();
    fs::write(&script, lines + "exit 0\n").unwrap();
    let started = by_git(&base);
    let workspace = make(&tmp.path().join("ses"), &base);
    match workspace.mount() {
        WorkspaceMount::Directory { path, .. } => run(&script, &path),
        mount => in_overlay(&mount, &merged, &script),
    }
    run(&script, &model);
    assert_eq!(by_scan(&workspace, started.clone()), by_git(&model), "{edits:#?}");
    assert_eq!(by_git(&base), started, "the base was written");
    workspace.remove().unwrap();
}

pub(crate) fn run(script: &Path, at: &Path) {
    assert!(Command::new("sh").arg(script).current_dir(at).status().unwrap().success());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn an_overlay_scans_to_what_git_would_commit(edits in prop::collection::vec(edit(), 1..12)) {
        compare(&edits, WorkspaceKind::Overlay);
    }

    #[test]
    fn a_copy_scans_to_what_git_would_commit(edits in prop::collection::vec(edit(), 1..12)) {
        compare(&edits, WorkspaceKind::Copy);
    }
}

#[test]
fn a_snapshot_scans_to_what_git_would_commit() {
    let Some(mounted) = Mounted::new() else { return };
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() };
    proptest!(config, |(edits in prop::collection::vec(edit(), 1..12))| {
        compare_in(&edits, |_, base| mounted.workspace("ses", std::slice::from_ref(base)));
    });
}

#[test]
fn a_real_overlay_shows_its_filling() {
    use cofferdam_contract::change::TreeChange;
    let tmp = tempfile::tempdir().unwrap();
    let (base, merged) = (tmp.path().join("base"), tmp.path().join("merged"));
    let script = tmp.path().join("script");
    make_base(&base);
    fs::create_dir(&merged).unwrap();
    let kind = WorkspaceKind::Overlay;
    let workspace =
        Workspace::create(&tmp.path().join("ses"), std::slice::from_ref(&base), &[], kind).unwrap();
    let path = |text: &str| crate::fixture::path_of(text);
    let put = |at: &str, text: &'static str| TreeChange::Put {
        path: path(at),
        kind: FileKind::File,
        size_bytes: text.len() as u64,
        content: Box::new(text.as_bytes()),
    };
    let changes =
        [TreeChange::Remove { path: path("d") }, put("d/e/new", "new"), put("a/b", "under")];
    workspace.fill(&mut changes.into_iter().map(Ok)).unwrap();
    let seen = tmp.path().join("seen");
    fs::write(&script, format!("find d a -type f > '{}'", seen.display())).unwrap();
    in_overlay(&workspace.mount(), &merged, &script);
    assert_eq!(fs::read_to_string(seen).unwrap(), "d/e/new\na/b\n");
}
