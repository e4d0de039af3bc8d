//! The hash chain over a run's events, and the second chain over signed heads.
//!
//! Each link is SHA-256 over the previous link and the stored bytes of one event, so an edited,
//! dropped or reordered event changes every later link. The bytes are hashed as stored.
//! Must never know where they are stored.

use crate::digest::Digest;
use crate::ids::RunId;

/// The link before a run's first event: it binds the chain to the run.
pub fn run_genesis(run: &RunId) -> Digest {
    Digest::of_parts(&[b"cofferdam run chain v1", run.as_str().as_bytes()])
}

/// The link of the event `stored` at `sequence` after `previous`.
pub fn event_link(previous: &Digest, sequence: u64, stored: &[u8]) -> Digest {
    Digest::of_parts(&[previous.as_bytes(), &sequence.to_be_bytes(), stored])
}

/// The link before the first signed head.
pub fn heads_genesis() -> Digest {
    Digest::of_parts(&[b"cofferdam head chain v1"])
}

/// The link of the signed head `statement` after `previous`.
pub fn head_link(previous: &Digest, statement: &[u8]) -> Digest {
    Digest::of_parts(&[previous.as_bytes(), statement])
}
