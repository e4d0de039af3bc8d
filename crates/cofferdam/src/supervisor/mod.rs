//! The background supervisor: one process per state directory that holds open sessions and
//! detached runs, and is gone after the last of them.
//!
//! `session start` and `run --detach` start it where it is not there; every `session` command
//! talks to it over a socket that only its owner can reach.

pub(crate) mod client;
pub(crate) mod daemon;
mod server;
mod socket;
mod stream;
pub(crate) mod wire;

pub(crate) use server::exec_request;
