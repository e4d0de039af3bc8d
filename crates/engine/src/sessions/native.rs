//! Real sessions: a workspace over a prepared base, mounted in a sandbox by the launcher.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cofferdam_contract::capability::{Boundary, CapabilityReport, WallStatus, WorkspaceKind};
use cofferdam_contract::change::FileKind;
use cofferdam_contract::denial::Denial;
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::grant::GrantNote;
use cofferdam_contract::ids::{CallId, SessionId};
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_sandbox::doctor::overlay_in;
use cofferdam_sandbox::{
    Call, CallIo, CallResult, CallSpec, Guarded, Launcher, SandboxSpec, Session, SessionEnd, View,
};
use cofferdam_tools::{Ending, Hands, Running};
use cofferdam_workspace::{Carry, Pool, ScanBounds, Workspace};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;

use super::disk::{DiskWatch, Running as RunningCalls, Watched};
use super::widening::Widening;
use super::{Left, OpenSession, SessionOrder, Sessions, Widen};
use crate::denials::DenialBook;

/// Most paths that a session may have touched.
const CHANGES_MAX: u64 = 200_000;
/// Most directory entries that are looked at.
const ENTRIES_MAX: u64 = 2_000_000;
/// Largest file that becomes part of a result, in bytes.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// What a file system that bounds a workspace by itself gives beyond the limit, so that the look
/// that tells of a breach sees one.
const DISK_BYTES_OVER: u64 = 64 << 20;
/// Deepest path.
const DEPTH_MAX: u32 = 512;

/// Opens sessions on this host.
pub struct NativeSessions {
    launcher: Launcher,
    view: View,
    dir: PathBuf,
    variables: Variables,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// Whether an overlay can be had in `dir`, once it was tried.
    overlays: OnceLock<bool>,
    /// Where `dir` is in one.
    pool: Option<Pool>,
    guarded: Option<Guarded>,
}

/// Variables of the host that a profile may let in.
pub type Variables = Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

impl NativeSessions {
    /// `dir` is the directory that holds a directory for each session.
    pub fn new(
        launcher: Launcher,
        view: View,
        dir: PathBuf,
        variables: Variables,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let (overlays, pool) = (OnceLock::new(), Pool::of_sessions(&dir));
        Self { launcher, view, dir, variables, clock, entropy, overlays, pool, guarded: None }
    }

    /// What no grant may show, so that other paths can be granted.
    #[must_use]
    pub fn guarding(mut self, guarded: Guarded) -> Self {
        self.guarded = Some(guarded);
        self
    }

    /// What a workspace of the wanted kind is made of here, and its kind then: a snapshot where the
    /// host has a pool and the base fits into it, a copy where it has no overlay. The session's report
    /// says which.
    fn made_of(
        &self,
        wanted: WorkspaceKind,
        layers: &[PathBuf],
    ) -> Result<(WorkspaceKind, Vec<PathBuf>), Problem> {
        let pooled = |pool: &Pool| Ok((WorkspaceKind::Btrfs, vec![pool.base(layers)?]));
        let kind = match (wanted, &self.pool) {
            (WorkspaceKind::Btrfs, Some(pool)) => return pooled(pool),
            (WorkspaceKind::Btrfs, None) => {
                let detail = "the profile wants snapshots, and there is no pool for them";
                return Err(Problem::new(Code::BoundaryUnavailable, detail)
                    .hint("run cofferdam pool create, as root"));
            }
            (WorkspaceKind::Overlay, Some(pool)) if !pool.may_take(layers) && self.overlays() => {
                WorkspaceKind::Overlay
            }
            (WorkspaceKind::Overlay, Some(pool)) => match pooled(pool) {
                Ok(made) => return Ok(made),
                Err::<_, Problem>(_) if self.overlays() => WorkspaceKind::Overlay,
                Err(problem) => return Err(problem),
            },
            (WorkspaceKind::Overlay, None) if !self.overlays() => WorkspaceKind::Copy,
            (kind, _) => kind,
        };
        Ok((kind, layers.to_vec()))
    }

    fn overlays(&self) -> bool {
        *self.overlays.get_or_init(|| {
            let probe = self.dir.join(format!("probe-{}", std::process::id()));
            let made = std::fs::create_dir_all(&probe).and_then(|()| overlay_in(&probe));
            let _ = cofferdam_workspace::remove_dir(&probe);
            made.is_ok()
        })
    }

    fn workspace(
        &self,
        order: &mut SessionOrder<'_>,
        scratch: &Path,
    ) -> Result<Workspace, Problem> {
        let carry: Vec<_> = order
            .carry
            .iter()
            .map(|(source, path)| Carry { source: source.clone(), path: path.clone() })
            .collect();
        let wanted = order.policy.tables().session.workspace_kind;
        let (kind, layers) = self.made_of(wanted, &order.base_layers)?;
        let workspace = Workspace::create(&scratch.join("workspace"), &layers, &carry, kind)?;
        workspace.fill(&mut order.fill)?;
        workspace.bound(order.policy.limits().disk_bytes.saturating_add(DISK_BYTES_OVER));
        Ok(workspace)
    }

    /// What the session sees of the host, or of the image that its profile names.
    fn view(&self, rootfs: Option<&str>) -> Result<View, Problem> {
        let Some(rootfs) = rootfs else { return Ok(self.view.clone()) };
        let refused = |detail: String, hint: &str| {
            Problem::new(Code::ConfigurationInvalid, detail)
                .at(Some("session.rootfs".to_owned()))
                .hint(hint)
        };
        let home = self.guarded.as_ref().map_or(Path::new("/nonexistent"), |it| &it.home);
        let caches = self.view.caches.clone();
        let view = View::of_rootfs(Path::new(rootfs), home, caches, &*self.variables);
        let view = view.ok_or_else(|| {
            let detail = format!("there is no image at {rootfs} that a session may see");
            refused(detail, "name a directory with the image's own usr or bin, and no home in it")
        })?;
        let never = self.guarded.iter().flat_map(|it| &it.never).chain([&self.dir]);
        match never.into_iter().find(|dir| view.shows(dir).is_some()) {
            None => Ok(view),
            Some(dir) => {
                let detail = format!("{} would be seen in sessions", dir.display());
                Err(refused(detail, "unpack the image elsewhere"))
            }
        }
    }

    fn spec(
        &self,
        order: &SessionOrder<'_>,
        workspace: &Workspace,
        scratch: PathBuf,
    ) -> Result<SandboxSpec, Problem> {
        let session = &order.policy.tables().session;
        let passed = session
            .environment
            .iter()
            .filter_map(|name| (self.variables)(name).map(|value| (OsString::from(name), value)));
        let workspace_path = match workspace_on_host(session.boundary, workspace) {
            Some(path) => path,
            None => order.workspace_path.clone(),
        };
        Ok(SandboxSpec {
            session: order.session.clone(),
            run: Some(order.run.clone()),
            boundary: session.boundary,
            view: self.view(session.rootfs.as_deref())?,
            workspace: workspace.mount(),
            workspace_kind: workspace.kind(),
            workspace_path,
            caches: session.caches.clone(),
            environment: passed.collect(),
            limits: order.policy.limits(),
            decoys: session.decoys,
            debug: session.debug,
            tells_writes: session.tells_writes,
            scratch,
        })
    }
}

/// A session that mounts nothing has its workspace where it is.
fn workspace_on_host(boundary: Boundary, workspace: &Workspace) -> Option<PathBuf> {
    match (boundary, workspace.mount()) {
        (Boundary::Flat, WorkspaceMount::Directory { path, .. }) => Some(path),
        _ => None,
    }
}

/// What else such a session writes: no file system of its own bounds these.
fn flat_directories(scratch: &Path) -> Vec<PathBuf> {
    cofferdam_sandbox::FLAT_DIRECTORIES.iter().map(|name| scratch.join(name)).collect()
}

impl Sessions for NativeSessions {
    fn open(&self, mut order: SessionOrder<'_>) -> Result<Arc<dyn OpenSession>, Problem> {
        let scratch = self.dir.join(order.session.as_str());
        std::fs::create_dir_all(&scratch).map_err(|error| {
            Problem::new(Code::StorageFailed, format!("a session's directory: {error}"))
        })?;
        let workspace = self.workspace(&mut order, &scratch)?;
        let spec = self.spec(&order, &workspace, scratch.clone());
        let opened =
            spec.and_then(|spec| Ok(self.launcher.open(spec, Arc::clone(&order.book) as _)?));
        let session = match opened {
            Ok(session) => session,
            Err(problem) => {
                drop(workspace);
                let _ = cofferdam_workspace::remove_dir(&scratch);
                return Err(problem);
            }
        };
        let on_host = workspace_on_host(order.policy.tables().session.boundary, &workspace);
        let (workspace, running) = (Arc::new(workspace), RunningCalls::default());
        let session = Arc::new(session);
        let disk = DiskWatch::start(Watched {
            run: order.run,
            session: order.session,
            workspace: Arc::clone(&workspace),
            holds: Arc::downgrade(&session),
            also: if on_host.is_some() { flat_directories(&scratch) } else { Vec::new() },
            limits: order.policy.limits(),
            running: Arc::clone(&running),
            book: Arc::clone(&order.book),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
        })
        .map_err(|error| {
            Problem::new(Code::BoundaryUnavailable, format!("the disk limit: {error}"))
        })?;
        let mut guarded = self.guarded.clone();
        if let Some(guarded) = &mut guarded {
            guarded.never.push(self.dir.clone());
            guarded.never_written.extend(order.repository);
        }
        let (boundary, debug) = {
            let session = &order.policy.tables().session;
            (session.boundary, session.debug)
        };
        let native = NativeSession {
            widening: Widening { session: Arc::clone(&session), boundary, guarded, debug },
            session,
            workspace: Mutex::new(Some(workspace)),
            on_host,
            book: order.book,
            running,
            disk_bytes: order.policy.limits().disk_bytes,
            scratch,
            _disk: disk,
        };
        native.require(order.policy.tables().session.required_walls.iter().copied())?;
        Ok(Arc::new(native))
    }
}

struct NativeSession {
    session: Arc<Session>,
    widening: Widening,
    workspace: Mutex<Option<Arc<Workspace>>>,
    on_host: Option<PathBuf>,
    book: Arc<DenialBook>,
    running: RunningCalls,
    disk_bytes: u64,
    scratch: PathBuf,
    _disk: DiskWatch,
}

impl NativeSession {
    /// Invariant 4: a wall that the profile requires and that does not stand stops the run.
    fn require(
        &self,
        walls: impl Iterator<Item = cofferdam_contract::capability::WallName>,
    ) -> Result<(), Problem> {
        for wall in walls {
            if self.session.report().status(wall) != WallStatus::Enforced {
                self.discard();
                let detail =
                    format!("the profile requires the wall {wall:?}, which does not stand here");
                return Err(Problem::new(Code::BoundaryUnavailable, detail));
            }
        }
        Ok(())
    }

    fn workspace(&self) -> Result<Arc<Workspace>, Problem> {
        let workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner).clone();
        workspace.ok_or_else(|| Problem::new(Code::SessionLost, "the session is over"))
    }
}

struct NativeCall {
    call: Call,
    listed: Listed,
}

/// A call's place among those that run, until it is dropped. What a call leaves in the background
/// writes on, so that it stays there.
struct Listed {
    id: CallId,
    stays: bool,
    running: RunningCalls,
}

impl Drop for Listed {
    fn drop(&mut self) {
        if !self.stays {
            self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        }
    }
}

impl Running for NativeCall {
    fn stopper(&self) -> Box<dyn Fn() + Send> {
        let stopper = self.call.stopper();
        Box::new(move || stopper.stop())
    }

    fn block(self: Box<Self>) -> CallResult {
        let Self { call, listed: _listed } = *self;
        call.wait()
    }

    fn wait(self: Box<Self>) -> Ending {
        Box::pin(async move {
            let Self { mut call, listed: _listed } = *self;
            call.attend();
            #[expect(deprecated, reason = "what replaces it is unsafe; a call keeps its bell")]
            let watched = AsyncFd::try_with_interest(call, Interest::READABLE);
            match watched {
                Ok(call) => ended(call).await,
                // What the runtime cannot wait for, a thread can.
                Err(failed) => {
                    let (call, _) = failed.into_parts();
                    spawn_blocking(|| call.wait()).await.unwrap_or_else(|_| lost())
                }
            }
        })
    }
}

/// Does what there is to do for a call whenever there is something, until it is over. The task
/// that waits for the call does it itself: another thread in between would be one more to wake.
async fn ended(mut call: AsyncFd<Call>) -> CallResult {
    loop {
        let Ok(mut ready) = call.readable_mut().await else { return lost() };
        if let Some(result) = ready.get_inner_mut().advance() {
            return result;
        }
        if !ready.get_inner().rings() {
            ready.clear_ready();
        }
    }
}

/// The runtime is shutting down.
fn lost() -> CallResult {
    CallResult {
        end: CallEnd::SessionLost,
        exit_code: None,
        signal: None,
        not_started: None,
        stdout: vec![],
        stderr: vec![],
        truncated: false,
        duration_ms: 0,
        denials: 0,
    }
}

impl Hands for NativeSession {
    fn session(&self) -> &SessionId {
        self.session.id()
    }

    fn start(&self, spec: CallSpec, io: CallIo) -> Result<Box<dyn Running>, Problem> {
        let (id, stays) = (spec.id.clone(), spec.background);
        let call = self.session.call(spec, io)?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(id.clone(), call.stopper());
        let listed = Listed { id, stays, running: Arc::clone(&self.running) };
        Ok(Box::new(NativeCall { call, listed }))
    }

    fn denials(&self, call: &CallId) -> Vec<Denial> {
        self.book.take(call)
    }
}

impl OpenSession for NativeSession {
    fn report(&self) -> &CapabilityReport {
        self.session.report()
    }

    fn workspace_path(&self) -> Option<&Path> {
        self.on_host.as_deref()
    }

    fn freeze(&self) -> Result<(), Problem> {
        Ok(self.session.freeze()?)
    }

    fn thaw(&self) -> Result<(), Problem> {
        Ok(self.session.thaw()?)
    }

    fn left(&self) -> Result<Left, Problem> {
        let bounds = ScanBounds {
            changes_max: CHANGES_MAX,
            entries_max: ENTRIES_MAX,
            file_bytes_max: FILE_BYTES_MAX.min(self.disk_bytes),
            bytes_max: self.disk_bytes,
            depth_max: DEPTH_MAX,
        };
        let scan = self.workspace()?.scan(&bounds)?;
        let left_out =
            scan.left_out.iter().map(|it| format!("{}: {}", it.path, it.reason)).collect();
        Ok(Left { changes: scan.changes, left_out })
    }

    fn read(&self, path: &RepoPath) -> Result<(FileKind, u64, Box<dyn Read + Send>), Problem> {
        Ok(self.workspace()?.read(path)?)
    }

    fn end(&self) -> SessionEnd {
        self.session.end()
    }

    fn widen(&self) -> Option<&dyn Widen> {
        Some(&self.widening)
    }

    fn wishes(&self) -> Vec<u8> {
        self.session.asked()
    }

    fn tell(&self, note: &GrantNote) {
        if let Ok(line) = serde_json::to_string(note) {
            self.session.tell(&line);
        }
    }

    fn discard(&self) {
        self.session.end();
        let workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(workspace);
        let _ = cofferdam_workspace::remove_dir(&self.scratch);
    }
}
