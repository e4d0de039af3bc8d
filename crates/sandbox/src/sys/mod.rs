//! System calls as this crate needs them, each behind a safe function.
//!
//! Must never know what a session is.

pub(crate) mod landlock;
pub(crate) mod memfd;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod spawn;
