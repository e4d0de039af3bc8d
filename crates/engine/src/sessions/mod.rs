//! What the engine asks of sessions: open one on a base, call into it, read what it left.
//!
//! `native` is the real thing; the simulator has its own. Must never know phases, budgets or
//! branches.

mod disk;
pub mod native;
mod widening;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam_contract::capability::CapabilityReport;
use cofferdam_contract::change::{FileKind, TreeChange, WorkspaceChange};
use cofferdam_contract::grant::GrantNote;
use cofferdam_contract::ids::{RunId, SessionId};
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_policy::Policy;
use cofferdam_sandbox::{SessionEnd, TraceGate};
use cofferdam_tools::Hands;

use crate::denials::DenialBook;

/// A session to be opened.
pub struct SessionOrder<'a> {
    /// Its id.
    pub session: SessionId,
    /// The run it belongs to.
    pub run: RunId,
    /// What it may do.
    pub policy: &'a Policy,
    /// Checkout of the base as layers, the uppermost first.
    pub base_layers: Vec<PathBuf>,
    /// What is put over the base before it starts: a checkpoint or a result.
    pub fill: &'a mut dyn Iterator<Item = Result<TreeChange<'static>, Problem>>,
    /// Ignored directories of the repository to carry in: source and path.
    pub carry: Vec<(PathBuf, RepoPath)>,
    /// Where the workspace is inside.
    pub workspace_path: PathBuf,
    /// Where the repository is on this host: never granted to be written.
    pub repository: Vec<PathBuf>,
    /// Gets the refusals.
    pub book: Arc<DenialBook>,
}

/// What a session left, read while it is frozen.
pub struct Left {
    /// Candidates: paths that were touched.
    pub changes: Vec<WorkspaceChange>,
    /// Paths that git cannot hold or that a bound left out, with the reason; escaped.
    pub left_out: Vec<String>,
}

/// Opens sessions.
pub trait Sessions: Send + Sync {
    /// Opens one. Blocks.
    ///
    /// # Errors
    /// `boundary_unavailable` where a required wall is missing.
    fn open(&self, order: SessionOrder<'_>) -> Result<Arc<dyn OpenSession>, Problem>;
}

/// An open session.
pub trait OpenSession: Hands {
    /// The boundary as it is.
    fn report(&self) -> &CapabilityReport;

    /// Where the workspace is for the session, where that is not what was asked for: a flat session
    /// has it where it is on the host.
    fn workspace_path(&self) -> Option<&Path> {
        None
    }

    /// Stops every process where it is, until [`OpenSession::thaw`].
    ///
    /// # Errors
    /// `session_lost`.
    fn freeze(&self) -> Result<(), Problem>;

    /// Lets them go on.
    ///
    /// # Errors
    /// `session_lost`.
    fn thaw(&self) -> Result<(), Problem>;

    /// What was touched so far. Only on a frozen or ended session.
    ///
    /// # Errors
    /// What the reader says against the workspace as a whole.
    fn left(&self) -> Result<Left, Problem>;

    /// One touched path.
    ///
    /// # Errors
    /// What the reader says against it.
    fn read(&self, path: &RepoPath) -> Result<(FileKind, u64, Box<dyn Read + Send>), Problem>;

    /// Ends it and everything in it; no process is left. Again is no error.
    fn end(&self) -> SessionEnd;

    /// Removes what it had on disk. Ends it first.
    fn discard(&self);

    /// What of it can be widened while it works; none where nothing can.
    fn widen(&self) -> Option<&dyn Widen> {
        None
    }

    /// What the session wrote to where it asks for grants, a part at a time. Never waits.
    fn wishes(&self) -> Vec<u8> {
        vec![]
    }

    /// Tells the session of its grants. Never waits; what has no room is not told.
    fn tell(&self, _note: &GrantNote) {}
}

/// A session that can be given something more from outside.
pub trait Widen: Send + Sync {
    /// Looks at a path of the host and holds on to it, so that what is put into the session is
    /// what was looked at.
    ///
    /// # Errors
    /// `grant_refused` if it could hold credentials or is not one thing; `grant_unsupported` where
    /// it cannot be had.
    fn look_at(&self, path: &str, writable: bool) -> Result<Box<dyn Offered>, Problem>;

    /// Takes a path away and kills whatever holds on to it. When it returns, nothing of the session
    /// has it: where that cannot be had otherwise, the session has ended. Says how many processes
    /// it killed.
    fn withdraw(&self, place: &str) -> u64;

    /// Whether tracing can be allowed at all.
    ///
    /// # Errors
    /// `grant_unsupported`.
    fn may_trace(&self) -> Result<(), Problem>;

    /// From now on `gate` is asked whether a process may trace.
    fn ask_before_tracing(&self, gate: Arc<dyn TraceGate>);

    /// Kills whatever traces; what it traced goes on. Says how many.
    fn end_tracing(&self) -> u64;
}

/// A path of the host that was looked at.
pub trait Offered: Send {
    /// Where it will be, inside.
    fn place(&self) -> &str;

    /// Puts it there.
    ///
    /// # Errors
    /// `grant_refused`; nothing is there then.
    fn put(self: Box<Self>) -> Result<(), Problem>;
}
