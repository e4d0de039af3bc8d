//! Namespaces, identity, and other processes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{check, owned};
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

    /// Its name in `/proc/PID/ns`, and the number of the request for it to a descriptor of a process
    /// (`PIDFD_GET_*_NAMESPACE` of `linux/pidfd.h`). What `unshare` makes for children has its own.
    fn named(self, of_children: bool) -> (&'static str, libc::c_ulong) {
        match (self, of_children) {
            (Self::User, _) => ("user", 9),
            (Self::Mount, _) => ("mnt", 3),
            (Self::Pid, false) => ("pid", 5),
            (Self::Pid, true) => ("pid_for_children", 6),
            (Self::Net, _) => ("net", 4),
            (Self::Ipc, _) => ("ipc", 2),
            (Self::Uts, _) => ("uts", 10),
            (Self::Cgroup, _) => ("cgroup", 1),
            (Self::Time, false) => ("time", 7),
            (Self::Time, true) => ("time_for_children", 8),
        }
    }
}

/// The namespace that a process, or its children to be, are in: by `/proc`, or by a descriptor of the
/// process where that cannot be read (Linux 6.11).
///
/// # Errors
/// The kernel's.
pub fn namespace_of(pid: i32, namespace: Namespace, of_children: bool) -> io::Result<OwnedFd> {
    const PIDFS: libc::c_ulong = 0xff00;
    let (name, number) = namespace.named(of_children);
    if let Ok(file) = std::fs::File::open(format!("/proc/{pid}/ns/{name}")) {
        return Ok(file.into());
    }
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    // SAFETY: the request takes no pointer.
    owned(unsafe { libc::ioctl(process.as_raw_fd(), PIDFS | number, 0) }.into())
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
    let opened = namespace_of(pid, namespace, false);
    end(pid);
    opened
}

fn end(pid: i32) {
    process::signal(pid, rustix::process::Signal::KILL);
    let pid = rustix::process::Pid::from_raw(pid);
    let _ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
}

/// What a [`Keeper`] keeps, in bytes.
pub const KEPT_BYTES: usize = 64;

/// A child that has the first bytes of a file in its memory, at a place that its parent knows, and
/// waits. It ends when this is dropped.
pub struct Keeper {
    pid: i32,
    place: Box<[u8; KEPT_BYTES]>,
}

impl Keeper {
    /// Forks. The caller has one thread, and never has the bytes itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        let mut place = Box::new([0; KEPT_BYTES]);
        let (ready, is_ready) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // SAFETY: no stack is given, so the child goes on here on a copy of this one, like fork(2);
        // it makes system calls and nothing else.
        let pid = check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })?;
        if pid == 0 {
            let _kept = rustix::io::pread(file, place.as_mut_slice(), 0);
            let _told = rustix::io::write(&is_ready, b".");
            loop {
                std::thread::sleep(std::time::Duration::from_secs(3600));
            }
        }
        drop(is_ready);
        let keeper = Self { pid: pid as i32, place };
        rustix::io::retry_on_intr(|| rustix::io::read(&ready, &mut [0; 1]))?;
        Ok(keeper)
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Where the bytes are in its memory.
    pub fn address(&self) -> usize {
        self.place.as_ptr().expose_provenance()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        end(self.pid);
    }
}

/// Everything that is open beyond the standard streams, found by number.
pub fn left_open() -> Vec<OwnedFd> {
    const NUMBERS: std::ops::Range<i32> = 3..1024;
    // SAFETY: asks about a number, which need not be open.
    let is_open = |number: &i32| unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0;
    // What is open is known before the first duplicate is.
    let open: Vec<i32> = NUMBERS.filter(is_open).collect();
    // SAFETY: duplicates a number, which need not be open.
    let duplicate = |number| unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    open.into_iter().filter_map(|number| owned(duplicate(number).into()).ok()).collect()
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
