//! A workspace of one driver in a real session, and its result as a tree.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::change::{FileKind, TreeChange, WorkspaceChange};
use cofferdam_contract::denial::Denial;
use cofferdam_contract::ids::{CallId, SessionId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::problem::Problem;
use cofferdam_contract::time::UtcTime;
use cofferdam_sandbox::{
    Call, CallIo, CallResult, CallSpec, DenialSink, Launcher, LauncherOptions, Program,
    SandboxSpec, Session, View,
};
use cofferdam_workspace::{Scan, ScanBounds, Workspace};

use crate::pool::Made;

struct Now;

impl Clock for Now {
    fn now(&self) -> UtcTime {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap();
        UtcTime::from_unix_ms(u64::try_from(since.as_millis()).unwrap())
    }
}

/// Different at every use and in every process; nothing here needs more.
struct Counter;

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let seed = format!("{}-{next}-{}", std::process::id(), bytes.len());
        let digest = cofferdam_contract::digest::Digest::of(seed.as_bytes()).hex();
        for (byte, from) in bytes.iter_mut().zip(digest.bytes().cycle()) {
            *byte = from;
        }
    }
}

struct Nobody;

impl DenialSink for Nobody {
    fn denied(&self, _denial: Denial) {}

    fn lost(&self, _count: u64, _source: &str) {}
}

/// A result: what is at each path.
pub(super) type Tree = BTreeMap<String, (FileKind, Vec<u8>)>;

/// What every base has.
pub(super) const BASE: &[(&str, &str)] = &[
    ("a", "one\n"),
    ("b.txt", "two\n"),
    ("d/x", "x\n"),
    ("d/y", "y\n"),
    ("d/e/z", "z\n"),
    ("d/e/deep/f", "f\n"),
];

/// A session on a workspace of one kind.
pub(super) struct Site {
    pub(super) session: Session,
    pub(super) workspace: Workspace,
    pub(super) base: PathBuf,
    /// The session's directory.
    pub(super) dir: PathBuf,
    _tmp: tempfile::TempDir,
    _launcher: Arc<Launcher>,
    _pool: Option<Made>,
}

impl Site {
    pub(super) fn new(kind: WorkspaceKind) -> Self {
        Self::filled(&Arc::new(launcher()), kind, Vec::new())
    }

    /// With `changes` put over the base before it starts.
    pub(super) fn filled(
        launcher: &Arc<Launcher>,
        kind: WorkspaceKind,
        changes: Vec<TreeChange<'static>>,
    ) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let base = tmp.path().join("base");
        make_base(&base);
        let pool = (kind == WorkspaceKind::Btrfs).then(|| Made::new(tmp.path().join("state")));
        let (dir, layer) = match &pool {
            Some(made) => (made.pool.sessions().join("session"), made.base(&base)),
            None => (tmp.path().join("session"), base.clone()),
        };
        let workspace = Workspace::create(&dir.join("workspace"), &[layer], &[], kind).unwrap();
        workspace.fill(&mut changes.into_iter().map(Ok::<_, Problem>)).unwrap();
        let mount = workspace.mount();
        let session = open(launcher, &dir, mount, kind);
        let _launcher = Arc::clone(launcher);
        Self { session, workspace, base, dir, _tmp: tmp, _launcher, _pool: pool }
    }

    pub(super) fn start(&self, command: &[&str]) -> Call {
        self.session.call(call(command), CallIo::Captured { stdin: Vec::new() }).unwrap()
    }

    pub(super) fn run(&self, command: &[&str]) -> CallResult {
        self.start(command).wait()
    }

    /// A script whose exit code must be 0; what it wrote.
    #[track_caller]
    pub(super) fn sh(&self, script: &str) -> String {
        self.succeeds(&["/bin/sh", "-ec", script])
    }

    #[track_caller]
    pub(super) fn python(&self, program: &str) -> String {
        self.succeeds(&["python3", "-c", program])
    }

    #[track_caller]
    fn succeeds(&self, command: &[&str]) -> String {
        let result = self.run(command);
        let said = String::from_utf8_lossy(&result.stderr).into_owned();
        assert_eq!(result.exit_code, Some(0), "{command:?}: {said}");
        String::from_utf8(result.stdout).unwrap()
    }

    pub(super) fn scan(&self) -> Scan {
        self.session.freeze().unwrap();
        let scan = self.workspace.scan(&ScanBounds::default()).unwrap();
        self.session.thaw().unwrap();
        scan
    }

    /// The base with the changeset applied: the same whatever form a removal has.
    pub(super) fn result(&self) -> Tree {
        let scan = self.scan();
        assert!(scan.left_out.is_empty(), "{:?}", scan.left_out);
        let mut tree: Tree = before();
        for change in &scan.changes {
            let name = change.path().to_string();
            match change {
                WorkspaceChange::Remove { .. } => {
                    let inside = format!("{name}/");
                    tree.retain(|path, _| *path != name && !path.starts_with(&inside));
                }
                WorkspaceChange::Put { path, kind, .. } => {
                    tree.insert(name, (*kind, self.read(path)));
                }
            }
        }
        tree
    }

    /// What the result has more than the base, has otherwise, and lacks.
    pub(super) fn difference(&self) -> Vec<String> {
        let (before, after) = (before(), self.result());
        let mut lines = Vec::new();
        for (path, (kind, bytes)) in &after {
            if before.get(path) != Some(&(*kind, bytes.clone())) {
                let kind = match kind {
                    FileKind::File => "file",
                    FileKind::Executable => "exec",
                    FileKind::Symlink => "link",
                    FileKind::Submodule => "submodule",
                };
                lines.push(format!("{kind} {path} {}", String::from_utf8_lossy(bytes).trim_end()));
            }
        }
        let gone = before.keys().filter(|path| !after.contains_key(*path));
        lines.extend(gone.map(|path| format!("gone {path}")));
        lines
    }

    /// What is at `path`, unless it changes under the reading.
    pub(super) fn read_if_steady(&self, path: &RepoPath) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.workspace.read(path).ok()?.2.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    pub(super) fn read(&self, path: &RepoPath) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.workspace.read(path).unwrap().2.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

pub(super) fn launcher() -> Launcher {
    let executable = env!("CARGO_BIN_EXE_cofferdam").into();
    Launcher::start(LauncherOptions {
        executable,
        clock: Arc::new(Now),
        entropy: Arc::new(Counter),
        spare: false,
        landlock_audit: false,
    })
    .unwrap()
}

pub(super) fn open(
    launcher: &Launcher,
    scratch: &Path,
    workspace: WorkspaceMount,
    kind: WorkspaceKind,
) -> Session {
    let spec = SandboxSpec {
        boundary: cofferdam_contract::capability::Boundary::Native,
        session: SessionId::generate(&Now, &Counter),
        run: None,
        view: View::of_host("/usr/bin:/bin".as_ref(), Path::new("/nonexistent"), &|_| None),
        workspace,
        workspace_kind: kind,
        caches: std::collections::BTreeSet::new(),
        workspace_path: "/workspace".into(),
        environment: Vec::new(),
        limits: Limits { pids: 200, memory_bytes: 1 << 30, ..Limits::default() },
        decoys: false,
        debug: false,
        tells_writes: false,
        scratch: scratch.to_owned(),
    };
    launcher.open(spec, Arc::new(Nobody)).unwrap()
}

pub(super) fn call(command: &[&str]) -> CallSpec {
    let (executable, args) = command.split_first().unwrap();
    CallSpec {
        id: CallId::generate(&Now, &Counter),
        program: Program::Execute {
            executable: executable.into(),
            args: args.iter().map(OsString::from).collect(),
        },
        environment: Vec::new(),
        cwd: "/workspace".into(),
        timeout_ms: 120_000,
        output_bytes_max: 1 << 20,
        background: false,
        is_agent: false,
        terminal: false,
    }
}

/// The base as a tree.
pub(super) fn before() -> Tree {
    let file = |(path, text): &(&str, &str)| {
        ((*path).to_owned(), (FileKind::File, text.as_bytes().to_vec()))
    };
    let mut tree: Tree = BASE.iter().map(file).collect();
    tree.insert("run".to_owned(), (FileKind::Executable, b"#!/bin/sh\n".to_vec()));
    tree.insert("d/to".to_owned(), (FileKind::Symlink, b"e/z".to_vec()));
    tree
}

fn make_base(root: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir(root).unwrap();
    for (path, (kind, bytes)) in before() {
        let at = root.join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        if kind == FileKind::Symlink {
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&bytes), at).unwrap();
            continue;
        }
        std::fs::write(&at, bytes).unwrap();
        let mode = if kind == FileKind::Executable { 0o755 } else { 0o644 };
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "base"]] {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@localhost"]).args(args);
        git.current_dir(root).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        assert!(git.status().unwrap().success());
    }
}
