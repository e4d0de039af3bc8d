//! Processes: cloning, forking, executing, identity, signals.
//!
//! Launcher and init have one thread each, so a forked child of theirs may allocate. Must never
//! know what a call is.

#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::process::{Pid, Signal};

/// The namespaces of a session that every kernel we support has.
pub(crate) const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// A child as its parent sees it.
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Clones this process into new namespaces. `None` is the child. The caller has one thread.
///
/// By clone(2) and not by clone3(2): the filters of container engines look at flags, which they
/// cannot in clone3, and so answer that there is none.
pub(crate) fn clone_into(namespaces: i32) -> io::Result<Option<Child>> {
    let mut pidfd: RawFd = -1;
    let flags = namespaces | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: no stack is given, so the child goes on here on a copy of this one, like fork(2);
    // with one thread no lock can be held by another. The kernel stores the descriptor of the
    // child where the third argument says.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) })?;
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Child { pid: pid as i32, pidfd }))
}

/// Forks. `None` is the child. The caller has one thread.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the caller has one thread, so the child may do whatever the parent may.
    let pid = check(unsafe { libc::fork() }.into())?;
    Ok(Pid::from_raw(pid as i32))
}

/// Forks a child that shares this process's descriptors. `None` is the child, which only makes
/// system calls and then [`exit`]s. The caller has one thread.
pub(crate) fn fork_sharing_descriptors() -> io::Result<Option<Pid>> {
    // SAFETY: no stack is given, so the child goes on here on a copy of this one.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0)
    })?;
    Ok(Pid::from_raw(pid as i32))
}

/// Ends the process without running anything of the parent's that was copied.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from 0 on that is not in `keep`.
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 0;
    for kept in keep {
        if kept > first {
            close_range(first, kept - 1, 0)?;
        }
        first = kept + 1;
    }
    close_range(first, u32::MAX, 0)
}

/// Marks every descriptor from `first` on as closed on execution.
pub(crate) fn close_from_on_exec(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Marks every descriptor of this process but the standard streams as closed on execution: a
/// program that it starts inherits nothing that whoever started this one left open.
///
/// # Errors
/// The kernel's, on one without close_range(2).
pub fn pass_on_standard_streams_only() -> io::Result<()> {
    close_from_on_exec(3)
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, 0)
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: the callers own what they close: they are about to hand the process over, and no
    // value that owns one of these descriptors is used or dropped afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Makes `source` the descriptor `number`, open across execution.
pub(crate) fn place(source: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes numbers; where both are equal it would leave close-on-exec set.
    let result = unsafe {
        if source == number {
            libc::fcntl(number, libc::F_SETFD, 0)
        } else {
            libc::dup2(source, number)
        }
    };
    check(result.into()).map(drop)
}

/// Becomes `uid` and `gid` for good, in one thread. The parent-death signal is lost by it.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: take numbers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// The user namespace that owns the namespace `of`.
pub(crate) fn owner_of(of: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `_IO(0xb7, 1)` of ioctl_nsfs(2).
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: this request takes no argument.
    let descriptor = check(unsafe { libc::ioctl(of.as_raw_fd(), NS_GET_USERNS) }.into())?;
    // SAFETY: the kernel gave a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

/// Enters a namespace, which is of that kind. The caller has one thread.
pub(crate) fn enter(namespace: BorrowedFd<'_>, kind: i32) -> io::Result<()> {
    // SAFETY: takes numbers; with one thread nothing else relies on what changes.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }.into()).map(drop)
}

/// Goes on in a copy of the mounts of this process. The caller has one thread.
pub(crate) fn leave_mounts() -> io::Result<()> {
    // SAFETY: takes a flag only, and shares no memory anew.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into()).map(drop)
}

/// Gives up supplementary groups.
pub(crate) fn drop_groups() -> io::Result<()> {
    // SAFETY: with a length of 0 the pointer is not read.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) }).map(drop)
}

/// Leaves the inherited session key ring for an empty one.
pub(crate) fn new_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let unnamed = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous ring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, unnamed) }).map(drop)
}

/// Enters a control-group namespace whose root is where this process is.
pub(crate) fn new_cgroup_namespace() -> io::Result<()> {
    // SAFETY: takes a flag only, and shares no memory anew.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into()).map(drop)
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: all zero is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a whole `ifreq` that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(result.into()).map(drop)
}

/// Blocks every signal and returns a descriptor that tells of ended children.
pub(crate) fn watch_children() -> io::Result<OwnedFd> {
    watch(&[Signal::CHILD])
}

/// Blocks every signal and returns a descriptor that tells of these.
pub(crate) fn watch(signals: &[Signal]) -> io::Result<OwnedFd> {
    // SAFETY: the sets are plain values that are initialised before use.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()).into())?;
        let mut watched: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut watched);
        for signal in signals {
            libc::sigaddset(&raw mut watched, signal.as_raw());
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        let descriptor = check(libc::signalfd(-1, &raw const watched, flags).into())?;
        Ok(OwnedFd::from_raw_fd(descriptor as RawFd))
    }
}

/// Takes what a descriptor of [`watch`] has to tell; whether `signal` was in it.
pub(crate) fn was_told(watched: &OwnedFd, signal: Signal) -> bool {
    const BYTES: usize = size_of::<libc::signalfd_siginfo>();
    let (mut told, mut one) = (false, [0_u8; BYTES]);
    // The number comes first (signalfd(2)).
    while matches!(rustix::io::read(watched, &mut one), Ok(BYTES)) {
        told |=
            one.first_chunk().is_some_and(|it| u32::from_ne_bytes(*it) == signal.as_raw() as u32);
    }
    told
}

/// Gives a child the signals as a program expects them: none blocked, none ignored.
pub(crate) fn reset_signals() {
    // SAFETY: the sets are plain values that are initialised before use; setting a default
    // disposition is always sound.
    unsafe {
        for number in [libc::SIGPIPE, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            libc::signal(number, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Whether a process or a stop of all was there to be signalled.
///
/// Reaches what the caller may signal: in a native session its process namespace, in a flat one
/// its Landlock domain, which init has made sure of before it serves. Nobody but init may call it.
pub(crate) fn signal_all(signal: Signal) -> bool {
    // SAFETY: takes numbers. -1 is everything in this pid namespace but process 1 and the caller.
    unsafe { libc::kill(-1, signal.as_raw()) == 0 }
}

/// Signals one process of this namespace.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _gone = rustix::process::kill_process(pid, signal);
    }
}

/// Text for the kernel; an inner NUL is refused.
pub(crate) fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Whether two threads have one table of descriptors, as kcmp(2) says, which not every kernel has.
pub(crate) fn share_descriptors(one: i32, other: i32) -> bool {
    const KCMP_FILES: libc::c_int = 2;
    // SAFETY: numbers alone.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, 0, 0) == 0 }
}

/// Whether the other end of a socket or pipe is closed.
pub(crate) fn is_hung_up(descriptor: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// Borrows a descriptor that this process has by its number.
pub(crate) fn borrow(descriptor: RawFd) -> BorrowedFd<'static> {
    // SAFETY: only called with the number of a descriptor that stays open as long as the process
    // that asks.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}
