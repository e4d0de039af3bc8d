//! The evidence bundle of a run: made, signed, and verified offline.
//!
//! A bundle holds the run's events as they were stored and what they refer to; everything that can
//! be derived from the events is derived again when it is verified. Must never know the journal,
//! the repository or the clock: a verifier can be built from this crate and `contract` alone.

mod attacked;
mod bundle;
mod dsse;
mod error;
mod export;
mod facts;
mod parts;
mod record;
mod sarif;
mod spans;
mod verify;

pub use error::EvidenceError;
pub use parts::PREDICATE_TYPE;
pub use record::record_of;
pub use spans::spans_of;

use std::path::Path;

use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;

/// Signs with Ed25519; the private key never comes here.
pub trait Signer {
    /// The public key, 32 bytes.
    fn public_key(&self) -> [u8; 32];

    /// The signature over `message`.
    ///
    /// # Errors
    /// A [`Problem`] if the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Problem>;
}

/// The patch as it goes into the bundle.
#[derive(Clone, Copy, Debug)]
pub enum Patch<'a> {
    /// Exactly as it was shown and approved.
    Full(&'a [u8]),
    /// Its digest alone: the secrets check fired, or the work is confidential.
    DigestOnly(Digest),
}

/// What a bundle is made of. Everything else in it is derived from the events.
pub struct ExportInput<'a> {
    /// The run.
    pub run: &'a RunId,
    /// Its events from the first on, as stored, up to the head.
    pub events: &'a [Vec<u8>],
    /// The chain's link after the last of them.
    pub head: Digest,
    /// The journal's signed head statement over the same link, carried along as it is; absent
    /// where the journal has not signed yet.
    pub head_statement: Option<&'a [u8]>,
    /// The patch; absent where the run came to no proposal.
    pub patch: Option<Patch<'a>>,
    /// The compiled policy, as its version digests it.
    pub policy: &'a [u8],
    /// Full outputs of checks, by the digest that the check's result names.
    pub check_outputs: &'a [(Digest, Vec<u8>)],
    /// Records of attacks on sessions of the program that carried the run out, the best one first:
    /// the first about the boundary that the run had goes into the bundle.
    pub attacks: &'a [Vec<u8>],
    /// Who signs.
    pub signer: &'a dyn Signer,
}

/// One thing that was verified.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct VerifyCheck {
    /// Stable name, such as `signature`.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was found, escaped.
    pub detail: String,
}

/// What verifying a bundle found.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct VerifyReport {
    /// Whether everything holds. A signer that nobody vouched for does not change it.
    pub ok: bool,
    /// Whether the signature is by the key that the caller trusts.
    pub signer_known: bool,
    /// The signing key's id: `sha256:` and the SHA-256 of its 32 public
    /// bytes, as the journal names it.
    pub key_id: Option<String>,
    /// Every check that was made, in order.
    pub checks: Vec<VerifyCheck>,
}

/// Writes the bundle into `dir`, which must not be there yet: all of it or nothing. Equal input
/// gives equal bytes.
///
/// # Errors
/// [`EvidenceError::Events`] if the events are not a chain up to the head,
/// [`EvidenceError::Exists`], [`EvidenceError::Signer`], or the file system's.
pub fn export(input: &ExportInput<'_>, dir: &Path) -> Result<(), EvidenceError> {
    export::write(&export::files(input)?, dir)
}

/// Verifies the bundle in `dir` without a network. `trusted_key` is a public key in PEM, or its
/// key id.
///
/// # Errors
/// Only if the trusted key is none or `dir` cannot be opened; whatever is wrong with the bundle is
/// in the report.
pub fn verify(dir: &Path, trusted_key: Option<&str>) -> Result<VerifyReport, EvidenceError> {
    let trusted = verify::Trusted::parse(trusted_key)?;
    Ok(verify::verify(&bundle::Bundle::read(dir)?, &trusted))
}
