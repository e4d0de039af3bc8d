//! The whole table as a snapshot, and each telling call refused and told, with the filter off as control.

use super::harness::{Under, call, spawn};
use super::rule::Judge;
use super::*;

const ALL: [u64; 6] = [u64::MAX; 6];

fn row(number: u32, name: &str, answer: &Answer) -> String {
    let answer = match answer {
        Answer::Allow => "allow".to_owned(),
        Answer::Absent => "ENOSYS".to_owned(),
        Answer::Done([]) => "nothing is done".to_owned(),
        Answer::Done(_) => "nothing is done when guarded".to_owned(),
        Answer::Notify(notice) => {
            let when = if notice.guard.is_empty() { "" } else { " when guarded" };
            let judge = match notice.judge {
                None => "",
                Some(Judge::OwnIds { .. }) => " unless own ids",
                Some(Judge::OwnProcess { started: false, .. }) => " unless its own",
                Some(Judge::OwnProcess { .. }) => " unless its own or started by it",
                Some(Judge::Write(_)) => " and let go on",
                Some(Judge::Change { .. }) => " unless done beneath the session's directories",
                Some(_) => " beyond loopback",
            };
            let debug = if notice.debug { " unless debug" } else { "" };
            let refusal = notice.refusal;
            format!(
                "notify{when}{judge}{debug}: {:?}, {}, errno {}, {}",
                refusal.operation, refusal.rule, refusal.errno, refusal.reason_code
            )
        }
    };
    format!("{number:>3} {name}: {answer}\n")
}

#[test]
fn the_whole_table_is_a_snapshot() {
    let text: String =
        table::TABLE.iter().map(|(number, name, answer)| row(*number, name, answer)).collect();
    insta::assert_snapshot!("system_calls", text);
}

#[test]
fn what_a_flat_session_is_answered_otherwise_is_a_snapshot() {
    let differs = table::TABLE.iter().filter_map(|(number, name, native)| {
        let flat = of_row(*number, native, Boundary::Flat);
        (!std::ptr::eq(flat, native)).then(|| row(*number, name, flat))
    });
    let text: String = differs.collect();
    assert_eq!(text.lines().count(), flat::TABLE.len());
    assert!(flat::TABLE.is_sorted_by_key(|row| row.0));
    insta::assert_snapshot!("system_calls_flat", text);
}

/// Each names the file where the call has it, which nothing but this table says.
#[test]
fn what_is_asked_about_writes_is_a_snapshot() {
    let rows = writes::TABLE.iter().map(|(number, notice)| {
        let (_, name, _) = table::find(*number as i32).unwrap();
        let Some(Judge::Write(write)) = notice.judge else { panic!("{name}") };
        format!("{}    {write:?}\n", row(*number, name, &Answer::Notify(*notice)))
    });
    assert!(writes::TABLE.is_sorted_by_key(|row| row.0));
    insta::assert_snapshot!("system_calls_writes", rows.collect::<String>());
}

/// What only told, because a namespace refused the same, may be allowed; nothing else.
#[test]
fn flat_allows_nothing_that_the_catalogue_refuses() {
    for (number, name, native) in table::TABLE {
        let only_told = match native {
            Answer::Allow => true,
            Answer::Absent | Answer::Done(_) => false,
            Answer::Notify(notice) => notice.judge.is_some(),
        };
        let flat = of_row(*number, native, Boundary::Flat);
        assert!(only_told || !matches!(flat, Answer::Allow), "{name}");
    }
}

/// Linux 6.18 has 0 to 336 and, after a gap for other architectures, 424 to 469.
#[test]
fn every_call_is_in_the_table_once() {
    let numbers: Vec<_> = table::TABLE.iter().map(|row| row.0).collect();
    let expected: Vec<_> = (0..=336).chain(424..=469).collect();
    assert_eq!(numbers, expected);
    for (number, name) in [
        (libc::SYS_read, "read"),
        (libc::SYS_ptrace, "ptrace"),
        (libc::SYS_unshare, "unshare"),
        (libc::SYS_bpf, "bpf"),
        (libc::SYS_io_uring_setup, "io_uring_setup"),
        (libc::SYS_clone3, "clone3"),
        (libc::SYS_mseal, "mseal"),
    ] {
        assert_eq!(table::find(number as i32).map(|row| row.1), Some(name));
    }
    assert!(table::find(400).is_none() && table::find(-1).is_none() && table::find(9999).is_none());
}

/// Runs a call in a child of its own under a program that refuses by itself.
fn answer(under: Under<'_>, number: i64, args: [u64; 6]) -> i32 {
    let (child, _) = spawn(under, move || call(number, args));
    child.release();
    child.wait()
}

/// Arguments that a guard must catch.
pub(crate) fn refused_args(name: &str) -> [u64; 6] {
    let with = |pairs: &[(usize, u64)]| {
        let mut args = [0; 6];
        pairs.iter().for_each(|(at, value)| args[*at] = *value);
        args
    };
    match name {
        "clone" | "unshare" => with(&[(0, libc::CLONE_NEWUSER as u64)]),
        // A bit beyond 32: the kernel ignores it, and so must the comparison (CVE-2019-10063).
        "ioctl" => with(&[(1, libc::TIOCSTI | 1 << 32)]),
        "socket" => with(&[(0, libc::AF_ALG as u64 | 1 << 32), (1, libc::SOCK_SEQPACKET as u64)]),
        "personality" => with(&[(0, 0x0040_0001)]),
        "chmod" | "fchmod" => with(&[(1, 0o4755)]),
        "fchmodat" | "fchmodat2" => with(&[(2, 0o4755)]),
        "mknod" => with(&[(1, u64::from(libc::S_IFBLK) | 0o600)]),
        "mknodat" => with(&[(2, u64::from(libc::S_IFCHR) | 0o600)]),
        _ => ALL,
    }
}

/// What would reach the host's cache and disks succeeds, and the kernel is not asked.
#[test]
fn what_is_only_said_to_be_done_is_not_done() {
    let program = silent_program(false).unwrap();
    let nothing = |number, args| {
        let control = answer(Under::Nothing, number, args);
        (answer(Under::Silent(&program), number, args), control)
    };
    let advice = |it: i32| [u64::MAX, 0, 0, it as u64, 0, 0];
    let forget = advice(libc::POSIX_FADV_DONTNEED);
    assert_eq!(nothing(libc::SYS_fadvise64, forget), (0, libc::EBADF));
    assert_eq!(nothing(libc::SYS_syncfs, ALL), (0, libc::EBADF));
    let advice_of_mapped = |it: i32| [1, 4096, it as u64, 0, 0, 0];
    for forget in [libc::MADV_PAGEOUT, libc::MADV_COLD] {
        assert_eq!(nothing(libc::SYS_madvise, advice_of_mapped(forget)), (0, libc::EINVAL));
    }
    let need = advice_of_mapped(libc::MADV_WILLNEED);
    assert_eq!(nothing(libc::SYS_madvise, need), (libc::EINVAL, libc::EINVAL));
    // Other advice is the program's own affair.
    let keep = advice(libc::POSIX_FADV_WILLNEED);
    assert_eq!(nothing(libc::SYS_fadvise64, keep), (libc::EBADF, libc::EBADF));
}

/// Of files that a flat session may not open, its user would own some.
#[test]
fn a_flat_session_asks_nothing_of_files_and_takes_no_names() {
    let program = compile(Wanted { boundary: Boundary::Flat, ..Wanted::PLAIN }, false).unwrap();
    let refused = |number, args| {
        let control = answer(Under::Nothing, number, args);
        (answer(Under::Silent(&program), number, args), control)
    };
    for request in [0x4008_7602, 0x4004_7602, 0x4008_6604, 0x4004_6604, 0x4080_6685] {
        let ask = [u64::MAX, request, 0, 0, 0, 0];
        assert_eq!(refused(libc::SYS_ioctl, ask), (libc::EPERM, libc::EBADF), "{request:#x}");
    }
    use libc::{SYS_getxattr, SYS_lgetxattr, SYS_listxattr, SYS_llistxattr};
    for number in [SYS_getxattr, SYS_lgetxattr, SYS_listxattr, SYS_llistxattr] {
        assert_eq!(refused(number, ALL), (libc::ENOSYS, libc::EFAULT));
    }
    assert_eq!(refused(libc::SYS_bind, ALL), (libc::EACCES, libc::EBADF));
}

#[test]
fn each_refused_call_is_refused_with_its_number() {
    let program = silent_program(false).unwrap();
    for (number, name, answered) in table::TABLE {
        let Answer::Notify(notice) = answered else { continue };
        if !matches!(notice.judge, None | Some(Judge::OwnProcess { .. })) {
            continue;
        }
        let errno = answer(Under::Silent(&program), i64::from(*number), refused_args(name));
        assert_eq!(errno, notice.refusal.errno, "{name}");
    }
}

/// `BTRFS_IOC_SUBVOL_CREATE_V2`, `TREE_SEARCH_V2` and `FICLONERANGE`, which has a number of theirs.
const OF_BTRFS: [u64; 3] = [0x5000_9418, 0xc070_9411, 0x4020_940d];

#[test]
fn a_file_system_is_asked_for_nothing_but_to_share_a_file() {
    let program = silent_program(false).unwrap();
    let ask = |request: u64, under| answer(under, libc::SYS_ioctl, [u64::MAX, request, 0, 0, 0, 0]);
    for request in OF_BTRFS.into_iter().flat_map(|it| [it, it | 1 << 32]) {
        assert_eq!(ask(request, Under::Silent(&program)), libc::EPERM, "{request:#x}");
        // Control: without the filter the kernel looks at the descriptor.
        assert_eq!(ask(request, Under::Nothing), libc::EBADF, "{request:#x}");
    }
    assert_eq!(ask(libc::FICLONE, Under::Silent(&program)), libc::EBADF);
    let Some((_, Answer::Notify(notice))) = answer_of(libc::SYS_ioctl) else { panic!() };
    let rule = |request| notice.refusal_of(&[0, request, 0, 0, 0, 0]).rule;
    assert_eq!(rule(OF_BTRFS[0]), "seccomp.subvolume");
    assert_eq!(rule(libc::TIOCSTI | 1 << 32), "seccomp.terminal");
}

fn answer_of(number: i64) -> Option<(&'static str, &'static Answer)> {
    super::answer(number as i32, cofferdam_contract::capability::Boundary::Native)
}

/// Control: without the filter these are not refused, or not that way, on any host.
#[test]
fn without_the_filter_the_calls_go_through() {
    let program = silent_program(false).unwrap();
    let calls = [
        (libc::SYS_ptrace, [libc::PTRACE_TRACEME as u64, 0, 0, 0, 0, 0], 0),
        (libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0, 0], 0),
        (libc::SYS_ioctl, [0, libc::TIOCSTI, 0, 0, 0, 0], libc::ENOTTY),
        (libc::SYS_process_vm_readv, [0, 0, 0, 0, 0, 1], libc::EINVAL),
        (libc::SYS_io_uring_setup, [0, 0, 0, 0, 0, 0], libc::EFAULT),
        (libc::SYS_clone3, [0, 0, 0, 0, 0, 0], libc::EINVAL),
        (libc::SYS_setns, [u64::MAX, 0, 0, 0, 0, 0], libc::EBADF),
        (libc::SYS_fchmod, [u64::MAX, 0o4755, 0, 0, 0, 0], libc::EBADF),
        (libc::SYS_pidfd_getfd, [u64::MAX, 0, 0, 0, 0, 0], libc::EBADF),
        (libc::SYS_mount, ALL, libc::EFAULT),
        (libc::SYS_add_key, ALL, libc::EFAULT),
        (libc::SYS_bpf, [u64::MAX, 0, 0, 0, 0, 0], libc::EINVAL),
    ];
    for (number, args, free) in calls {
        let without = answer(Under::Nothing, number, args);
        let with = answer(Under::Silent(&program), number, args);
        assert!(
            without == free || (without != with && without != libc::EPERM),
            "{number}: {without}"
        );
        assert_ne!(with, without, "{number}");
    }
}

#[test]
fn unknown_and_absent_calls_do_not_exist() {
    let program = silent_program(false).unwrap();
    for number in [1000, 400, 337, 423, 470, libc::SYS_clone3, libc::SYS_io_uring_setup] {
        assert_eq!(answer(Under::Silent(&program), number, ALL), libc::ENOSYS, "{number}");
    }
}

#[test]
fn x32_calls_kill() {
    let program = silent_program(false).unwrap();
    let x32_getpid = i64::from(X32_BIT) | libc::SYS_getpid;
    assert_eq!(answer(Under::Silent(&program), x32_getpid, [0; 6]), -libc::SIGSYS);
    assert_ne!(answer(Under::Nothing, x32_getpid, [0; 6]), -libc::SIGSYS);
}

#[test]
fn i386_calls_kill() {
    fn i386_getpid() -> i32 {
        let mut number: i64 = 20;
        // SAFETY: getpid by the 32-bit entry touches nothing but the result register.
        unsafe {
            std::arch::asm!("int 0x80", inout("rax") number, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
        };
        i32::from(number < 0)
    }
    let program = silent_program(false).unwrap();
    let (child, _) = spawn(Under::Silent(&program), i386_getpid);
    child.release();
    assert_eq!(child.wait(), -libc::SIGSYS);
    let (child, _) = spawn(Under::Nothing, i386_getpid);
    child.release();
    let free = child.wait();
    assert!(free == 0 || free == 1 || free == -libc::SIGSEGV, "{free}");
}

#[test]
fn debug_opens_tracing_and_nothing_else() {
    let program = silent_program(true).unwrap();
    let trace = [libc::PTRACE_TRACEME as u64, 0, 0, 0, 0, 0];
    assert_eq!(answer(Under::Silent(&program), libc::SYS_ptrace, trace), 0);
    for name in ["bpf", "mount", "unshare", "keyctl"] {
        let row = table::TABLE.iter().find(|row| row.1 == name).unwrap();
        let errno = answer(Under::Silent(&program), i64::from(row.0), refused_args(name));
        assert_eq!(errno, libc::EPERM, "{name}");
    }
}

#[test]
fn ordinary_uses_of_guarded_calls_pass() {
    let program = silent_program(false).unwrap();
    let under = Under::Silent(&program);
    let socket = |family, kind, protocol| {
        answer(under, libc::SYS_socket, [family as u64, kind as u64, protocol as u64, 0, 0, 0])
    };
    assert_eq!(socket(libc::AF_UNIX, libc::SOCK_STREAM, 0), 0);
    assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0), 0);
    assert_eq!(socket(libc::AF_INET6, libc::SOCK_DGRAM, 0), 0);
    assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE), 0);
    assert_eq!(socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 1), libc::EAFNOSUPPORT);
    assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, 9), libc::EAFNOSUPPORT);
    assert_eq!(socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0), libc::EAFNOSUPPORT);
    assert_eq!(answer(under, libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]), 0);
    assert_eq!(answer(under, libc::SYS_unshare, [libc::CLONE_FILES as u64, 0, 0, 0, 0, 0]), 0);
    assert_eq!(answer(under, libc::SYS_umask, [0o22, 0, 0, 0, 0, 0]), 0);
}
