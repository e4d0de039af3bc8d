//! The real binary on real repositories, each test with directories of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test")]

mod answers;
mod asked;
mod attacks;
mod bad_input;
mod bad_state;
mod bases;
mod caches;
mod conformance;
mod demo;
mod denials;
mod exec;
mod failures;
mod flat;
mod gates;
mod grants;
mod ground;
mod intact;
mod interface;
mod invariants;
mod killed;
mod modes;
mod packages;
mod pool;
mod privileges;
mod pruned;
mod redteam;
mod reverts;
mod rootless;
mod sessions;
mod snapshot;
mod soak;
mod supervised;
mod terminal;
mod without_overlay;
mod world;
