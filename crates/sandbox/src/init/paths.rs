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

/// A character device.
pub(super) struct Device {
    pub(super) name: &'static str,
    pub(super) major: u32,
    pub(super) minor: u32,
}

const fn device(name: &'static str, major: u32, minor: u32) -> Device {
    Device { name, major, minor }
}

/// Devices in `/dev` that a program may expect, numbered as in the kernel's
/// `Documentation/admin-guide/devices.txt`. Of the host's those are left out that it lacks.
pub(super) const DEVICES: &[Device] = &[
    device("null", 1, 3),
    device("zero", 1, 5),
    device("full", 1, 7),
    device("random", 1, 8),
    device("urandom", 1, 9),
    device("tty", 5, 0),
];

/// Links in `/dev`, from where to what.
pub(super) const DEVICE_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Places in `/dev` for file systems of the session's own.
pub(super) const DEVICE_DIRECTORIES: &[&str] = &["pts", "shm"];

/// Files of `/proc` that tell of the host or steer it: an empty device lies over them.
pub(super) const MASKED_FILES: &[&str] = &[
    "/proc/cmdline",
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kallsyms",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/misc",
    "/proc/modules",
    "/proc/partitions",
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
    "/proc/pressure",
    "/proc/scsi",
];

/// Directories of the view that hold configuration and no programs, such as the global `npmrc` with
/// a token of npm's or the `gitconfig` of a git that was built here: an empty one lies over them.
pub(super) const MASKED_CONFIGURATION: &[&str] = &["/usr/etc", "/usr/local/etc"];

/// Files of the view likewise: pip's, beside its prefix.
pub(super) const MASKED_CONFIGURATION_FILES: &[&str] = &["/usr/pip.conf", "/usr/local/pip.conf"];

/// Readable, never writable.
pub(super) const READ_ONLY: &[&str] = &["/proc/sys"];
