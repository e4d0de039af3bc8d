//! What happened, in order, so that nobody can change it unseen: the append-only chained log of
//! every run, with the blobs it refers to, the projections over it, the ledger and redaction.
//!
//! Truth is in the events alone. Stored bytes are hashed and never re-serialised; each run has a
//! chain, and signed heads make a second chain across runs. One writer per process gathers what
//! concurrent callers append into one transaction. A commit of whoever holds a run is one write to its
//! log, which the database takes over before anything else is done or read there.
//!
//! This crate must never know: what a run's states mean (its owner says what is to be shown),
//! git, sessions, policy, HTTP, the environment.

mod append;
mod bell;
mod blobs;
mod catch_up;
mod error;
#[cfg(feature = "fault")]
mod fault;
mod held;
mod hold;
mod inbox;
mod journal;
mod keys;
mod ledger;
mod log;
mod record;
mod redact;
mod runs;
mod script;
mod seal;
mod store;
mod upcast;
mod verify;
mod writer;

pub use append::{Appended, Batch, Durability, EVENT_BYTES_MAX, Expected, NewEvent, Stored};
pub use bell::Inbox;
pub use blobs::{BLOB_BYTES_MAX, Blob};
pub use error::JournalError;
#[cfg(feature = "fault")]
pub use fault::FaultPlan;
pub use hold::Hold;
pub use inbox::{CommandRow, NewCommand};
pub use journal::{Journal, JournalOptions};
pub use keys::Signer;
pub use ledger::{Ledger, Page};
pub use record::Recorder;
pub use redact::{Redacted, RedactedStream, Redactor, SecretBytes};
pub use runs::{Idempotency, NewRun, RunRow, Shown, Start};
pub use seal::{HeadStatement, SignedHead};
pub use upcast::read_event;
pub use verify::{Fault, FaultKind, VerifyReport};
