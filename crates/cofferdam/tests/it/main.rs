//! The real binary on real repositories, each test with directories of its own.

mod answers;
mod exec;
mod failures;
mod intact;
mod interface;
mod packages;
mod sessions;
mod snapshot;
mod supervised;
mod terminal;
mod world;
