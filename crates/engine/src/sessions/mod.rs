//! What the engine asks of sessions: open one on a base, call into it, read what it left.
//!
//! `native` is the real thing; the simulator has its own. Must never know phases, budgets or
//! branches.

mod disk;
pub mod native;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam_contract::capability::CapabilityReport;
use cofferdam_contract::change::{FileKind, TreeChange, WorkspaceChange};
use cofferdam_contract::ids::{RunId, SessionId};
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_policy::Policy;
use cofferdam_sandbox::SessionEnd;
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
}
