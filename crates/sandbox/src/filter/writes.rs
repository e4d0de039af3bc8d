//! Calls that mean to write, where a profile wants to be told of those that a read-only mount refuses.
//!
//! A read-only mount answers before any place that tells. So the supervisor is asked about each of these
//! calls, looks where it goes, and lets the kernel go on with all of them. What C libraries do not use
//! (openat2(2)), and what is done to a file that is open, is not asked about. Must never decide:
//! without these rows the same is refused, untold.

use cofferdam_contract::denial::Operation;

use super::rule::{Guard, Judge, Named, Notice, Refusal, Write, has_bit, masked, not_null};

const READ_ONLY: Refusal = Refusal {
    operation: Operation::Write,
    errno: libc::EROFS,
    rule: "view.read_only",
    reason_code: "read_only",
    hint: "write in the workspace, in home or in /tmp, or ask for the grant write:PATH",
};

/// Flags that mean more than to read what is there.
const OPENS_1: Guard = &[
    &[masked(1, libc::O_ACCMODE as u64, libc::O_WRONLY as u64)],
    &[masked(1, libc::O_ACCMODE as u64, libc::O_RDWR as u64)],
    &[has_bit(1, libc::O_CREAT as u64)],
    &[has_bit(1, libc::O_TRUNC as u64)],
];
const OPENS_2: Guard = &[
    &[masked(2, libc::O_ACCMODE as u64, libc::O_WRONLY as u64)],
    &[masked(2, libc::O_ACCMODE as u64, libc::O_RDWR as u64)],
    &[has_bit(2, libc::O_CREAT as u64)],
    &[has_bit(2, libc::O_TRUNC as u64)],
];

/// Not of a descriptor, as futimens(3) has it.
const NAMED: Guard = &[&[not_null(1)]];

const fn when(guard: Guard, write: Write) -> Notice {
    let judge = Some(Judge::Write(write));
    Notice { refusal: &READ_ONLY, cases: &[], guard, judge, debug: false }
}

const fn always(write: Write) -> Notice {
    when(&[], write)
}

const fn path(path: usize) -> Named {
    Named { directory: None, path }
}

const fn at(directory: usize, path: usize) -> Named {
    Named { directory: Some(directory), path }
}

const fn change(file: Named) -> Notice {
    always(Write::Change { file, flags: None })
}

const fn change_at(file: Named, flags: usize) -> Notice {
    always(Write::Change { file, flags: Some(flags) })
}

/// By number.
pub(super) const TABLE: &[(u32, Notice)] = &[
    (2, when(OPENS_1, Write::Open { file: path(0), flags: Some(1) })), // open
    (76, change(path(0))),                                             // truncate
    (82, always(Write::Move { from: path(0), to: path(1) })),          // rename
    (83, always(Write::Make(path(0)))),                                // mkdir
    (84, always(Write::Remove(path(0)))),                              // rmdir
    (85, always(Write::Open { file: path(0), flags: None })),          // creat
    (86, always(Write::Link { from: path(0), to: path(1) })),          // link
    (87, always(Write::Remove(path(0)))),                              // unlink
    (88, always(Write::Make(path(1)))),                                // symlink
    (90, change(path(0))),                                             // chmod
    (132, change(path(0))),                                            // utime
    (133, always(Write::Make(path(0)))),                               // mknod
    (188, change(path(0))),                                            // setxattr
    (197, change(path(0))),                                            // removexattr
    (235, change(path(0))),                                            // utimes
    (257, when(OPENS_2, Write::Open { file: at(0, 1), flags: Some(2) })), // openat
    (258, always(Write::Make(at(0, 1)))),                              // mkdirat
    (259, always(Write::Make(at(0, 1)))),                              // mknodat
    (261, change(at(0, 1))),                                           // futimesat
    (263, always(Write::Remove(at(0, 1)))),                            // unlinkat
    (264, always(Write::Move { from: at(0, 1), to: at(2, 3) })),       // renameat
    (265, always(Write::Link { from: at(0, 1), to: at(2, 3) })),       // linkat
    (266, always(Write::Make(at(1, 2)))),                              // symlinkat
    (268, change(at(0, 1))),                                           // fchmodat
    (280, when(NAMED, Write::Change { file: at(0, 1), flags: Some(3) })), // utimensat
    (316, always(Write::Move { from: at(0, 1), to: at(2, 3) })),       // renameat2
    (452, change_at(at(0, 1), 3)),                                     // fchmodat2
];

/// What is asked about this call.
pub(super) fn find(number: u32) -> Option<&'static Notice> {
    let at = TABLE.binary_search_by_key(&number, |row| row.0).ok()?;
    TABLE.get(at).map(|(_, notice)| notice)
}
