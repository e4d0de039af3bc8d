//! Sessions without namespaces, where namespaces are refused: as an ordinary user behind a filter
//! that answers as a container engine's does. Each attack has its control: the same, outside.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cofferdam_contract::capability::{Boundary, WallName, WallStatus, WorkspaceKind};
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_sandbox::{CallResult, CallSpec, Guarded, SandboxError};

use crate::deaths::{beneath, wait_for_end_of};
use crate::masked::mask;
use crate::rootless::{as_nobody, is_clean};
use crate::support::{Open, Site, call, launcher, probe_outside, probe_path, text, wait_until};

/// A session to be opened flat.
pub(crate) fn site() -> Site {
    let mut site = Site::new();
    let tree = site.path("session/workspace/tree");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("hello"), "from the base\n").unwrap();
    for bind in &mut site.spec.view.binds {
        bind.target = bind.source.clone();
    }
    site.spec.boundary = Boundary::Flat;
    site.spec.workspace = WorkspaceMount::directory(&tree);
    site.spec.workspace_kind = WorkspaceKind::Copy;
    site.spec.workspace_path = tree;
    site
}

pub(crate) fn in_workspace(open: &Open, command: &[&str]) -> CallSpec {
    CallSpec { cwd: open.path("session/workspace/tree"), ..call(command) }
}

fn run(open: &Open, command: &[&str]) -> CallResult {
    open.start(in_workspace(open, command)).wait()
}

fn sh(open: &Open, script: &str) -> CallResult {
    run(open, &["/bin/sh", "-ec", script])
}

/// Whether the probe got what it wanted.
fn got(open: &Open, args: &[&str]) -> bool {
    let path = probe_path();
    let command: Vec<&str> = [path.as_str()].iter().chain(args).copied().collect();
    let result = run(open, &command);
    assert!(result.exit_code.is_some(), "{result:?}");
    result.exit_code == Some(0)
}

fn rules(open: &Open) -> Vec<String> {
    open.denials.0.lock().unwrap().iter().map(|it| it.rule.clone()).collect()
}

/// A process of the same user that has nothing to do with any session.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").env("SECRET_OF_BYSTANDER", "planted").stdin(Stdio::null());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn is_alive(&self) -> bool {
        let pid = rustix::process::Pid::from_raw(self.id().cast_signed()).unwrap();
        rustix::process::test_kill_process(pid).is_ok()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn where_namespaces_are_refused_flat_holds() {
    let (mut command, _dir) = as_nobody();
    command.args(["--test-threads=2", "--ignored", "flat::"]);
    mask(&mut command);
    let output = command.output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(is_clean(&said, "flat::"), "{said}");
}

#[test]
fn root_is_refused_and_anyone_else_is_not() {
    let launcher = launcher();
    let site = site();
    let opened = launcher.open(site.spec, site.denials);
    if crate::support::is_root() {
        let problem = Problem::from(opened.err().unwrap());
        assert_eq!(problem.code, Code::BoundaryUnavailable);
        assert!(problem.detail.contains("ordinary user"), "{problem:?}");
    } else {
        assert_eq!(opened.unwrap().report().backend, "flat");
    }
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn native_is_refused_and_says_what_helps() {
    let site = Site::new();
    let refused = launcher().open(site.spec, site.denials).err().unwrap();
    assert!(matches!(refused, SandboxError::WallMissing { wall: WallName::UserNamespace, .. }));
    let problem = Problem::from(refused);
    assert!(problem.hint.contains("--profile flat"), "{problem:?}");
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn the_report_says_what_stands_and_what_does_not() {
    use WallName::{
        CgroupNamespace, CleanEnvironment, ClosedDescriptors, Devices, IpcNamespace,
        LandlockFilesystem, LandlockScopes, MountNamespace, NetworkNamespace, NoCapabilities,
        NoCoreDumps, NoNewPrivileges, PidNamespace, PrivateKeyring, PrivateRoot, ProcessLimit,
        Seccomp, UserNamespace, UtsNamespace,
    };
    let launcher = launcher();
    let open = site().open(&launcher);
    let report = open.session.report();
    let expected = [
        (WallStatus::Enforced, &[Seccomp, NoNewPrivileges, NoCapabilities, LandlockFilesystem][..]),
        (WallStatus::Enforced, &[LandlockScopes, ClosedDescriptors, CleanEnvironment, NoCoreDumps]),
        // The mask refuses key rings.
        (WallStatus::Degraded, &[Devices, PrivateKeyring, ProcessLimit]),
        (WallStatus::Absent, &[UserNamespace, MountNamespace, PidNamespace, NetworkNamespace]),
        (WallStatus::Absent, &[IpcNamespace, UtsNamespace, CgroupNamespace, PrivateRoot]),
    ];
    for (status, walls) in expected {
        for wall in walls {
            assert_eq!(report.status(*wall), status, "{wall:?}");
        }
    }
    assert!(report.walls.is_sorted_by_key(|wall| wall.name));
    assert!(report.walls.iter().all(|wall| !wall.detail.is_empty()));
    assert_eq!((report.backend.as_str(), report.rootless), ("flat", true));
    let status =
        text(&sh(&open, "grep -c . hello; id -u; echo $HOME; echo $COFFERDAM_DENIALS").stdout);
    let session = open.path("session").display().to_string();
    assert!(status.contains(&format!("{session}/user")), "{status}");
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn files_beyond_the_session_are_neither_read_nor_written() {
    let launcher = launcher();
    let (open, other) = (site().open(&launcher), site().open(&launcher));
    let secret = other.path("session/user/secret");
    std::fs::write(&secret, "planted").unwrap();
    symlink(&secret, open.path("session/workspace/tree/link")).unwrap();
    let own = open.path("secret");
    std::fs::write(&own, "planted").unwrap();
    for path in [&secret, &own, &PathBuf::from("/etc/machine-id")] {
        let path = path.to_str().unwrap();
        assert!(probe_outside(&["read", path]).0, "control: {path}");
        assert!(!got(&open, &["read", path]), "{path}");
    }
    assert!(!got(&open, &["read", "link"]));
    for path in [other.path("session/user/new"), open.path("new"), open.path("session/new")] {
        let path = path.to_str().unwrap();
        assert!(!got(&open, &["write", path]), "{path}");
        assert!(probe_outside(&["write", path]).0, "control: {path}");
    }
    let listed = sh(&open, &format!("ls {}", open.dir.path().display()));
    assert_ne!(listed.exit_code, Some(0), "{}", text(&listed.stdout));
    for path in ["new", "hello"] {
        assert!(got(&open, &["write", path]), "{path}");
    }
    let works = "echo x > $HOME/x; mv $HOME/x $TMPDIR/x; mv $TMPDIR/x .; ln x y; ls . >/dev/null";
    let result = sh(&open, works);
    assert_eq!(result.exit_code, Some(0), "{}", text(&result.stderr));
    // What the session is told it can read and not change.
    let told = "cat $COFFERDAM_DENIALS >/dev/null; ! echo x 2>/dev/null >> $COFFERDAM_DENIALS";
    assert_eq!(sh(&open, told).exit_code, Some(0));
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn modes_times_and_attributes_change_in_the_session_alone() {
    let launcher = launcher();
    let open = site().open(&launcher);
    let outside = open.path("outside");
    std::fs::write(&outside, "theirs").unwrap();
    let mode = |mode| std::fs::set_permissions(&outside, PermissionsExt::from_mode(mode));
    mode(0o600).unwrap();
    let look = || {
        let found = std::fs::metadata(&outside).unwrap();
        (found.permissions().mode() & 0o7777, found.modified().unwrap())
    };
    let before = look();
    symlink(&outside, open.path("session/workspace/tree/link")).unwrap();
    symlink("..", open.path("session/workspace/tree/up")).unwrap();
    let path = outside.display().to_string();
    for attempt in [
        format!("chmod 777 {path}"),
        "chmod 777 link".to_owned(),
        "chmod 777 up/../../outside".to_owned(),
        "chmod 777 ../../../outside".to_owned(),
        format!("cd / && chmod 777 .{path}"),
        format!("touch -d 2001-01-01 {path}"),
        "touch -d 2001-01-01 link".to_owned(),
        format!("chmod 777 {}", probe_path()),
        format!("python3 -c 'import os; os.fchmod(os.open(\"{}\", 0), 0o777)'", probe_path()),
        format!("python3 -c 'import os; os.setxattr(\"{path}\", \"user.x\", b\"x\")'"),
        format!("chown $(id -u):$(id -g) {path}"),
        "chmod 4755 hello".to_owned(),
    ] {
        let result = sh(&open, &attempt);
        assert_ne!(result.exit_code, Some(0), "{attempt}");
        assert!(result.denials >= 1, "{attempt}: {}", text(&result.stderr));
    }
    assert_eq!(look(), before);
    // Control: outside the same command does it.
    assert!(Command::new("chmod").arg("777").arg(&outside).status().unwrap().success());
    assert_eq!(look().0, 0o777);
    // And in the session everything does, by every way of naming a file.
    let works = "chmod 751 hello; touch -d @1000000000 hello; cp -p hello $TMPDIR/copy; \
                 mkdir d; chmod 700 d; cd d; chmod 640 ../hello; touch -h -d @5 ../link; cd ..; \
                 tar cf $TMPDIR/a.tar hello; (cd $TMPDIR && tar xpf a.tar); \
                 python3 -c 'import os; f = os.open(\"hello\", 0); os.fchmod(f, 0o604); os.utime(f)'; \
                 stat -c '%a %Y' $TMPDIR/copy $TMPDIR/hello d hello";
    let result = sh(&open, works);
    let said = text(&result.stdout);
    assert_eq!(result.exit_code, Some(0), "{}", text(&result.stderr));
    let modes: Vec<&str> = said.lines().collect();
    assert_eq!(modes[..2], ["751 1000000000", "640 1000000000"], "{said}");
    assert!(modes[2].starts_with("700 ") && modes[3].starts_with("604 "), "{said}");
    let rules = rules(&open);
    for rule in ["seccomp.flat.change", "seccomp.flat.attributes", "seccomp.privilege"] {
        assert!(rules.iter().any(|it| it == rule), "{rule}: {rules:?}");
    }
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn processes_beyond_the_session_are_out_of_reach() {
    let launcher = launcher();
    let mut debugging = site();
    debugging.spec.debug = true;
    let (open, debugging) = (site().open(&launcher), debugging.open(&launcher));
    let bystander = Bystander::start();
    let pid = bystander.id().to_string();
    let own = std::process::id().to_string();
    let environ = format!("/proc/{pid}/environ");
    assert!(probe_outside(&["read", &environ]).1.contains("planted"), "control");
    for session in [&open, &debugging] {
        for target in [&pid, &own] {
            let killed = sh(session, &format!("kill -9 {target}"));
            assert_ne!(killed.exit_code, Some(0), "{target}");
            for file in ["environ", "cmdline", "mem", "maps", "status"] {
                assert!(!got(session, &["read", &format!("/proc/{target}/{file}")]), "{file}");
            }
            assert!(!got(session, &["trace", target]), "{target}");
            let limited = sh(session, &format!("prlimit --pid {target} --nofile=1"));
            assert_ne!(limited.exit_code, Some(0), "{target}");
            let slowed = sh(session, &format!("renice -n 19 -p {target}"));
            assert_ne!(slowed.exit_code, Some(0), "{target}");
        }
    }
    let rules = rules(&open);
    for rule in ["seccomp.process", "seccomp.trace"] {
        assert!(rules.iter().any(|it| it == rule), "{rule}: {rules:?}");
    }
    // Controls: a process of one's own can be traced under `debug`, and outside all of it works.
    assert!(got(&debugging, &["trace-own"]));
    assert!(probe_outside(&["trace", &pid]).0);
    let outside =
        |command: &str| Command::new("sh").args(["-c", command]).status().unwrap().success();
    assert!(outside(&format!("prlimit --pid {pid} --nofile=100")));
    assert!(outside(&format!("renice -n 19 -p {pid} >/dev/null")));
    assert!(outside(&format!("kill -0 {pid}")));
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn nothing_can_be_connected_to() {
    let launcher = launcher();
    let open = site().open(&launcher);
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let name = format!("cofferdam-flat-{}", std::process::id());
    let _abstract =
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let paths = [open.path("socket"), open.path("session/workspace/tree/socket")];
    let _listening = paths.each_ref().map(|path| UnixListener::bind(path).unwrap());
    let datagram = std::os::unix::net::UnixDatagram::bind(open.path("datagram")).unwrap();
    datagram.set_nonblocking(true).unwrap();
    let attempts = [
        vec!["connect", &address],
        vec!["connect-abstract", &name],
        vec!["connect-path", paths[0].to_str().unwrap()],
        vec!["connect-path", paths[1].to_str().unwrap()],
    ];
    for attempt in &attempts {
        assert!(probe_outside(attempt).0, "control: {attempt:?}");
        assert!(!got(&open, attempt), "{attempt:?}");
    }
    let send = format!(
        "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         a.sendto(b'out', '{}')",
        open.path("datagram").display()
    );
    assert_ne!(run(&open, &["python3", "-c", &send]).exit_code, Some(0));
    assert!(datagram.recv(&mut [0; 8]).is_err());
    assert!(Command::new("python3").args(["-c", &send]).status().unwrap().success(), "control");
    assert_eq!(datagram.recv(&mut [0; 8]).unwrap(), 3);
    let rules = rules(&open);
    assert!(rules.iter().all(|it| it == "seccomp.flat.socket") && !rules.is_empty(), "{rules:?}");
    let pair = "import socket\na, b = socket.socketpair()\na.sendall(b'x')\nprint(b.recv(1))";
    assert_eq!(text(&run(&open, &["python3", "-c", pair]).stdout), "b'x'\n");
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn the_hosts_ipc_and_terminals_and_watches_are_out_of_reach() {
    let launcher = launcher();
    let open = site().open(&launcher);
    let shared = format!("/dev/shm/cofferdam-flat-{}", std::process::id());
    for (attempt, control) in [
        ("ipcmk -M 16", "id=$(ipcmk -M 16); ipcrm -m ${id##* }"),
        ("python3 -c 'import pty; pty.openpty()'", "python3 -c 'import pty; pty.openpty()'"),
        (&*format!("echo x > {shared}"), &*format!("echo x > {shared} && rm {shared}")),
        (WATCH, WATCH),
        (NOTIFY, NOTIFY),
        (LEASE, LEASE),
    ] {
        assert_ne!(sh(&open, attempt).exit_code, Some(0), "{attempt}");
        let outside = Command::new("sh").args(["-c", control]).output().unwrap();
        assert!(outside.status.success(), "control: {control} {}", text(&outside.stderr));
    }
    let rules = rules(&open);
    for rule in ["seccomp.flat.ipc", "seccomp.flat.watch"] {
        assert!(rules.iter().any(|it| it == rule), "{rule}: {rules:?}");
    }
}

const WATCH: &str =
    "python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).inotify_init() < 0)'";

const NOTIFY: &str =
    "python3 -c 'import fcntl, os; fcntl.fcntl(os.open(\".\", os.O_RDONLY), fcntl.F_NOTIFY, 1)'";
/// A lease of one's own file, for reading.
const LEASE: &str = "python3 -c 'import fcntl, os, tempfile; \
    made = tempfile.mkstemp(); os.close(made[0]); \
    fcntl.fcntl(os.open(made[1], os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)'";

/// Processes of the host that beat for this session.
fn beating(open: &Open) -> usize {
    let dir = open.dir.path().display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    lines.filter(|line| text(line).contains("beat\0") && text(line).contains(&dir)).count()
}

fn daemon(open: &Open, background: bool) {
    let marker = open.path("session/workspace/tree").join(format!("beats-{background}"));
    let path = probe_path();
    let command = [path.as_str(), "daemon", marker.to_str().unwrap()];
    let spec = CallSpec { background, ..in_workspace(open, &command) };
    let result = open.start(spec).wait();
    assert_eq!(result.exit_code, Some(0), "{}", text(&result.stdout));
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn nothing_outlives_its_call_or_the_session() {
    let launcher = launcher();
    let (open, other) = (site().open(&launcher), site().open(&launcher));
    let bystander = Bystander::start();
    daemon(&other, true);
    daemon(&open, false);
    assert_eq!(beating(&open), 0);
    daemon(&open, true);
    assert_eq!(beating(&open), 1, "control: asked for in the background, it stays");
    daemon(&open, false);
    assert_eq!(beating(&open), 1);
    open.session.end();
    assert_eq!((beating(&open), beating(&other)), (0, 1));
    assert!(bystander.is_alive(), "others live on");
    drop(launcher);
    wait_until("the launcher's end is theirs", || beating(&other) == 0);
}

/// A session can end its own init, and gains nothing by it.
#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn whoever_kills_init_or_its_warden_ends_the_session() {
    let launcher = launcher();
    let open = site().open(&launcher);
    daemon(&open, true);
    let result = sh(&open, "kill -9 $PPID; sleep 1000");
    assert_eq!(result.end, CallEnd::SessionLost);
    open.session.end();
    assert_eq!(beating(&open), 0);
    // The warden is beyond the session's reach, and not beyond the user's.
    let open = site().open(&launcher);
    daemon(&open, true);
    let own = std::process::id().cast_signed();
    let all = beneath(own);
    let beats = all.iter().find(|it| it.name.starts_with("probe") && beneath(it.pid).is_empty());
    let mut line = vec![beats.unwrap().clone()];
    while let Some(parent) = all.iter().find(|it| it.pid == line[line.len() - 1].parent()) {
        line.push(parent.clone());
    }
    // From the daemon up: keeper, init, warden, launcher.
    let warden = &line[line.len() - 2];
    let pid = rustix::process::Pid::from_raw(warden.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_for_end_of(&line[..line.len() - 1]);
    assert_eq!(beating(&open), 0);
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn a_bomb_and_a_freeze_are_the_sessions_own() {
    let launcher = launcher();
    let open = site().open(&launcher);
    let bystander = Bystander::start();
    daemon(&open, true);
    let beats = open.path("session/workspace/tree/beats-true");
    // The daemon names its file.
    let named = |pid: i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains("beats-true")
    };
    let own = i32::try_from(std::process::id()).unwrap();
    let stopped = || beneath(own).iter().any(|it| named(it.pid) && it.state == "T");
    assert!(!stopped(), "control: it runs");
    open.session.freeze().unwrap();
    assert!(stopped());
    let length = std::fs::metadata(&beats).unwrap().len();
    assert!(bystander.is_alive());
    open.session.thaw().unwrap();
    wait_until("it goes on", || std::fs::metadata(&beats).unwrap().len() > length);
    // Where nothing else is kept, one signal ends all of it.
    let open = site().open(&launcher);
    let path = probe_path();
    let spec = CallSpec { timeout_ms: 2000, ..in_workspace(&open, &[&path, "bomb"]) };
    let result = open.start(spec).wait();
    assert_eq!(result.end, CallEnd::TimedOut);
    assert!(text(&result.stdout).contains("limit"), "{result:?}");
    assert_eq!(sh(&open, "exit 4").exit_code, Some(4));
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn ordinary_tools_work() {
    let launcher = launcher();
    let open = site().open(&launcher);
    let works = "git init -q . && git add -A && git commit -qm one && git status --short && \
                 printf 'int main(void){return 42;}' > m.c && cc -o m m.c && ! ./m && \
                 python3 -c 'import subprocess; print(subprocess.run([\"echo\", \"py\"], capture_output=True).stdout)' && \
                 node -e 'new (require(\"worker_threads\").Worker)(\"console.log(40+2)\", {eval: true})'";
    let result = sh(&open, works);
    let said = text(&result.stdout);
    assert_eq!(result.exit_code, Some(0), "{said}{}", text(&result.stderr));
    assert!(said.contains("42") && said.contains("py"), "{said}");
    assert_eq!(rules(&open), [""; 0]);
}

#[test]
#[ignore = "the child of where_namespaces_are_refused_flat_holds"]
fn a_session_asks_for_grants_and_writes_nothing_else_there() {
    let site = site();
    let launcher = launcher();
    let open = site.open(&launcher);
    let there = |script: &str| sh(&open, &format!("cd \"${{COFFERDAM_DENIALS%/*}}\"; {script}"));
    let asked = there("echo asked > request-grant");
    assert_eq!(asked.exit_code, Some(0), "{}", text(&asked.stderr));
    assert_eq!(open.session.asked(), b"asked\n");
    open.session.tell("told");
    assert_eq!(text(&there("cat grants.jsonl").stdout), "told\n");
    for attempt in
        ["echo x >> grants.jsonl", "rm request-grant", "echo x > new", "cat request-grant"]
    {
        assert_ne!(there(attempt).exit_code, Some(0), "{attempt}");
    }
    assert!(!open.session.asks_before_tracing());
    let path = open.path("session/workspace");
    let offer = open.session.look_at(&path, false, &Guarded::default());
    let put = offer.and_then(|offer| open.session.put(offer));
    assert!(matches!(put, Err(SandboxError::NotGranted { .. })), "{put:?}");
}
