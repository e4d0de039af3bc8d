//! The published contracts: strict, stable, and the same on the way out and back in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test")]

mod chain;
mod golden;
mod grants;
mod properties;
mod reference;
mod refusals;
mod schemas;
mod tables;
mod text;
