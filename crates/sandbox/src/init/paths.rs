//! Where things are inside a session.
//!
//! One list, so that the root, the rules for it and the environment agree.

use crate::view::HOME;

/// What the boundary tells the session.
pub(super) const RUN: &str = "/run/cofferdam";
/// Denials as they are recorded, one JSON object a line.
pub(super) const DENIALS: &str = "/run/cofferdam/denials.jsonl";
/// Where the session asks for grants, one JSON object a line.
pub(crate) const ASKED: &str = "/run/cofferdam/request-grant";
/// What came of that, and what it was given, one JSON object a line.
pub(super) const TOLD: &str = "/run/cofferdam/grants.jsonl";
/// Writable beside the workspace: scratch file systems of the session's own.
pub(crate) const SCRATCH: &[&str] = &["/tmp", HOME, "/dev/shm"];

/// Devices that a program may expect; those that the host lacks are left out.
pub(super) const DEVICES: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Links in `/dev`, from where to what.
pub(super) const DEVICE_LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Files of `/proc` that tell of the host or steer it: an empty device lies over them.
pub(super) const MASKED_FILES: &[&str] = &[
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kallsyms",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/sched_debug",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/vmallocinfo",
];

/// Directories of `/proc` likewise: an empty one lies over them.
pub(super) const MASKED_DIRECTORIES: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/driver",
    "/proc/fs",
    "/proc/irq",
    "/proc/scsi",
];

/// Directories of the view that hold configuration and no programs, such as the global `npmrc` with
/// a token of npm's or the `gitconfig` of a git that was built here: an empty one lies over them.
pub(super) const MASKED_CONFIGURATION: &[&str] = &["/usr/etc", "/usr/local/etc"];

/// Files of the view likewise: pip's, beside its prefix.
pub(super) const MASKED_CONFIGURATION_FILES: &[&str] = &["/usr/pip.conf", "/usr/local/pip.conf"];

/// Readable, never writable.
pub(super) const READ_ONLY: &[&str] = &["/proc/sys"];
