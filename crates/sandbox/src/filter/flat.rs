//! What the filter answers otherwise where no namespace stands behind it.
//!
//! In a native session these calls reach the session's own network, IPC, processes and files and
//! nothing else. In a flat one they reach the host's, and Landlock has no say in them: it knows
//! nothing of modes and times, of attributes, of watches, of scheduling, of System V IPC, nor of
//! connecting to a socket by its path. So what cannot be judged by numbers is refused, or done by
//! the supervisor. Must never allow what the catalogue refuses.

use cofferdam_contract::denial::Operation;

use super::rule::{
    ABSENT, ALLOW, Answer, Change, ChangedFile, Guard, Judge, Refusal, is, judge, masked, not,
    not_null, tell, tell_when,
};
use super::table::OF_BTRFS;

const NETWORK: Refusal = Refusal {
    operation: Operation::Socket,
    errno: libc::EACCES,
    rule: "seccomp.flat.socket",
    reason_code: "no_network",
    hint: "a flat session has no sockets but pairs: use pipes, or a profile with namespaces",
};
const IPC: Refusal = Refusal {
    operation: Operation::Kernel,
    errno: libc::ENOSYS,
    rule: "seccomp.flat.ipc",
    reason_code: "host_ipc_forbidden",
    hint: "use pipes, or memory that is mapped before a fork",
};
const WATCH: Refusal = Refusal {
    operation: Operation::Read,
    errno: libc::ENOSYS,
    rule: "seccomp.flat.watch",
    reason_code: "watch_forbidden",
    hint: "look again from time to time instead of watching files",
};
const ATTRIBUTES: Refusal = Refusal {
    operation: Operation::Write,
    errno: libc::EOPNOTSUPP,
    rule: "seccomp.flat.attributes",
    reason_code: "attributes_forbidden",
    hint: "do without extended attributes and file flags",
};
const COMMAND: Refusal = Refusal {
    operation: Operation::Kernel,
    errno: libc::EPERM,
    rule: "seccomp.flat.ioctl",
    reason_code: "command_forbidden",
    hint: "do not type into terminals or set flags of files",
};
const OWNER: Refusal = Refusal {
    operation: Operation::Privilege,
    errno: libc::EPERM,
    rule: "seccomp.privilege",
    reason_code: "privilege_forbidden",
    hint: "a session has one user: do not change owners",
};
const CHANGE: Refusal = Refusal {
    operation: Operation::Write,
    errno: libc::EPERM,
    rule: "seccomp.flat.change",
    reason_code: "outside_session",
    hint: "modes and times can be changed in the workspace, in home and in TMPDIR",
};

/// Anything but a pair that stays connected: a pair of datagram sockets can still send anywhere,
/// and a raw Unix socket is one.
const PAIRS: Guard = &[
    &[not(0, libc::AF_UNIX as u64)],
    &[masked(1, 0xf, libc::SOCK_DGRAM as u64)],
    &[masked(1, 0xf, libc::SOCK_RAW as u64)],
];
const HAS_ADDRESS_4: Guard = &[&[not_null(4)]];
/// Input into a terminal as everywhere; flags of a file (`FS_IOC_SETFLAGS`, its 32-bit twin,
/// `FS_IOC_FSSETXATTR`), its version (`FS_IOC_SETVERSION`, ext4's own, their twins) and its seal
/// (`FS_IOC_ENABLE_VERITY`), which its owner may set on one that is open for reading.
const COMMANDS: Guard = &[
    &[is(1, libc::TIOCSTI)],
    &[is(1, libc::TIOCLINUX)],
    &[is(1, 0x4008_6602)],
    &[is(1, 0x4004_6602)],
    &[is(1, 0x401c_5820)],
    &[is(1, 0x4008_7602)],
    &[is(1, 0x4004_7602)],
    &[is(1, 0x4008_6604)],
    &[is(1, 0x4004_6604)],
    &[is(1, 0x4080_6685)],
    &[OF_BTRFS, not(1, libc::FICLONE)],
];

/// To be told of a directory, and to be asked before somebody else opens a file (fcntl(2),
/// `F_NOTIFY` and `F_SETLEASE`): whoever starts the user's own program would wait for a session.
const LEASES: Guard = &[&[is(1, 1026)], &[is(1, 1024)]];

const fn change(file: ChangedFile, change: Change) -> Answer {
    judge(Judge::Change { file, change }, &CHANGE)
}

const fn at(directory: usize, path: usize, flags: Option<usize>) -> ChangedFile {
    ChangedFile::At { directory: Some(directory), path, flags }
}

/// By number. The rest is as in the catalogue.
pub(super) const TABLE: &[(u32, Answer)] = &[
    (16, tell_when(COMMANDS, &COMMAND)),      // ioctl
    (29, tell(&IPC)),                         // shmget
    (30, tell(&IPC)),                         // shmat
    (31, tell(&IPC)),                         // shmctl
    (41, tell(&NETWORK)),                     // socket
    (42, tell(&NETWORK)),                     // connect
    (44, tell_when(HAS_ADDRESS_4, &NETWORK)), // sendto
    // Pairs ignore or refuse an address, so that there is nothing to look at.
    (46, ALLOW),                      // sendmsg
    (49, tell(&NETWORK)),             // bind
    (53, tell_when(PAIRS, &NETWORK)), // socketpair
    (64, tell(&IPC)),                 // semget
    (65, tell(&IPC)),                 // semop
    (66, tell(&IPC)),                 // semctl
    (68, tell(&IPC)),                 // msgget
    (69, tell(&IPC)),                 // msgsnd
    (70, tell(&IPC)),                 // msgrcv
    (71, tell(&IPC)),                 // msgctl
    (72, tell_when(LEASES, &WATCH)),  // fcntl
    (90, change(ChangedFile::At { directory: None, path: 0, flags: None }, Change::Mode(1))),
    (91, change(ChangedFile::Open { descriptor: 0 }, Change::Mode(1))),
    (92, tell(&OWNER)), // chown
    (93, tell(&OWNER)), // fchown
    (94, tell(&OWNER)), // lchown
    // The C libraries use utimensat for these.
    (132, ABSENT),            // utime
    (188, tell(&ATTRIBUTES)), // setxattr
    (189, tell(&ATTRIBUTES)), // lsetxattr
    (190, tell(&ATTRIBUTES)), // fsetxattr
    // Of files that cannot be opened, Landlock lets these be read all the same.
    (191, ABSENT),                                      // getxattr
    (192, ABSENT),                                      // lgetxattr
    (194, ABSENT),                                      // listxattr
    (195, ABSENT),                                      // llistxattr
    (197, tell(&ATTRIBUTES)),                           // removexattr
    (198, tell(&ATTRIBUTES)),                           // lremovexattr
    (199, tell(&ATTRIBUTES)),                           // fremovexattr
    (220, tell(&IPC)),                                  // semtimedop
    (235, ABSENT),                                      // utimes
    (240, tell(&IPC)),                                  // mq_open
    (241, tell(&IPC)),                                  // mq_unlink
    (253, tell(&WATCH)),                                // inotify_init
    (260, tell(&OWNER)),                                // fchownat
    (261, ABSENT),                                      // futimesat
    (268, change(at(0, 1, None), Change::Mode(2))),     // fchmodat
    (280, change(at(0, 1, Some(3)), Change::Times(2))), // utimensat
    (294, tell(&WATCH)),                                // inotify_init1
    (307, ALLOW),                                       // sendmmsg, as sendmsg
    (452, change(at(0, 1, Some(3)), Change::Mode(2))),  // fchmodat2
    (463, tell(&ATTRIBUTES)),                           // setxattrat
    (464, ABSENT),                                      // getxattrat
    (465, ABSENT),                                      // listxattrat
    (466, tell(&ATTRIBUTES)),                           // removexattrat
    (469, tell(&ATTRIBUTES)),                           // file_setattr
];

/// The answer to this call where it is not the catalogue's.
pub(super) fn find(number: u32) -> Option<&'static Answer> {
    let at = TABLE.binary_search_by_key(&number, |row| row.0).ok()?;
    TABLE.get(at).map(|(_, answer)| answer)
}
