//! The probes: a file a class, a line a probe.

pub(crate) mod credentials;
pub(crate) mod kernel;
pub(crate) mod network;
pub(crate) mod read;
pub(crate) mod write;
