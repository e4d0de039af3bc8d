//! The flow with a real journal and real git, and sessions that are plain directories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod authority;
mod budget;
mod causes;
mod flow;
mod plain;
mod refusals;
mod scenarios;
mod simulator;
mod tables;
mod world;
