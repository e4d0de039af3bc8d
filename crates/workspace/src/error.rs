//! Why a workspace could not be made, read or removed.

use cofferdam_contract::problem::{Code, Problem};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// To be replaced.
    #[error("not there yet")]
    Unfinished,
}

impl From<WorkspaceError> for Problem {
    fn from(error: WorkspaceError) -> Self {
        Self::new(Code::StorageFailed, error.to_string())
    }
}
