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

/// A record of the kernel's audit. What is read out of one of a refusal is in it, and is read again
/// out of what the kernel would write of just that.
pub(crate) fn audit(bytes: &[u8]) {
    const REFUSAL: u16 = 1423;
    let Some((kind, text)) = bytes.split_first() else { return };
    let refusal = |text: &[u8]| cofferdam_sandbox::fuzzing::refusal(REFUSAL + u16::from(kind % 2), text);
    let Some((domain, right, target)) = refusal(text) else { return };
    assert!(text.windows(right.len()).any(|at| at == right.as_bytes()), "a right that is not there");
    let Some(target) = target else { return };
    let name: String = target.iter().map(|byte| format!("{byte:02X}")).collect();
    let plain = format!("audit(1.2:3): domain={domain:x} blockers={right} path={name}");
    assert_eq!(refusal(plain.as_bytes()), Some((domain, right, Some(target))));
}
