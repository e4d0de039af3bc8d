//! A bundle says what happened, and nobody can make it say something else.

// Fixtures of a test may unwrap: it is their failure that is reported.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attacked;
mod attacks;
mod bundle;
mod fixture;
mod independent;
mod liars;
