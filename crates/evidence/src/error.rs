//! Why a bundle could not be made or looked at.

use cofferdam_contract::problem::{Code, Problem};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// To be replaced.
    #[error("not there yet")]
    Unfinished,
}

impl From<EvidenceError> for Problem {
    fn from(error: EvidenceError) -> Self {
        Self::new(Code::EvidenceInvalid, error.to_string())
    }
}
