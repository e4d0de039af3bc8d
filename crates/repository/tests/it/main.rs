//! The broker on real repositories, with real git.

// A failed unwrap in a fixture is the failure that the test reports.
#![allow(clippy::unwrap_used, clippy::panic)]

mod attacks;
mod base;
mod changes;
mod concurrency;
mod effects;
mod fixture;
mod inputs;
mod layers;
mod merge;
mod reclaim;
mod remote;
mod sources;
mod tree;
mod waits;
