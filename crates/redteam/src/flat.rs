//! What holds an attack, and what tells of it, where no namespace stands behind the filter.
//!
//! A probe says it of native sessions; the same is held by other means in flat ones
//! (`crates/sandbox/src/filter/flat.rs`, `init/flat.rs`). Must never know whether it was.

/// What should hold what this wall holds in a native session.
pub(crate) fn wall(native: &'static str) -> &'static str {
    match native {
        "private root"
        | "private root and home"
        | "read-only mount"
        | "read-only /proc/sys"
        | "own file systems"
        | "process namespace; init is not dumpable" => "Landlock",
        "process namespace" => "Landlock; system-call filter",
        "network namespace" | "IPC namespace" | "layers over the user's own tools" => {
            "system-call filter"
        }
        "the workspace's own layer" => "the workspace's own copy; Landlock",
        "sized file system" => crate::classes::resources::WATCHED,
        _ => native,
    }
}

/// The rule that tells of what this one tells in a native session.
pub(crate) fn rule(native: &'static str) -> &'static str {
    match native {
        "seccomp.connect" | "seccomp.socket" => "seccomp.flat.socket",
        "seccomp.terminal" => "seccomp.flat.ioctl",
        // Its directories are counted with the workspace.
        "limit.inodes" => "limit.disk",
        _ => native,
    }
}
