//! Workspaces that are snapshots, in a pool of the test's own. Only root can have one: for an
//! ordinary user there is none, which is tried here too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_workspace::{Pool, ScanBounds, Workspace, WorkspaceError};

use crate::fixture::{lines, link, path_of, whiteout, write};

/// A file system of its own, as `cofferdam pool create` makes it.
pub(crate) struct Mounted {
    pub(crate) pool: Pool,
    dir: PathBuf,
    _tmp: tempfile::TempDir,
}

impl Mounted {
    /// None for an ordinary user.
    pub(crate) fn new() -> Option<Self> {
        let tmp = tempfile::tempdir().unwrap();
        let (image, dir) = (tmp.path().join("image"), tmp.path().join("pool"));
        fs::create_dir(&dir).unwrap();
        assert!(Pool::at(&dir).is_none(), "a directory is no pool");
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        tool("mkfs.btrfs", &["-q", "-m", "single", "-n", "4096", image.to_str().unwrap()]);
        let options = ["-t", "btrfs", "-o", "loop,noatime,nobarrier"];
        let places = [image.to_str().unwrap(), dir.to_str().unwrap()];
        tool("mount", &[&options[..], &places].concat());
        assert!(Pool::at(&dir).is_none(), "it is not prepared");
        assert!(Pool::prepare(&dir).unwrap(), "what is written can be counted");
        Some(Self { pool: Pool::at(&dir).unwrap(), dir, _tmp: tmp })
    }

    /// A workspace over these layers.
    pub(crate) fn workspace(&self, name: &str, layers: &[PathBuf]) -> Workspace {
        let base = self.pool.base(layers).unwrap();
        let dir = self.pool.sessions().join(name);
        Workspace::create(&dir, &[base], &[], WorkspaceKind::Btrfs).unwrap()
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.pool.sessions().join(name).join("tree")
    }

    fn subvolumes(&self) -> usize {
        let listed = Command::new("btrfs").args(["subvolume", "list"]).arg(&self.dir).output();
        String::from_utf8(listed.unwrap().stdout).unwrap().lines().count()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        tool("umount", &[self.dir.to_str().unwrap()]);
    }
}

fn tool(name: &str, args: &[&str]) {
    let done = Command::new(name).args(args).output();
    let done = done.unwrap_or_else(|_| panic!("{name} is missing: apt-get install btrfs-progs"));
    assert!(done.status.success(), "{name}: {}", done.stderr.escape_ascii());
}

fn base(top: &Path) -> PathBuf {
    let base = top.join("base");
    for path in ["a", "b", "d/x", "d/y", "d/e/z", "far/away/f"] {
        write(&base.join(path), path.as_bytes());
    }
    link(&base.join("l"), b"a");
    base
}

fn scan(workspace: &Workspace) -> Vec<String> {
    lines(&workspace.scan(&ScanBounds::default()).unwrap())
}

#[test]
fn what_was_written_is_found_whatever_was_done_to_hide_it() {
    let Some(mounted) = Mounted::new() else { return };
    let tmp = tempfile::tempdir().unwrap();
    let workspace = mounted.workspace("ses", &[base(tmp.path())]);
    let at = |path: &str| mounted.tree("ses").join(path);
    assert!(scan(&workspace).is_empty());
    // The same length, and the times put back.
    let before = fs::metadata(at("d/e/z")).unwrap().modified().unwrap();
    fs::write(at("d/e/z"), "D/E/Z").unwrap();
    fs::File::open(at("d/e/z")).unwrap().set_modified(before).unwrap();
    assert_eq!(scan(&workspace), ["file d/e/z 5"]);
    // Written and put back is no change.
    fs::write(at("d/e/z"), "d/e/z").unwrap();
    assert!(scan(&workspace).is_empty());
    // Two files of the base change their names.
    fs::rename(at("a"), at("t")).unwrap();
    fs::rename(at("b"), at("a")).unwrap();
    fs::rename(at("t"), at("b")).unwrap();
    assert_eq!(scan(&workspace), ["file a 1", "file b 1"]);
    assert_eq!(fs::read(at("a")).unwrap(), b"b");
    // A directory of the base moves, with a file in it that moves back, and gets another's name.
    fs::rename(at("far/away"), at("far2")).unwrap();
    fs::rename(at("d"), at("far/away")).unwrap();
    fs::rename(at("far/away/x"), at("x")).unwrap();
    let found = scan(&workspace);
    for line in ["gone d", "file far/away/e/z 5", "gone far/away/f", "file far2/f 10", "file x 3"] {
        assert!(found.contains(&line.to_owned()), "{line}: {found:?}");
    }
    // A second name for a file of the base, written by that name.
    fs::hard_link(at("far/away/y"), at("n")).unwrap();
    fs::write(at("n"), "changed").unwrap();
    assert!(scan(&workspace).contains(&"file far/away/y 7".to_owned()));
}

#[test]
fn only_what_changed_is_looked_at() {
    let tmp = tempfile::tempdir().unwrap();
    let base = tmp.path().join("base");
    for at in 0..2000 {
        write(&base.join(format!("{}/{at}", at / 50)), b"f");
    }
    let few = ScanBounds { entries_max: 400, ..ScanBounds::default() };
    let change = |tree: &Path| {
        write(&tree.join("7/355"), b"changed");
        write(&tree.join("39/new"), b"new");
        fs::remove_file(tree.join("20/1000")).unwrap();
    };
    let changes = ["gone 20/1000", "file 39/new 3", "file 7/355 7"];
    // Control: a copy has to be looked at as a whole.
    let dir = tmp.path().join("copy");
    let copy =
        Workspace::create(&dir, std::slice::from_ref(&base), &[], WorkspaceKind::Copy).unwrap();
    change(&dir.join("tree"));
    assert_eq!(scan(&copy), changes);
    assert!(matches!(copy.scan(&few), Err(WorkspaceError::TooMuch { max: 400, .. })));
    let Some(mounted) = Mounted::new() else { return };
    let workspace = mounted.workspace("ses", &[base]);
    change(&mounted.tree("ses"));
    assert_eq!(lines(&workspace.scan(&few).unwrap()), changes);
    assert_eq!(workspace.usage().unwrap().inodes, 4, "two directories and two files");
    // More than the bound is too much here as well.
    for at in 0..400 {
        write(&mounted.tree("ses").join(format!("more/{at}")), b"f");
    }
    assert!(matches!(workspace.scan(&few), Err(WorkspaceError::TooMuch { max: 400, .. })));
}

#[test]
fn a_base_is_made_once_and_stands_on_the_one_below() {
    let Some(mounted) = Mounted::new() else { return };
    let tmp = tempfile::tempdir().unwrap();
    let (lower, upper) = (base(tmp.path()), tmp.path().join("upper"));
    write(&upper.join("d/x"), b"newer");
    whiteout(&upper.join("far"));
    write(&upper.join("l/now/a/directory"), b"f");
    write(&upper.join("d/e"), b"a file now");
    let layers = [upper, lower];
    // Whoever comes at the same time gets the same one.
    let made: Vec<PathBuf> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            (0..8).map(|_| scope.spawn(|| mounted.pool.base(&layers).unwrap())).collect();
        asked.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(made.iter().all(|it| *it == made[0]));
    assert_eq!(mounted.subvolumes(), 2, "the base and the one below");
    let read = |path: &str| fs::read_to_string(made[0].join(path)).ok();
    assert_eq!(read("d/x").as_deref(), Some("newer"));
    assert_eq!(read("d/y").as_deref(), Some("d/y"));
    assert_eq!(read("l/now/a/directory").as_deref(), Some("f"));
    assert_eq!(read("d/e").as_deref(), Some("a file now"));
    assert!(!made[0].join("far").exists());
    // What it shares with the one below has the same inode there.
    let inode = |base: &Path| rustix::fs::stat(base.join("d/y")).unwrap().st_ino;
    let below = mounted.pool.base(&layers[1..]).unwrap();
    assert_eq!(inode(&made[0]), inode(&below));
    let written = fs::write(made[0].join("d/y"), "x").unwrap_err();
    assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // Control: a snapshot of it can be written.
    let workspace = mounted.workspace("ses", &layers);
    fs::write(mounted.tree("ses").join("d/y"), "x").unwrap();
    assert_eq!(scan(&workspace), ["file d/y 1"]);
}

#[test]
fn what_a_killed_preparer_or_reader_left_is_in_nobodys_way() {
    let Some(mounted) = Mounted::new() else { return };
    let tmp = tempfile::tempdir().unwrap();
    let layers = [base(tmp.path())];
    let made = mounted.pool.base(&layers).unwrap();
    let place = made.parent().unwrap().to_owned();
    let partial = place.with_extension("partial");
    // Half of it, as a kill leaves it.
    fs::rename(&place, &partial).unwrap();
    tool("btrfs", &["property", "set", partial.join("tree").to_str().unwrap(), "ro", "false"]);
    fs::remove_file(partial.join("tree/a")).unwrap();
    assert_eq!(mounted.pool.base(&layers).unwrap(), made);
    assert!(made.join("a").exists() && !partial.exists());
    // A snapshot that was being read.
    let workspace = mounted.workspace("ses", &layers);
    let dir = mounted.pool.sessions().join("ses");
    let frozen = dir.join("frozen");
    let (tree, frozen_path) = (mounted.tree("ses"), frozen.to_str().unwrap());
    tool("btrfs", &["subvolume", "snapshot", tree.to_str().unwrap(), frozen_path]);
    fs::write(tree.join("a"), "changed").unwrap();
    assert_eq!(scan(&workspace), ["file a 7"]);
    assert!(!frozen.exists());
    // Bases whose layers are there stay; what is half made and what is of nothing goes.
    fs::create_dir(&partial).unwrap();
    assert_eq!(mounted.pool.collect().unwrap(), 1);
    assert!(made.exists());
    fs::remove_dir_all(&layers[0]).unwrap();
    assert_eq!(mounted.pool.collect().unwrap(), 1);
    assert!(!made.exists());
    // The session has its own share of it, and goes at once with everything.
    assert_eq!(fs::read(tree.join("b")).unwrap(), b"b");
    drop(workspace);
    cofferdam_workspace::remove_dir(&dir).unwrap();
    assert_eq!(mounted.subvolumes(), 0);
}

/// The pool's file system has no room for such a link in one node.
#[test]
fn what_could_not_be_made_is_not_tried_again_before_there_is_more_room() {
    let Some(mounted) = Mounted::new() else { return };
    let tmp = tempfile::tempdir().unwrap();
    let layers = [base(tmp.path())];
    link(&layers[0].join("long"), "a/".repeat(2000).as_bytes());
    let filling = mounted.dir.join("filling");
    fs::write(&filling, vec![1; 8 << 20]).unwrap();
    tool("sync", &["-f", mounted.dir.to_str().unwrap()]);
    assert!(mounted.pool.may_take(&layers));
    mounted.pool.base(&layers).unwrap_err();
    assert!(!mounted.pool.may_take(&layers));
    // Nobody clears it away while what it is about is there.
    assert_eq!(mounted.pool.collect().unwrap(), 0);
    assert!(!mounted.pool.may_take(&layers));
    fs::remove_file(&filling).unwrap();
    tool("sync", &["-f", mounted.dir.to_str().unwrap()]);
    assert!(mounted.pool.may_take(&layers));
    mounted.pool.base(&layers).unwrap_err();
    fs::remove_dir_all(&layers[0]).unwrap();
    assert_eq!(mounted.pool.collect().unwrap(), 1);
    assert_eq!(mounted.subvolumes(), 0);
}

#[test]
fn the_file_system_refuses_what_is_beyond_the_bound() {
    let Some(mounted) = Mounted::new() else { return };
    let tmp = tempfile::tempdir().unwrap();
    let layers = [base(tmp.path())];
    let bounded = mounted.workspace("bounded", &layers);
    let _free = mounted.workspace("free", &layers);
    assert!(bounded.bound(8 << 20));
    let fill = |name: &str| fs::write(mounted.tree(name).join("large"), vec![7_u8; 32 << 20]);
    // Control: the same without a bound.
    fill("free").unwrap();
    let refused = fill("bounded").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::DQUOT.raw_os_error()));
    assert!(bounded.usage().unwrap().bytes <= 16 << 20);
    assert_eq!(bounded.read(&path_of("a")).unwrap().1, 1);
}

#[test]
fn elsewhere_there_is_no_snapshot() {
    let tmp = tempfile::tempdir().unwrap();
    let base = base(tmp.path());
    let dir = tmp.path().join("ses");
    let refused = Workspace::create(&dir, &[base], &[], WorkspaceKind::Btrfs);
    assert!(matches!(refused, Err(WorkspaceError::Io { .. })));
    assert!(Pool::of_sessions(&tmp.path().join("sessions")).is_none());
}
