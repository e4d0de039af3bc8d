//! What the gate asks of the outside: bytes of both trees, and commands run in fresh sessions.

use cofferdam_contract::change::FileChange;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_policy::CheckCommand;

/// Largest file that is looked into, in bytes. Larger ones are said so by a finding.
pub const SCAN_BYTES_MAX: u64 = 8 << 20;

/// Which of the two trees.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Side {
    /// Before the change.
    Base,
    /// After it.
    Result,
}

/// The bytes of both trees. Asked for a change only if its size is at most [`SCAN_BYTES_MAX`].
pub trait Contents {
    /// The content before; of a symbolic link, its target. Asked only if there is a before.
    ///
    /// # Errors
    /// Whatever keeps it from being read; the check is then `errored`.
    fn before(&self, change: &FileChange) -> Result<Vec<u8>, Problem>;

    /// The content after; of a symbolic link, its target. Asked only if there is an after.
    ///
    /// # Errors
    /// Whatever keeps it from being read; the check is then `errored`.
    fn after(&self, change: &FileChange) -> Result<Vec<u8>, Problem>;

    /// The content of the regular file at `path`, changed or not; `None` if there is none or it is
    /// larger than [`SCAN_BYTES_MAX`].
    ///
    /// # Errors
    /// Whatever keeps it from being read; the check is then `errored`.
    fn file(&self, side: Side, path: &RepoPath) -> Result<Option<Vec<u8>>, Problem>;

    /// Shows every path of a tree, directories not among them, to `visit`.
    ///
    /// # Errors
    /// Whatever keeps the tree from being listed; the check is then `errored`.
    fn paths(&self, side: Side, visit: &mut dyn FnMut(&RepoPath)) -> Result<(), Problem>;
}

/// What came of one command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandOutcome {
    /// How it ended.
    pub end: CallEnd,
    /// Exit code, where it exited.
    pub exit_code: Option<i32>,
    /// Standard output, cut at the policy's limit.
    pub stdout: Vec<u8>,
    /// Whether output was cut.
    pub truncated: bool,
    /// Blob of the whole output, redacted.
    pub output: Option<Digest>,
    /// How long it took.
    pub duration_ms: u64,
}

impl CommandOutcome {
    /// Whether it exited with code 0.
    pub fn succeeded(&self) -> bool {
        self.end == CallEnd::Exited && self.exit_code == Some(0)
    }

    /// Whether it ran and said no: another exit code, or death by a signal of its own.
    pub fn failed(&self) -> bool {
        match self.end {
            CallEnd::Exited => self.exit_code != Some(0),
            CallEnd::Signaled => true,
            _ => false,
        }
    }
}

/// Runs commands, each in a fresh session that holds one of the trees.
pub trait Runner {
    /// Runs `command` on `side`, within its time-out and the policy's limits. A command that fails,
    /// times out or cannot be started is an outcome, not an error.
    ///
    /// # Errors
    /// Whatever kept it from being tried: no session, budget exhausted.
    fn run(&self, side: Side, command: &CheckCommand) -> Result<CommandOutcome, Problem>;
}
