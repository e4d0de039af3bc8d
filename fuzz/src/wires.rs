//! What comes over sockets and pipes, and out of the memory of a session's processes.

/// A socket address as it lies in the memory of a program in a session.
pub(crate) fn address(bytes: &[u8]) {
    if let Some(far) = cofferdam_sandbox::fuzzing::address(bytes) {
        let to: std::net::SocketAddr = far.parse().expect("an address that is told is one");
        assert!(!to.ip().is_loopback(), "loopback is not told");
    }
}

/// A message of init's.
pub(crate) fn init(bytes: &[u8]) {
    cofferdam_sandbox::fuzzing::from_init(bytes);
}

/// What git says of two trees, with the names that a session chose.
pub(crate) fn diff(bytes: &[u8]) {
    cofferdam_repository::fuzzing::diff_tree(bytes);
}
