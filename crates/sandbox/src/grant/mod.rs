//! What a session can be given from outside: a path of the host, and the right to trace.
//!
//! A path is looked at and held in [`source`], put below [`PLACES`] by a child of the launcher that
//! enters the session's mounts, and taken away there again once [`holders`] are gone. The kernel is
//! the judge of that: it unmounts nothing that anybody holds. Must never know why a grant is given.

pub(crate) mod holders;
pub(crate) mod names;
pub(crate) mod source;

pub use source::Guarded;

/// Where granted paths are inside: to be read, and to be written.
pub(crate) const PLACES: [&str; 2] = ["/grants/ro", "/grants/rw"];
