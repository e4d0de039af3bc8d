//! Real sessions: a workspace over a prepared base, mounted in a sandbox by the launcher.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cofferdam_contract::capability::{CapabilityReport, WallStatus};
use cofferdam_contract::change::FileKind;
use cofferdam_contract::denial::Denial;
use cofferdam_contract::ids::{CallId, SessionId};
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_sandbox::{
    Call, CallIo, CallResult, CallSpec, Launcher, SandboxSpec, Session, SessionEnd, View,
};
use cofferdam_tools::{Hands, Running};
use cofferdam_workspace::{Carry, ScanBounds, Workspace};

use super::{Left, OpenSession, SessionOrder, Sessions};
use crate::denials::DenialBook;

/// Most paths that a session may have touched.
const CHANGES_MAX: u64 = 200_000;
/// Most directory entries that are looked at.
const ENTRIES_MAX: u64 = 2_000_000;
/// Largest file that becomes part of a result, in bytes.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Deepest path.
const DEPTH_MAX: u32 = 512;

/// Opens sessions on this host.
pub struct NativeSessions {
    launcher: Launcher,
    view: View,
    dir: PathBuf,
    /// Variables of the host that a profile may let in.
    variables: Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>,
}

impl NativeSessions {
    /// `dir` is the directory that holds a directory for each session.
    pub fn new(
        launcher: Launcher,
        view: View,
        dir: PathBuf,
        variables: Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>,
    ) -> Self {
        Self { launcher, view, dir, variables }
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
        let kind = order.policy.tables().session.workspace_kind;
        let workspace =
            Workspace::create(&scratch.join("workspace"), &order.base_root, &carry, kind)?;
        workspace.fill(&mut order.fill)?;
        Ok(workspace)
    }

    fn spec(
        &self,
        order: &SessionOrder<'_>,
        workspace: &Workspace,
        scratch: PathBuf,
    ) -> SandboxSpec {
        let session = &order.policy.tables().session;
        let passed = session
            .environment
            .iter()
            .filter_map(|name| (self.variables)(name).map(|value| (OsString::from(name), value)));
        SandboxSpec {
            session: order.session.clone(),
            run: Some(order.run.clone()),
            view: self.view.clone(),
            workspace: workspace.mount(),
            workspace_kind: workspace.kind(),
            workspace_path: order.workspace_path.clone(),
            environment: passed.collect(),
            limits: order.policy.limits(),
            decoys: session.decoys,
            debug: session.debug,
            scratch,
        }
    }
}

impl Sessions for NativeSessions {
    fn open(&self, mut order: SessionOrder<'_>) -> Result<Arc<dyn OpenSession>, Problem> {
        let scratch = self.dir.join(order.session.as_str());
        std::fs::create_dir_all(&scratch).map_err(|error| {
            Problem::new(Code::StorageFailed, format!("a session's directory: {error}"))
        })?;
        let workspace = self.workspace(&mut order, &scratch)?;
        let spec = self.spec(&order, &workspace, scratch.clone());
        let opened = self.launcher.open(spec, Arc::clone(&order.book) as _);
        let session = match opened {
            Ok(session) => session,
            Err(error) => {
                drop(workspace);
                let _ = cofferdam_workspace::remove_dir(&scratch);
                return Err(error.into());
            }
        };
        let native = NativeSession {
            session: Arc::new(session),
            workspace: Mutex::new(Some(Arc::new(workspace))),
            book: order.book,
            disk_bytes: order.policy.limits().disk_bytes,
            scratch,
        };
        native.require(order.policy.tables().session.required_walls.iter().copied())?;
        Ok(Arc::new(native))
    }
}

struct NativeSession {
    session: Arc<Session>,
    workspace: Mutex<Option<Arc<Workspace>>>,
    book: Arc<DenialBook>,
    disk_bytes: u64,
    scratch: PathBuf,
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

struct NativeCall(Call);

impl Running for NativeCall {
    fn wait(self: Box<Self>) -> CallResult {
        self.0.wait()
    }
}

impl Hands for NativeSession {
    fn session(&self) -> &SessionId {
        self.session.id()
    }

    fn start(&self, spec: CallSpec, io: CallIo) -> Result<Box<dyn Running>, Problem> {
        Ok(Box::new(NativeCall(self.session.call(spec, io)?)))
    }

    fn denials(&self, call: &CallId) -> Vec<Denial> {
        self.book.take(call)
    }
}

impl OpenSession for NativeSession {
    fn report(&self) -> &CapabilityReport {
        self.session.report()
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

    fn discard(&self) {
        self.session.end();
        let workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(workspace);
        let _ = cofferdam_workspace::remove_dir(&self.scratch);
    }
}
