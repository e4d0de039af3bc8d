//! What the tests share: a launcher, a session on directories of its own, and counting.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use cofferdam_contract::capability::{Boundary, WorkspaceKind};
use cofferdam_contract::denial::Denial;
use cofferdam_contract::ids::{CallId, SessionId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::time::UtcTime;
use cofferdam_sandbox::view::Bind;
use cofferdam_sandbox::{
    Call, CallIo, CallResult, CallSpec, DenialSink, Launcher, LauncherOptions, Program,
    SandboxSpec, Session, View,
};

/// Names another copy of the probe, for a user who cannot reach the one that was built.
pub(crate) const PROBE_VARIABLE: &str = "COFFERDAM_TEST_PROBE";
/// Set, every session that is like the first begins as a spare.
pub(crate) const SPARE_VARIABLE: &str = "COFFERDAM_TEST_SPARE";
/// Where the probe is inside.
pub(crate) const PROBE_INSIDE: &str = "/opt/probe";

pub(crate) fn probe_path() -> String {
    std::env::var(PROBE_VARIABLE)
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_cofferdam-sandbox-probe").to_owned())
}

/// Says that the tests' group was delegated to their user.
pub(crate) const DELEGATED_VARIABLE: &str = "COFFERDAM_TEST_DELEGATED";

/// Whether sessions have control groups here.
pub(crate) fn has_groups() -> bool {
    is_root() || std::env::var_os(DELEGATED_VARIABLE).is_some()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UtcTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UtcTime::from_unix_ms(u64::try_from(since.as_millis()).unwrap())
    }
}

/// Different at every use and in every process; nothing here needs more.
pub(crate) struct Counter;

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut state =
            (u64::from(std::process::id()) << 32) ^ NEXT.fetch_add(1, Ordering::Relaxed);
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
    }
}

#[derive(Default)]
pub(crate) struct Denials(pub(crate) Mutex<Vec<Denial>>);

impl DenialSink for Denials {
    fn denied(&self, denial: Denial) {
        self.0.lock().unwrap().push(denial);
    }

    fn lost(&self, _count: u64, _source: &str) {}
}

pub(crate) fn launcher() -> Launcher {
    let spare = std::env::var_os(SPARE_VARIABLE).is_some();
    let launcher = launcher_with(spare);
    if spare {
        two_of_a_kind(&launcher);
    }
    launcher
}

/// After these, there is a spare of their kind.
pub(crate) fn two_of_a_kind(launcher: &Launcher) {
    for _ in 0..2 {
        drop(Site::new().open(launcher));
    }
}

pub(crate) fn launcher_with(spare: bool) -> Launcher {
    launcher_that(spare, false)
}

/// With the kernel's audit, where `landlock_audit`.
pub(crate) fn launcher_that(spare: bool, landlock_audit: bool) -> Launcher {
    let executable = probe_path().into();
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(Counter));
    let options = LauncherOptions { executable, clock, entropy, spare, landlock_audit };
    Launcher::start(options).unwrap()
}

/// A session's directories on the host, and its specification.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) spec: SandboxSpec,
    pub(crate) denials: Arc<Denials>,
}

impl Site {
    /// An overlay workspace over a base with a file `hello`.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("cofferdam-host-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["base", "session/upper", "session/work"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("base/hello"), "from the base\n").unwrap();
        let at = |name: &str| dir.path().join(name);
        let workspace = WorkspaceMount::Overlay {
            lowers: vec![at("base")],
            upper: at("session/upper"),
            work: at("session/work"),
            carries: Vec::new(),
        };
        let spec = SandboxSpec {
            session: SessionId::generate(&SystemClock, &Counter),
            run: None,
            boundary: Boundary::Native,
            view: view(),
            workspace,
            workspace_kind: WorkspaceKind::Overlay,
            caches: Default::default(),
            workspace_path: "/workspace".into(),
            environment: vec![("FROM_SESSION".into(), "yes".into())],
            limits: Limits { pids: 200, memory_bytes: 1 << 30, ..Limits::default() },
            decoys: false,
            debug: false,
            tells_writes: false,
            scratch: at("session"),
        };
        Self { dir, spec, denials: Arc::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn open(self, launcher: &Launcher) -> Open {
        let denials = Arc::clone(&self.denials);
        let session = launcher.open(self.spec, Arc::clone(&denials) as _).unwrap();
        Open { session, denials, dir: self.dir }
    }
}

fn view() -> View {
    let mut view = View::of_host("/usr/bin:/bin".as_ref(), Path::new("/nonexistent"), &|_| None);
    view.binds.push(Bind { source: probe_path().into(), target: PROBE_INSIDE.into() });
    view
}

/// An open session.
pub(crate) struct Open {
    pub(crate) session: Session,
    pub(crate) denials: Arc<Denials>,
    pub(crate) dir: tempfile::TempDir,
}

impl Open {
    pub(crate) fn start(&self, spec: CallSpec) -> Call {
        self.session.call(spec, CallIo::Captured { stdin: Vec::new() }).unwrap()
    }

    pub(crate) fn run(&self, command: &[&str]) -> CallResult {
        self.start(call(command)).wait()
    }

    pub(crate) fn sh(&self, script: &str) -> CallResult {
        self.run(&["/bin/sh", "-c", script])
    }

    pub(crate) fn probe(&self, args: &[&str]) -> CallResult {
        self.start(probe(args)).wait()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

pub(crate) fn probe(args: &[&str]) -> CallSpec {
    let mut command = vec![PROBE_INSIDE];
    command.extend(args);
    call(&command)
}

pub(crate) fn call(command: &[&str]) -> CallSpec {
    let (executable, args) = command.split_first().unwrap();
    CallSpec {
        id: CallId::generate(&SystemClock, &Counter),
        program: Program::Execute {
            executable: executable.into(),
            args: args.iter().map(OsString::from).collect(),
        },
        environment: Vec::new(),
        cwd: "/workspace".into(),
        timeout_ms: 60_000,
        output_bytes_max: 1 << 20,
        background: false,
        is_agent: false,
        terminal: false,
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The probe as a process of the host: what an attack does where there is no wall.
pub(crate) fn probe_outside(args: &[&str]) -> (bool, String) {
    let output = std::process::Command::new(probe_path()).args(args).output().unwrap();
    (output.status.success(), text(&output.stdout))
}

/// Waits until `ready` holds; the bound is for a broken test, not for a slow machine.
pub(crate) fn wait_until(what: &str, ready: impl Fn() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !ready() {
        assert!(std::time::Instant::now() < until, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
