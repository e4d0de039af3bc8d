//! The flow with a real journal and real git, and sessions that are plain directories.

mod flow;
mod simulator;
mod tables;
mod world;
