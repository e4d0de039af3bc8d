//! The walls, each tried.
//!
//! Must never know how a wall is reported to people.

use std::fs;
use std::path::Path;

use cofferdam_contract::capability::{Wall, WallName, WallStatus};
use cofferdam_contract::limits::Limits;

use super::probe::{Answer, attempt, call, filter, map_to_root, mount, pivot, unshare};
use crate::filter::{Wanted, program, silent_program};
use crate::init::devices;
use crate::launcher::Groups;
use crate::sys::landlock;

/// Every wall in order.
pub(super) fn all() -> Vec<Wall> {
    use WallName::*;
    let mut walls = vec![
        tried(
            UserNamespace,
            attempt(&[&unshare(libc::CLONE_NEWUSER), &map_to_root()]),
            "a user of its own",
        ),
        tried(MountNamespace, private_mounts(), "mounts of its own"),
        namespace(PidNamespace, libc::CLONE_NEWPID, "processes of its own"),
        namespace(NetworkNamespace, libc::CLONE_NEWNET, "a network of its own, loopback only"),
        namespace(IpcNamespace, libc::CLONE_NEWIPC, "System V and POSIX IPC of its own"),
        namespace(UtsNamespace, libc::CLONE_NEWUTS, "a host name of its own"),
        namespace(CgroupNamespace, libc::CLONE_NEWCGROUP, "a view of control groups of its own"),
        tried(PrivateRoot, private_root(), "a root of its own, made of an allow-list"),
        devices(),
        seccomp(),
        tried(NoNewPrivileges, attempt(&[&no_new_privs()]), "prctl(PR_SET_NO_NEW_PRIVS)"),
        tried(NoCapabilities, no_capabilities(), "all capability sets emptied"),
    ];
    walls.extend(landlock_walls());
    walls.extend([
        tried(ClosedDescriptors, closed_descriptors(), "close_range"),
        clean_environment(),
        tried(PrivateKeyring, keyring(), "a session keyring of its own"),
        tried(NoCoreDumps, core_limit(), "RLIMIT_CORE is 1: no handler of the host runs"),
    ]);
    walls.extend(limits());
    walls
}

fn tried(name: WallName, answer: Answer, means: &str) -> Wall {
    match answer {
        Ok(()) => Wall { name, status: WallStatus::Enforced, detail: means.to_owned() },
        Err(error) => Wall { name, status: WallStatus::Absent, detail: error.to_string() },
    }
}

fn namespace(name: WallName, flag: i32, means: &str) -> Wall {
    tried(name, attempt(&[&unshare(libc::CLONE_NEWUSER | flag), &map_to_root()]), means)
}

const IN_NAMESPACES: i32 = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;

fn private_mounts() -> Answer {
    let private = mount("", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "");
    attempt(&[&unshare(IN_NAMESPACES), &map_to_root(), &private])
}

fn private_root() -> Answer {
    let private = mount("", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "");
    let root = mount("tmpfs", Path::new("/tmp"), "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "");
    attempt(&[&unshare(IN_NAMESPACES), &map_to_root(), &private, &root, &pivot(c"/tmp")])
}

/// Without privilege there are the host's.
fn devices() -> Wall {
    let name = WallName::Devices;
    match devices::can_be_made() {
        Ok(()) => tried(name, Ok(()), "device files of its own"),
        Err(error) => {
            let detail = format!("the host's device files, which it can watch and lock: {error}");
            Wall { name, status: WallStatus::Degraded, detail }
        }
    }
}

fn no_new_privs() -> impl Fn() -> libc::c_long {
    call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0])
}

fn no_capabilities() -> Answer {
    // capset(2), version 3, with empty sets.
    static HEADER: [u32; 2] = [0x2008_0522, 0];
    static EMPTY: [u32; 6] = [0; 6];
    let drop_all =
        call(libc::SYS_capset, [HEADER.as_ptr() as usize, EMPTY.as_ptr() as usize, 0, 0]);
    attempt(&[&drop_all])
}

fn seccomp() -> Wall {
    let name = WallName::Seccomp;
    let (Ok(telling), Ok(silent)) = (program(Wanted::PLAIN), silent_program(false)) else {
        let detail = "the filter cannot be compiled".to_owned();
        return Wall { name, status: WallStatus::Absent, detail };
    };
    match attempt(&[&no_new_privs(), &filter(&telling, true)]) {
        Ok(()) => tried(name, Ok(()), "allow-list of system calls, telling ones notified"),
        Err(error) => match attempt(&[&no_new_privs(), &filter(&silent, false)]) {
            Ok(()) => {
                let detail = format!("allow-list of system calls, no events: {error}");
                Wall { name, status: WallStatus::Degraded, detail }
            }
            Err(error) => tried(name, Err(error), ""),
        },
    }
}

fn landlock_walls() -> [Wall; 2] {
    let abi = landlock::abi();
    let lacks: Vec<_> = [(3, "truncation"), (4, "TCP ports"), (5, "device ioctl"), (7, "audit")]
        .into_iter()
        .filter(|(since, _)| abi < *since)
        .map(|(_, what)| what)
        .collect();
    let without =
        if lacks.is_empty() { String::new() } else { format!(", without {}", lacks.join(", ")) };
    let detail = format!("Landlock ABI {abi}{without}");
    let wall = |name, since| {
        let status = if abi >= since { WallStatus::Enforced } else { WallStatus::Absent };
        Wall { name, status, detail: detail.clone() }
    };
    [wall(WallName::LandlockFilesystem, 1), wall(WallName::LandlockScopes, 6)]
}

fn closed_descriptors() -> Answer {
    attempt(&[&call(libc::SYS_close_range, [3, u32::MAX as usize, 0, 0])])
}

/// The launcher is executed from a sealed memfd with an empty environment.
fn clean_environment() -> Wall {
    let flags = (libc::MFD_ALLOW_SEALING | libc::MFD_CLOEXEC) as usize;
    let made = attempt(&[&call(libc::SYS_memfd_create, [c"probe".as_ptr() as usize, flags, 0, 0])]);
    let noexec = fs::read_to_string("/proc/sys/vm/memfd_noexec").unwrap_or_default();
    let forbidden = noexec.trim() == "2";
    let answer = made.and_then(|()| {
        let why = "vm.memfd_noexec is 2: nothing can be executed from memory";
        if forbidden { Err(std::io::Error::other(why)) } else { Ok(()) }
    });
    tried(WallName::CleanEnvironment, answer, "re-executed from a sealed memfd with no environment")
}

/// A kernel without keyrings has none to keep apart.
fn keyring() -> Answer {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    let joined = attempt(&[&call(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0])]);
    joined.or_else(
        |error| if error.raw_os_error() == Some(libc::ENOSYS) { Ok(()) } else { Err(error) },
    )
}

/// 1 and not 0: with 0 a piped `core_pattern` still runs its handler on the host (core(5)).
fn core_limit() -> Answer {
    static ONE: libc::rlimit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    let limit = std::ptr::from_ref(&ONE) as usize;
    attempt(&[&call(libc::SYS_setrlimit, [libc::RLIMIT_CORE as usize, limit, 0, 0])])
}

fn limits() -> [Wall; 4] {
    let limits = Limits { cpu_percent: Some(100), ..Limits::default() };
    let groups = Groups::create(&limits);
    let (memory, pids) = (groups.limits_memory(), groups.limits_pids());
    let cpu = match groups.limits_cpu() {
        true => tried(WallName::CpuLimit, Ok(()), "control group, where a profile asks for it"),
        false => {
            let detail = "no control group can be made".to_owned();
            Wall { name: WallName::CpuLimit, status: WallStatus::Absent, detail }
        }
    };
    groups.remove();
    let wall = |name, grouped: bool, otherwise: &str| {
        if grouped {
            return tried(name, Ok(()), "control group");
        }
        Wall { name, status: WallStatus::Degraded, detail: otherwise.to_owned() }
    };
    [
        wall(
            WallName::MemoryLimit,
            memory,
            "limit of each process only: no control group can be made",
        ),
        wall(WallName::ProcessLimit, pids, "limit of the user only: no control group can be made"),
        wall(WallName::DiskLimit, false, "sized temporary file systems; the workspace is polled"),
        cpu,
    ]
}
