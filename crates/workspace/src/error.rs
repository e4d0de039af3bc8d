//! Why a workspace could not be made, filled, read or removed.

use std::io;

use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::escape_bytes;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The file system refused.
    #[error("cannot {action} {at} in a workspace")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what, escaped.
        at: String,
        /// The refusal.
        source: io::Error,
    },
    /// A directory cannot be carried in.
    #[error("cannot carry a directory in at {path}: {reason}")]
    Carry {
        /// Where it was to appear.
        path: RepoPath,
        /// Why not.
        reason: &'static str,
    },
    /// The base is larger than what the `copy` driver copies.
    #[error("the base has more than {max} {unit}, too much to copy")]
    BaseTooLarge {
        /// The bound.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// The session left more than a result may have.
    #[error("the workspace holds more than {max} {unit}")]
    TooMuch {
        /// The bound.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A path cannot be read as part of a result.
    #[error("{path} is not a file or symbolic link that the session left")]
    NotReadable {
        /// Where.
        path: RepoPath,
    },
    /// A change cannot be put into a workspace.
    #[error("cannot put {path} into a workspace: {reason}")]
    Fill {
        /// Where.
        path: RepoPath,
        /// Why not.
        reason: &'static str,
    },
    /// What gives the changes failed.
    #[error("the changes for a workspace could not be read")]
    Source(#[source] Problem),
}

impl WorkspaceError {
    /// Makes the refusal of `action` on the path `at` an error.
    pub(crate) fn io(
        action: &'static str,
        at: &[u8],
    ) -> impl FnOnce(rustix::io::Errno) -> Self + use<> {
        let at = if at.is_empty() { "the top directory".to_owned() } else { escape_bytes(at) };
        move |errno| Self::Io { action, at, source: errno.into() }
    }

    /// Like [`WorkspaceError::io`], for errors of the standard library.
    pub(crate) fn std_io(
        action: &'static str,
        at: &[u8],
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let at = escape_bytes(at);
        move |source| Self::Io { action, at, source }
    }
}

impl From<WorkspaceError> for Problem {
    fn from(error: WorkspaceError) -> Self {
        let detail = match &error {
            WorkspaceError::Io { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        match error {
            WorkspaceError::Source(problem) => problem,
            WorkspaceError::Io { .. } => Self::new(Code::StorageFailed, detail),
            WorkspaceError::Carry { .. } => Self::new(Code::RequestInvalid, detail)
                .at(Some("repository.carry".to_owned()))
                .hint("carry only directories that git ignores and that are there"),
            WorkspaceError::BaseTooLarge { .. } => Self::new(Code::BoundaryUnavailable, detail)
                .hint("run cofferdam doctor: overlay workspaces have no such bound"),
            WorkspaceError::TooMuch { .. } => Self::new(Code::BudgetExhausted, detail)
                .hint("let git ignore what a build leaves behind, or ask for a smaller change"),
            WorkspaceError::NotReadable { .. } | WorkspaceError::Fill { .. } => {
                Self::new(Code::Internal, detail)
            }
        }
    }
}
