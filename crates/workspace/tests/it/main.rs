//! What a session may leave behind, and what must come of it.

// Fixtures of a test may unwrap: it is their failure that is reported.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod carry;
mod fill;
mod fixture;
mod forged;
mod hostile;
mod layers;
mod model;
mod pool;
mod race;
mod remove;
mod tricks;
