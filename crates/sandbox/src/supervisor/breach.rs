//! Limits that took effect, as they read in a record. One constant each.
//!
//! Must never know how a limit is kept.

use cofferdam_contract::denial::{Attribution, DenialSource, Operation};

use crate::notify::Refused;
use crate::wire::{Exit, Full};

/// A limit of a call or a session.
pub(super) struct Breach {
    target: &'static str,
    rule: &'static str,
    reason_code: &'static str,
    hint: &'static str,
    pub(super) attribution: Attribution,
}

/// Its time was up.
pub(super) const TIME: Breach = Breach {
    target: "time",
    rule: "limit.time",
    reason_code: "time_limit",
    hint: "ask for more time, or do less in one call",
    attribution: Attribution::Exact,
};

/// It printed more than is kept.
pub(super) const OUTPUT: Breach = Breach {
    target: "output",
    rule: "limit.output",
    reason_code: "output_limit",
    hint: "print less, or write to a file in the workspace",
    attribution: Attribution::Exact,
};

/// There was no room for its first process.
pub(super) const NO_ROOM: Breach = Breach {
    target: "processes: the call was not started",
    rule: "limit.pids",
    reason_code: "process_limit",
    hint: "end what runs in the background before starting more",
    attribution: Attribution::Exact,
};

/// The kernel ended its program for writing beyond `RLIMIT_FSIZE`.
const FILE_SIZE: Breach = Breach {
    target: "file size",
    rule: "limit.file_size",
    reason_code: "file_size_limit",
    hint: "split the file, or write less",
    attribution: Attribution::Exact,
};

/// A shell says so of a program that it ran, by its own exit code (POSIX.1-2024, 2.8.2).
const FILE_SIZE_OF_A_CHILD: Breach = Breach { attribution: Attribution::Inferred, ..FILE_SIZE };

/// What the end of a call's program tells of limits.
pub(super) fn of_exit(exit: Exit) -> Option<&'static Breach> {
    match exit {
        Exit::Signal(libc::SIGXFSZ) => Some(&FILE_SIZE),
        Exit::Code(code) if code == 128 + libc::SIGXFSZ => Some(&FILE_SIZE_OF_A_CHILD),
        _ => None,
    }
}

impl Breach {
    pub(super) fn refused(&self) -> Refused {
        Refused {
            source: DenialSource::Limit,
            operation: Operation::Resource,
            target: self.target.to_owned(),
            rule: self.rule,
            reason_code: self.reason_code,
            hint: self.hint,
        }
    }
}

/// A process that had as many descriptors as it may (`RLIMIT_NOFILE`) when it was looked at.
pub(super) fn of_open_files() -> Refused {
    Refused {
        source: DenialSource::Limit,
        operation: Operation::Resource,
        target: "open files of a process".to_owned(),
        rule: "limit.open_files",
        reason_code: "open_files_limit",
        hint: "close what is not needed any more, or spread it over more processes",
    }
}

/// A scratch file system that became full during a call.
pub(super) fn of_full(full: &Full) -> Refused {
    let (what, rule, reason_code) = if full.files {
        ("files", "limit.inodes", "inode_limit")
    } else {
        ("bytes", "limit.disk", "disk_limit")
    };
    Refused {
        source: DenialSource::Limit,
        operation: Operation::Resource,
        target: format!("{}: no {what} are left", full.path),
        rule,
        reason_code,
        hint: "remove what is not needed there",
    }
}
