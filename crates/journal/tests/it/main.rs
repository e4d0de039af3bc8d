//! Attacks on the journal, each with its positive control, and the promises of its parts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test")]

mod append;
mod attacks;
mod blobs;
mod crash;
mod failures;
mod golden;
mod inbox;
mod ledger;
mod log;
mod record;
mod redact;
mod runs;
mod world;
