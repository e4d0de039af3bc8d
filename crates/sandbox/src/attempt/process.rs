//! Namespaces, identity, and other processes.

use std::io;
use std::os::fd::OwnedFd;

use super::check;
use crate::sys::process;

/// A namespace, as `unshare(2)` and `/proc/PID/ns` name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Namespace {
    /// Users.
    User,
    /// Mounts.
    Mount,
    /// Processes, of children.
    Pid,
    /// Network.
    Net,
    /// System V and POSIX IPC.
    Ipc,
    /// Host name.
    Uts,
    /// Control groups.
    Cgroup,
    /// Clocks, of children.
    Time,
}

impl Namespace {
    fn flag(self) -> i32 {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Net => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => 0x80,
        }
    }

    /// Its name in `/proc/PID/ns`, where what `unshare` makes for children has one of its own.
    pub fn file(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Pid => "pid_for_children",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time_for_children",
        }
    }
}

/// Leaves these namespaces for new ones. The process has one thread, or none of them is of users.
///
/// # Errors
/// The kernel's.
pub fn unshare(namespaces: &[Namespace]) -> io::Result<()> {
    let flags = namespaces.iter().fold(0, |flags, namespace| flags | namespace.flag());
    // SAFETY: takes flags of namespaces only: no memory and no descriptors are unshared.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// The namespace of a child that was cloned into a new one by `clone(2)`. The caller has one
/// thread.
///
/// # Errors
/// The kernel's.
pub fn clone_with(namespace: Namespace) -> io::Result<OwnedFd> {
    let flags = namespace.flag() | libc::SIGCHLD;
    // SAFETY: no stack is given, so the child goes on here on a copy of this one, like fork(2).
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    namespace_of_child(pid as i32, namespace)
}

/// The same by `clone3(2)`, whose flags no filter can see.
///
/// # Errors
/// The kernel's.
pub fn clone3_with(namespace: Namespace) -> io::Result<OwnedFd> {
    let child = process::clone_into(namespace.flag())?;
    namespace_of_child(child.map_or(0, |child| child.pid), namespace)
}

/// In the child waits to be killed; in the parent opens the child's namespace and ends it.
fn namespace_of_child(pid: i32, namespace: Namespace) -> io::Result<OwnedFd> {
    if pid == 0 {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        }
    }
    let file = namespace.file().trim_end_matches("_for_children");
    let opened = std::fs::File::open(format!("/proc/{pid}/ns/{file}"));
    process::signal(pid, rustix::process::Signal::KILL);
    let pid = rustix::process::Pid::from_raw(pid);
    let _ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    Ok(opened?.into())
}

/// Becomes another user and group for good.
///
/// # Errors
/// The kernel's.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    process::become_user(uid, gid)
}

/// Asks for every capability (`capset(2)`).
///
/// # Errors
/// The kernel's.
pub fn take_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let (header, all) = ([VERSION_3, 0], [u32::MAX; 6]);
    // SAFETY: version 3 has a header of two words and data of six.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), all.as_ptr()) }).map(drop)
}

/// Begins to trace a process (`ptrace(2)`, `PTRACE_SEIZE`).
///
/// # Errors
/// The kernel's.
pub fn trace(pid: i32) -> io::Result<()> {
    // SAFETY: seizing takes no pointers that are followed.
    check(unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, pid, 0_usize, 0_usize) })
        .map(drop)
}

/// Reads memory of another process (`process_vm_readv(2)`).
///
/// # Errors
/// The kernel's.
pub fn read_memory(pid: i32, address: usize, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0_u8; length];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
    let remote =
        libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(address), iov_len: length };
    // SAFETY: the kernel writes at most `length` bytes into a buffer of that length; the remote
    // pointer is the other process's.
    let count =
        check(
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) }
                as i64,
        )?;
    bytes.truncate(usize::try_from(count).unwrap_or_default());
    Ok(bytes)
}

/// Leaves the calling thread's session key ring for an empty one.
///
/// # Errors
/// The kernel's.
pub fn join_new_keyring() -> io::Result<()> {
    process::new_keyring()
}
