//! What a workspace must be to whoever works in it, the same for every driver: real sessions, and
//! the changeset that the host reads of them. Where drivers differ, the difference is written in
//! [`Driver`], and a driver that began to differ otherwise would fail.

mod random;
mod site;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::change::{FileKind, TreeChange};
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::path::RepoPath;
use cofferdam_sandbox::CallIo;
use rustix::fs::{FlockOperation, flock};

use site::Site;

/// One driver and what is particular to it.
struct Driver {
    kind: WorkspaceKind,
    /// rename(2) of a directory that the base has is EXDEV, as between file systems: `mv` copies
    /// then, `git mv` gives up. An overlay could only answer otherwise with `redirect_dir`, which a
    /// user namespace may not have.
    moves_base_directories: bool,
    /// Memory that was mapped before the first write to a file of the base shows that write
    /// (overlayfs.rst, "Non-standard behavior").
    early_mappings_see_writes: bool,
    /// A name that is given to a file of the base has the same inode number as the first.
    new_names_have_the_number: bool,
}

const OVERLAY: Driver = Driver {
    kind: WorkspaceKind::Overlay,
    moves_base_directories: false,
    early_mappings_see_writes: false,
    new_names_have_the_number: false,
};
const COPY: Driver = Driver {
    kind: WorkspaceKind::Copy,
    moves_base_directories: true,
    early_mappings_see_writes: true,
    new_names_have_the_number: true,
};

/// As a copy in everything.
const BTRFS: Driver = Driver { kind: WorkspaceKind::Btrfs, ..COPY };

/// Every test for every driver.
macro_rules! conformance {
    ($($driver:ident = $expected:expr),* => $tests:tt) => {
        $(conformance!(@driver $driver $expected, $tests);)*
    };
    (@driver $driver:ident $expected:expr, [$($test:ident,)*]) => {
        mod $driver {
            $(#[test]
            fn $test() {
                // Where there can be no pool is tried in `pool`.
                if crate::pool::can_hold($expected.kind) {
                    super::$test(&$expected);
                }
            })*
        }
    };
}

conformance!(overlay = super::OVERLAY, copy = super::COPY, btrfs = super::BTRFS => [
    files_are_edited_made_and_removed,
    directories_of_the_base_are_renamed,
    hard_links_are_one_file,
    locks_do_not_reach_the_host,
    removed_and_remade_directories_are_empty,
    a_filled_workspace_is_seen_as_filled,
    a_frozen_workspace_holds_still,
    mapped_memory_is_written_back,
    extended_attributes_are_kept_and_are_no_change,
    forged_marks_take_nothing_from_the_result,
    modes_are_kept_and_only_the_executable_bit_is_a_change,
    links_are_kept_as_they_are,
    names_that_differ_in_case_are_two,
    the_base_stays_as_it_was,
]);

fn files_are_edited_made_and_removed(driver: &Driver) {
    let site = Site::new(driver.kind);
    assert!(site.difference().is_empty());
    site.sh(
        "echo more >> a; rm d/x; mkdir -p n/m; echo new > n/m/file; mv b.txt c.txt; mkdir empty",
    );
    assert_eq!(
        site.difference(),
        ["file a one\nmore", "file c.txt two", "file n/m/file new", "gone b.txt", "gone d/x"]
    );
    site.sh("rm -r n; mv c.txt b.txt; git checkout -q -- a d");
    assert!(site.difference().is_empty(), "what is as before is no change");
}

fn directories_of_the_base_are_renamed(driver: &Driver) {
    let site = Site::new(driver.kind);
    let rename = "import os\ntry: os.rename('d/e', 'moved')\nexcept OSError as e: print(e.errno)";
    let moved = driver.moves_base_directories;
    assert_eq!(site.python(rename), if moved { "" } else { "18\n" }, "18 is EXDEV");
    if moved {
        site.sh("mv moved d/e");
    }
    let result = site.run(&["git", "mv", "d", "elsewhere"]);
    let said = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.exit_code == Some(0), moved, "{said}");
    if moved {
        site.sh("git mv elsewhere d");
    }
    assert!(site.difference().is_empty(), "a refused rename changes nothing");
    // What everybody uses works everywhere, and comes to the same.
    site.sh("mv d/e moved");
    assert_eq!(
        site.difference(),
        ["file moved/deep/f f", "file moved/z z", "gone d/e/deep/f", "gone d/e/z"]
    );
    // A directory of the session's own moves at once.
    site.python("import os\nos.rename('moved', 'again')");
    assert!(site.difference().contains(&"file again/z z".to_owned()));
}

fn hard_links_are_one_file(driver: &Driver) {
    let site = Site::new(driver.kind);
    site.sh("ln a second; ln second d/third; echo more >> second");
    assert_eq!(site.sh("stat -c %h a; cat d/third"), "3\none\nmore\n");
    let numbers = if driver.new_names_have_the_number { "1\n" } else { "2\n" };
    assert_eq!(site.sh("stat -c %i a second d/third | sort -u | wc -l"), numbers);
    assert_eq!(site.sh("echo n > n; ln n m; stat -c %i n m | sort -u | wc -l; rm n m"), "1\n");
    assert_eq!(
        site.difference(),
        ["file a one\nmore", "file d/third one\nmore", "file second one\nmore"]
    );
    assert_eq!(std::fs::read(site.base.join("a")).unwrap(), b"one\n");
}

const LOCK: &str = "import fcntl,sys\nf=open('a')\n\
    try: fcntl.flock(f,fcntl.LOCK_EX|fcntl.LOCK_NB); print('held')\n\
    except BlockingIOError: print('refused')\nsys.stdout.flush()\nsys.stdin.read()";

fn locks_do_not_reach_the_host(driver: &Driver) {
    let site = Site::new(driver.kind);
    let theirs = File::open(site.base.join("a")).unwrap();
    flock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(site.sh(&format!("python3 -c \"{LOCK}\" < /dev/null")), "held\n");
    drop(theirs);
    assert_eq!(held_inside(&site.session, &site.base.join("a")), (b'h', true));
    // The control: through a bind of the base, the session's lock shuts the host out.
    let (launcher, bound) = (site::launcher(), tempfile::tempdir().unwrap());
    let mount = WorkspaceMount::directory(&site.base);
    let session = site::open(&launcher, bound.path(), mount, driver.kind);
    assert_eq!(held_inside(&session, &site.base.join("a")), (b'h', false));
}

/// Takes a lock inside; what the session says of it, and whether the host gets its own meanwhile.
fn held_inside(session: &cofferdam_sandbox::Session, path: &std::path::Path) -> (u8, bool) {
    use std::io::Read as _;
    let (held, stdin) = std::io::pipe().unwrap();
    let (mut said, stdout) = std::io::pipe().unwrap();
    let stderr = File::options().write(true).open("/dev/null").unwrap();
    let io = CallIo::Passed { stdin: held.into(), stdout: stdout.into(), stderr: stderr.into() };
    let call = session.call(site::call(&["python3", "-c", LOCK]), io).unwrap();
    let mut first = [0];
    said.read_exact(&mut first).unwrap();
    let free = flock(File::open(path).unwrap(), FlockOperation::NonBlockingLockExclusive).is_ok();
    drop(stdin);
    assert_eq!(call.wait().exit_code, Some(0));
    (first[0], free)
}

fn removed_and_remade_directories_are_empty(driver: &Driver) {
    let site = Site::new(driver.kind);
    site.sh("rm -r d; test ! -e d; mkdir d; echo new > d/n; rm a; test ! -e a; mkdir a");
    assert_eq!(site.sh("ls -A d a"), "a:\n\nd:\nn\n");
    assert_eq!(
        site.difference(),
        [
            "file d/n new",
            "gone a",
            "gone d/e/deep/f",
            "gone d/e/z",
            "gone d/to",
            "gone d/x",
            "gone d/y"
        ]
    );
    site.sh("rmdir a; rm d/n; rmdir d; git checkout -q -- .");
    assert!(site.difference().is_empty());
}

fn a_filled_workspace_is_seen_as_filled(driver: &Driver) {
    let path = |text: &str| RepoPath::new(text.as_bytes()).unwrap();
    let put = |at: &str, kind, text: &'static str| TreeChange::Put {
        path: path(at),
        kind,
        size_bytes: text.len() as u64,
        content: Box::new(text.as_bytes()),
    };
    let site = Site::filled(
        &Arc::new(site::launcher()),
        driver.kind,
        vec![
            TreeChange::Remove { path: path("d") },
            put("d/e/new", FileKind::Executable, "new"),
            TreeChange::Remove { path: path("b.txt") },
            put("b.txt/under", FileKind::File, "u"),
            put("l", FileKind::Symlink, "b.txt/under"),
        ],
    );
    assert_eq!(
        site.sh("find . -name .git -prune -o -type f -print | sort; cat l"),
        "./a\n./b.txt/under\n./d/e/new\n./run\nu"
    );
    let filled = [
        "file b.txt/under u",
        "exec d/e/new new",
        "link l b.txt/under",
        "gone b.txt",
        "gone d/e/deep/f",
        "gone d/e/z",
        "gone d/to",
        "gone d/x",
        "gone d/y",
    ];
    assert_eq!(site.difference(), filled);
    site.sh("echo more >> d/e/new; rm l; git checkout -q -- d/x");
    let mut expected = filled.map(str::to_owned).to_vec();
    expected[1] = "exec d/e/new newmore".to_owned();
    expected.retain(|line| !line.starts_with("link") && line != "gone d/x");
    assert_eq!(site.difference(), expected);
}

fn a_frozen_workspace_holds_still(driver: &Driver) {
    let site = Site::new(driver.kind);
    let writer =
        site.start(&["/bin/sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > count; done"]);
    let stopper = writer.stopper();
    let count = RepoPath::new(b"count").unwrap();
    let read = || site.workspace.read(&count).ok().map(|_| site.read_if_steady(&count));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            writer.wait();
            over.store(true, Ordering::Relaxed);
        });
        let moved_from = |seen: &Option<Option<Vec<u8>>>| {
            until(|| {
                !over.load(Ordering::Relaxed)
                    && read().is_some_and(|now| now.is_some() && Some(&now) != seen.as_ref())
            });
        };
        moved_from(&None);
        for _ in 0..3 {
            site.session.freeze().unwrap();
            let seen = read();
            assert!((0..200).all(|_| read() == seen), "frozen, it was written");
            site.session.thaw().unwrap();
            // The control: what is not frozen moves.
            moved_from(&seen);
        }
        stopper.stop();
        ended.join().unwrap();
    });
}

/// The bound is for a broken driver, not for a slow machine.
fn until(ready: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !ready() {
        assert!(started.elapsed().as_secs() < 60, "waited in vain");
        std::thread::yield_now();
    }
}

fn mapped_memory_is_written_back(driver: &Driver) {
    let site = Site::new(driver.kind);
    let program = "import mmap\nr=open('a','rb')\nearly=mmap.mmap(r.fileno(),0,access=mmap.ACCESS_READ)\n\
        f=open('a','r+b')\nm=mmap.mmap(f.fileno(),0)\nm[0:3]=b'ONE'\nm.flush()\n\
        print(early[0:3].decode(), open('a').read(3))";
    let early = if driver.early_mappings_see_writes { "ONE" } else { "one" };
    assert_eq!(site.python(program), format!("{early} ONE\n"));
    assert_eq!(site.difference(), ["file a ONE"]);
    // A private mapping of the base's file, as a program or library is mapped, stays its own.
    site.python("import mmap\nf=open('d/x','rb')\nm=mmap.mmap(f.fileno(),0,flags=mmap.MAP_PRIVATE)\nm[0:1]=b'!'");
    assert_eq!(site.difference(), ["file a ONE"]);
}

fn extended_attributes_are_kept_and_are_no_change(driver: &Driver) {
    let site = Site::new(driver.kind);
    let program = "import os\nos.setxattr('a','user.note',b'kept')\nos.setxattr('d','user.note',b'of d')\n\
        print(os.getxattr('a','user.note').decode(), os.listxattr('d'))";
    assert_eq!(site.python(program), "kept ['user.note']\n");
    assert!(site.difference().is_empty());
    assert!(rustix::fs::getxattr(site.base.join("a"), "user.note", &mut [0; 8][..]).is_err());
}

/// A session may write what an overlay marks its layers with. It can take things from its own
/// sight in that way; from the base's, and so from the result, only what it could remove anyway.
fn forged_marks_take_nothing_from_the_result(driver: &Driver) {
    let site = Site::new(driver.kind);
    let program = "import os\nfor name in ('opaque','redirect','metacopy','whiteout','origin'):\n\
        \x20for path in ('.','d','a'):\n\
        \x20 try: os.setxattr(path,'user.overlay.'+name,b'y')\n\
        \x20 except OSError: pass\n\
        print(sorted(os.listdir('d')))";
    assert_eq!(site.python(program), "['e', 'to', 'x', 'y']\n");
    assert!(site.difference().is_empty());
    // The control: the same change by ordinary means is one.
    site.sh("rm d/x");
    assert_eq!(site.difference(), ["gone d/x"]);
    // Device 0/0 is what an overlay takes for a removed file; making one is refused to everybody.
    let device = "import os,stat\nos.mknod('forged', stat.S_IFCHR, 0)";
    assert_ne!(site.run(&["python3", "-c", device]).exit_code, Some(0));
    assert_eq!(site.difference(), ["gone d/x"]);
}

fn modes_are_kept_and_only_the_executable_bit_is_a_change(driver: &Driver) {
    let site = Site::new(driver.kind);
    site.sh("chmod 600 a; chmod 700 d; chmod +x b.txt; chmod -x run; chmod 400 d/x");
    assert_eq!(site.sh("stat -c %a a d b.txt run d/x"), "600\n700\n755\n644\n400\n");
    assert_eq!(site.difference(), ["exec b.txt two", "file run #!/bin/sh"]);
    // Bits that were taken away hide nothing.
    site.sh("echo deep > d/e/deep/f; chmod 0 d/e/deep/f d/e/deep d/e d");
    assert!(site.difference().contains(&"file d/e/deep/f deep".to_owned()));
}

fn links_are_kept_as_they_are(driver: &Driver) {
    let site = Site::new(driver.kind);
    site.sh("ln -s /etc/shadow out; ln -s nowhere dangling; ln -s loop loop; ln -sfn d/e into; \
        ln -sf y d/to; rm a; ln -s b.txt a");
    assert_eq!(site.sh("cat a d/to into/z"), "two\ny\nz\n");
    assert_eq!(
        site.difference(),
        [
            "link a b.txt",
            "link d/to y",
            "link dangling nowhere",
            "link into d/e",
            "link loop loop",
            "link out /etc/shadow"
        ]
    );
}

fn names_that_differ_in_case_are_two(driver: &Driver) {
    let site = Site::new(driver.kind);
    site.sh("echo large > A; mkdir D; echo in > D/x; mv b.txt B.TXT");
    assert_eq!(site.sh("cat a A D/x d/x B.TXT"), "one\nlarge\nin\nx\ntwo\n");
    assert_eq!(site.difference(), ["file A large", "file B.TXT two", "file D/x in", "gone b.txt"]);
}

fn the_base_stays_as_it_was(driver: &Driver) {
    let site = Site::new(driver.kind);
    let before = crate::world::contents(&site.base);
    site.sh("rm -rf d .git; echo x > a; chmod 777 b.txt run; touch -d @0 b.txt; mkdir d");
    assert_eq!(crate::world::contents(&site.base), before);
    assert_eq!(site.difference().len(), 7);
    let dir = site.dir.clone();
    site.session.end();
    site.workspace.remove().unwrap();
    assert!(!dir.join("workspace").exists());
    assert_eq!(crate::world::contents(&site.base), before);
}
