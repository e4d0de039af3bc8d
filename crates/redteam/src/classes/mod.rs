//! The probes: a file a class, a line a probe.

pub(crate) mod credentials;
pub(crate) mod host;
pub(crate) mod kernel;
pub(crate) mod neighbours;
pub(crate) mod network;
pub(crate) mod persistence;
pub(crate) mod read;
pub(crate) mod resources;
pub(crate) mod write;
