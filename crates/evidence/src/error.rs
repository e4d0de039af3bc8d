//! Why a bundle could not be made or looked at.

use std::io;

use cofferdam_contract::problem::{Code, Problem};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The events are not a chain up to the head.
    #[error("the events of the run cannot be evidence: {0}")]
    Events(String),
    /// Something stands where the bundle is to be.
    #[error("there is something at {0} already")]
    Exists(String),
    /// The file system refused.
    #[error("cannot {action} {at}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what, escaped.
        at: String,
        /// The refusal.
        source: io::Error,
    },
    /// The trusted key is neither a public key nor a key id.
    #[error("the trusted key is neither an ed25519 public key in pem nor a key id")]
    TrustedKey,
    /// The signer could not sign.
    #[error("the bundle could not be signed")]
    Signer(#[source] Problem),
    /// A part could not be written as JSON.
    #[error("a part of the bundle could not be written as json")]
    Json(#[source] serde_json::Error),
}

/// Whether there is no directory at all.
fn is_elsewhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl From<EvidenceError> for Problem {
    fn from(error: EvidenceError) -> Self {
        let detail = match &error {
            EvidenceError::Io { source, .. } => format!("{error}: {source}"),
            EvidenceError::Json(source) => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        match error {
            EvidenceError::Signer(problem) => problem,
            EvidenceError::Events(_) => Self::new(Code::JournalCorrupt, detail),
            EvidenceError::Exists(_) => Self::new(Code::RequestInvalid, detail)
                .at(Some("output".to_owned()))
                .hint("name a directory that is not there yet"),
            EvidenceError::TrustedKey => Self::new(Code::ConfigurationInvalid, detail)
                .at(Some("key".to_owned()))
                .hint("give the key.pem of a bundle that you trust, or its key id"),
            EvidenceError::Io { source, .. } if is_elsewhere(&source) => {
                Self::new(Code::RequestInvalid, detail).hint("name the directory of a bundle")
            }
            EvidenceError::Io { .. } => Self::new(Code::StorageFailed, detail),
            EvidenceError::Json(_) => Self::new(Code::Internal, detail),
        }
    }
}
