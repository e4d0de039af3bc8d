//! What a session sees of the host is layered: nothing about it is shared but what is read.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use cofferdam_contract::capability::{WallName, WallStatus};
use cofferdam_sandbox::Launcher;
use cofferdam_sandbox::view::Bind;
use rustix::fs::FlockOperation;

use crate::rootless::{as_nobody, is_clean};
use crate::support::{Open, Site, call, is_root, launcher, text, wait_until};

/// A user whose files are not those of nobody, as whom those of others appear.
const ORDINARY: u32 = 1000;

/// Watches the first argument, says `ready`, and tells how often it was opened until `go` is
/// written to.
const WATCH: &str = "import ctypes, os, sys\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    fd = libc.inotify_init1(os.O_NONBLOCK)\n\
    assert libc.inotify_add_watch(fd, sys.argv[1].encode(), 0x20) > 0, ctypes.get_errno()\n\
    os.mkfifo('go'); open('ready', 'w').close(); open('go').read()\n\
    try: print(len(os.read(fd, 4096)) > 0)\n\
    except BlockingIOError: print(False)\n";

/// Locks the first argument, says `ready`, and waits for `go`.
const LOCK: &str = "import fcntl, os, sys\n\
    file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
    os.mkfifo('go'); open('ready', 'w').close(); open('go').read()\n";

/// A session with a directory of the host's at `/opt/shared`, and a file of it at `/opt/alone`.
fn open_with_shared(launcher: &Launcher) -> Open {
    let mut site = Site::new();
    fs::create_dir(site.path("shared")).unwrap();
    fs::write(site.path("shared/file"), "of the host").unwrap();
    let file = site.path("shared/file");
    for (source, target) in [(site.path("shared"), "/opt/shared"), (file, "/opt/alone")] {
        site.spec.view.binds.push(Bind { source, target: target.into() });
    }
    site.open(launcher)
}

/// What a program says that runs in a session while the host does something.
fn inside(open: &Open, program: &str, file: &str, meanwhile: impl FnOnce()) -> String {
    let running = open.start(call(&["python3", "-c", program, file]));
    let ready = open.path("session/upper/ready");
    wait_until("it is ready", || ready.exists());
    meanwhile();
    open.sh("echo > go");
    let result = running.wait();
    assert_eq!(result.exit_code, Some(0), "{}", text(&result.stderr));
    open.sh("rm go ready");
    text(&result.stdout)
}

/// The same on the host.
fn outside(program: &str, file: &Path, meanwhile: impl FnOnce()) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", program]).arg(file).current_dir(dir.path());
    let running = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    wait_until("it is ready", || dir.path().join("ready").exists());
    meanwhile();
    fs::write(dir.path().join("go"), "\n").unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success());
    text(&output.stdout)
}

#[test]
fn a_session_does_not_hear_of_what_others_open() {
    let launcher = launcher();
    let open = open_with_shared(&launcher);
    let file = open.path("shared/file");
    let look = || drop(fs::read(&file).unwrap());
    for inside_name in ["/opt/shared/file", "/opt/alone"] {
        assert_eq!(inside(&open, WATCH, inside_name, look), "False\n", "{inside_name}");
        // Control: its own it does hear of.
        let own = || drop(open.run(&["cat", inside_name]));
        assert_eq!(inside(&open, WATCH, inside_name, own), "True\n", "{inside_name}");
    }
    // Control: where there is no layer, everybody is heard of.
    assert_eq!(outside(WATCH, &file, look), "True\n");
    assert_eq!(inside(&open, WATCH, "/usr/bin/env", || drop(fs::read("/usr/bin/env"))), "False\n");
}

#[test]
fn a_lock_in_a_session_holds_up_nobody_else() {
    let launcher = launcher();
    let open = open_with_shared(&launcher);
    let file = open.path("shared/file");
    let locked = || {
        let file = File::open(&file).unwrap();
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
    };
    for inside_name in ["/opt/shared/file", "/opt/alone"] {
        inside(&open, LOCK, inside_name, || assert!(!locked(), "{inside_name}"));
    }
    // Control: without a layer it does.
    outside(LOCK, &file, || assert!(locked()));
}

/// Also the one that a call has for its standard input, which came from outside.
#[test]
fn device_files_are_the_sessions_own_where_they_can_be_made() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let own = if is_root() { WallStatus::Enforced } else { WallStatus::Degraded };
    assert_eq!(open.session.report().status(WallName::Devices), own);
    let use_each = "echo x > /dev/null && ! echo x 2> /dev/null > /dev/full && \
                    for it in zero random urandom; do head -c 3 /dev/$it; done | wc -c";
    assert_eq!(text(&open.sh(use_each).stdout), "9\n");
    assert_eq!(open.sh("touch /dev/null").exit_code, Some(1), "its times are everybody's");
    if !is_root() {
        return;
    }
    let null = Path::new("/dev/null");
    let look = || drop(File::open(null).unwrap());
    for inside_name in ["/dev/null", "/proc/self/fd/0"] {
        assert_eq!(inside(&open, WATCH, inside_name, look), "False\n", "{inside_name}");
        // Control: what the session does with it is heard.
        let own = || drop(open.sh("cat /dev/null"));
        assert_eq!(inside(&open, WATCH, inside_name, own), "True\n", "{inside_name}");
    }
    // Control: of the host's everybody is heard.
    assert_eq!(outside(WATCH, null, look), "True\n");
    inside(&open, LOCK, "/dev/null", || drop(outside(LOCK, null, || ())));
}

#[test]
fn two_sessions_do_not_share_a_lock() {
    let launcher = launcher();
    let (one, other) = (Site::new().open(&launcher), Site::new().open(&launcher));
    inside(&one, LOCK, "/usr/bin/env", || {
        inside(&other, LOCK, "/usr/bin/env", || ());
        // Control: in one session there is one lock.
        let again = call(&["python3", "-c", LOCK, "/usr/bin/env"]);
        assert_eq!(one.start(again).wait().exit_code, Some(1));
    });
}

/// A mount tells of its place in its file system (`/proc/self/mountinfo`).
#[test]
fn parts_of_a_directory_share_its_layer_and_no_mount_tells_where_on_the_host_that_is() {
    let mut site = Site::new();
    for name in ["one", "other"] {
        let source = site.path("hidden").join(name);
        fs::create_dir_all(&source).unwrap();
        site.spec.view.binds.push(Bind { source, target: Path::new("/opt").join(name) });
    }
    let launcher = launcher();
    let open = site.open(&launcher);
    let devices = text(&open.sh("stat -c %d /opt/one /opt/other /usr").stdout);
    let devices: Vec<_> = devices.lines().collect();
    assert_eq!(devices[0], devices[1]);
    // Control: it is not that of another.
    assert_ne!(devices[0], devices[2]);
    let mounts = text(&open.run(&["cat", "/proc/self/mountinfo"]).stdout);
    assert!(mounts.contains(" /one /opt/one ") && !mounts.contains("hidden"), "{mounts}");
}

/// Gives this thread, and what it starts, mounts of its own, which go with it. False without
/// privilege, which has none to give.
fn with_own_mounts() -> bool {
    if !is_root() {
        return false;
    }
    // SAFETY: no descriptors are unshared, and nothing here relies on a shared root or directory.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    mount(&["--make-rprivate", "/"]);
    true
}

fn mount(args: &[&str]) {
    assert!(Command::new("mount").args(args).status().unwrap().success(), "mount {args:?}");
}

#[test]
fn what_is_mounted_beneath_a_directory_is_seen_in_it() {
    if !with_own_mounts() {
        return;
    }
    let mut site = Site::new();
    let tools = site.path("tools");
    fs::create_dir_all(tools.join("a b/deep")).unwrap();
    mount(&["-t", "tmpfs", "none", tools.join("a b").to_str().unwrap()]);
    fs::create_dir(tools.join("a b/deep")).unwrap();
    mount(&["-t", "tmpfs", "none", tools.join("a b/deep").to_str().unwrap()]);
    fs::write(tools.join("a b/deep/tool"), "found").unwrap();
    site.spec.view.binds.push(Bind { source: tools, target: "/opt/tools".into() });
    let launcher = launcher();
    let open = site.open(&launcher);
    let result = open.sh("cat '/opt/tools/a b/deep/tool'; echo > '/opt/tools/a b/deep/tool'");
    assert_eq!(text(&result.stdout), "found", "{}", text(&result.stderr));
    assert_eq!(result.exit_code, Some(2), "it is read-only");
}

#[test]
fn what_cannot_be_layered_is_bound_and_the_report_names_it() {
    if !with_own_mounts() {
        return;
    }
    let mut site = Site::new();
    for name in ["a", "b", "one", "two"] {
        fs::create_dir(site.path(name)).unwrap();
    }
    fs::write(site.path("a/tool"), "found").unwrap();
    // Overlays are stacked two deep at most (fs/overlayfs, FILESYSTEM_MAX_STACK_DEPTH).
    let at = |name: &str| site.path(name).to_str().unwrap().to_owned();
    let overlay = |lower: &str, over: &str| {
        let option = format!("lowerdir={}:{}", at(lower), at("b"));
        mount(&["-t", "overlay", "none", "-o", &option, &at(over)]);
    };
    overlay("a", "one");
    overlay("one", "two");
    let stacked = site.path("two");
    site.spec.view.binds.push(Bind { source: stacked, target: "/opt/stacked".into() });
    let launcher = launcher();
    let open = site.open(&launcher);
    assert_eq!(text(&open.sh("cat /opt/stacked/tool").stdout), "found");
    let walls = &open.session.report().walls;
    let wall = walls.iter().find(|wall| wall.name == WallName::PrivateRoot).unwrap();
    assert_eq!(wall.status, WallStatus::Degraded, "{wall:?}");
    assert!(wall.detail.contains("host: /opt/stacked ("), "{wall:?}");
}

/// What is mounted beneath a directory an ordinary user cannot take apart from it
/// (mount_namespaces(7)): files in `/etc` of any container, say.
#[test]
fn what_an_ordinary_user_cannot_layer_does_not_keep_a_session_from_opening() {
    if !with_own_mounts() {
        return;
    }
    mount(&["--bind", "/etc/hostname", "/etc/hosts"]);
    mount(&["-t", "tmpfs", "none", "/usr/local/games"]);
    let (mut command, dir) = as_nobody();
    chown(dir.path().join("tmp"), Some(ORDINARY), Some(ORDINARY)).unwrap();
    let test = "walls::directories_of_tools_are_listed_from_the_top";
    let output = command.uid(ORDINARY).gid(ORDINARY).args(["--exact", test]).output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && is_clean(&said, test), "{said}");
}
