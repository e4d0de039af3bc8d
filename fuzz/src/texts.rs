//! Texts that others write: requests, narrowings, paths, and what is shown of them.

use cofferdam_contract::grant::{GRANT_BYTES_MAX, GrantKind, GrantWish};
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::request::RuntimeRequest;
use cofferdam_contract::text;
use cofferdam_policy::Narrowing;

use crate::shapes::{Format, both};

const NARROWING: (Format, &[&str]) = (
    Format::Toml,
    &[
        "limits", "pids", "cpu_percent", "budget", "wall_ms", "session", "carry", "environment",
        "required_walls", "boundary", "rootfs", "executables", "allow", "deny", "paths", "allowed",
        "change", "kinds", "dependencies", "cargo", "registries", "gate", "commands", "name", "argv",
        "detect", "grants", "auto", "approval", "required", "merge", "extends", "a", "", "é", "../a",
    ],
);

/// A request that is taken can be written and read again.
pub(crate) fn request(bytes: &[u8]) {
    if let Ok(request) = RuntimeRequest::parse(bytes) {
        let written = serde_json::to_vec(&request).expect("a request has a form in JSON");
        assert_eq!(RuntimeRequest::parse(&written).ok(), Some(request));
    }
}

/// What a session asks for. A wish that is taken means one thing, and the same when it is read again.
pub(crate) fn wish(bytes: &[u8]) {
    let Ok(wish) = serde_json::from_slice::<GrantWish>(bytes) else { return };
    let kind = wish.kind.to_string();
    assert!(kind.len() <= GRANT_BYTES_MAX && !kind.chars().any(char::is_control), "{kind:?}");
    if let GrantKind::Read(path) | GrantKind::Write(path) = &wish.kind {
        let mut parts = path.split('/');
        assert_eq!(parts.next(), Some(""), "{path:?} is not absolute");
        assert!(parts.all(|part| !matches!(part, "" | "." | "..")), "{path:?} means more than one thing");
    }
    let written = serde_json::to_vec(&wish).expect("a wish has a form in JSON");
    assert_eq!(serde_json::from_slice::<GrantWish>(&written).ok(), Some(wish));
}

/// The file by which a repository narrows what a run may do.
pub(crate) fn narrowing(bytes: &[u8]) {
    both(bytes, NARROWING, Narrowing::parse);
}

/// A path that is taken leads nowhere but down.
pub(crate) fn path(bytes: &[u8]) {
    if let Ok(path) = RepoPath::new(bytes) {
        assert!(!bytes.is_empty() && bytes[0] != b'/' && !bytes.contains(&0));
        for part in path.components() {
            assert!(!part.is_empty() && part != b"." && part != b"..");
        }
    }
}

/// What is shown of foreign bytes steers no terminal and deceives no reader.
pub(crate) fn shown(bytes: &[u8]) {
    let line = text::escape_bytes(bytes);
    assert!(line.chars().all(|c| !c.is_control() && !text::is_deceptive(c)), "{line:?}");
    let lines = text::escape_lines(bytes);
    let harmless = |c: char| c == '\n' || c == '\t' || !c.is_control() && !text::is_deceptive(c);
    assert!(lines.chars().all(harmless), "{lines:?}");
}
