//! For tests: a forked child under a filter, held until its listener is watched.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::sock_filter;

use super::{install, install_silent};

/// What a child is put under.
#[derive(Clone, Copy)]
pub(crate) enum Under<'a> {
    Nothing,
    Telling(&'a [sock_filter]),
    Silent(&'a [sock_filter]),
}

/// A child that has its filter and waits to be released.
pub(crate) struct Child {
    pub(crate) pid: i32,
    go: OwnedFd,
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// Forks. The child may only make system calls: the parent has threads.
pub(crate) fn spawn(under: Under<'_>, body: impl FnOnce() -> i32) -> (Child, Option<OwnedFd>) {
    let (told, tell) = pipe();
    let (wait, go) = pipe();
    // SAFETY: the child makes system calls only, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", io::Error::last_os_error());
    if pid == 0 {
        let code = in_child(under, &tell, &wait, body);
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(code) };
    }
    let mut number = [0_u8; 4];
    assert_eq!(rustix::io::read(&told, &mut number).unwrap(), 4, "the filter was not installed");
    let number = i32::from_ne_bytes(number);
    let listener = (number >= 0).then(|| descriptor_of(pid, number));
    (Child { pid, go }, listener)
}

fn in_child(under: Under<'_>, tell: &OwnedFd, wait: &OwnedFd, body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: plain system calls on the child itself.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    }
    let listener = match under {
        Under::Nothing => Ok(None),
        Under::Telling(program) => install(program).map(Some),
        Under::Silent(program) => install_silent(program).map(|()| None),
    };
    let Ok(listener) = listener else { return 120 };
    let number: RawFd = listener.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let mut byte = [0_u8; 1];
    let ready = rustix::io::write(tell, &number.to_ne_bytes()).is_ok()
        && rustix::io::read(wait, &mut byte) == Ok(1);
    // The child keeps no listener: it would wait for itself.
    drop(listener);
    if ready { body() } else { 121 }
}

fn descriptor_of(pid: i32, number: i32) -> OwnedFd {
    // SAFETY: plain system calls; each result is checked and owned by nobody else.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(process >= 0, "{}", io::Error::last_os_error());
        let process = OwnedFd::from_raw_fd(process as RawFd);
        let descriptor = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0);
        assert!(descriptor >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(descriptor as RawFd)
    }
}

impl Child {
    pub(crate) fn release(&self) {
        rustix::io::write(&self.go, b"g").unwrap();
    }

    /// Exit code, or minus the signal.
    pub(crate) fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: waits for our own child.
        let pid = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        assert_eq!(pid, self.pid);
        if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
    }
}

/// Makes a system call; 0 or the error number.
pub(crate) fn call(number: i64, args: [u64; 6]) -> i32 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: tests pass numbers and pointers that are valid or that no kernel can read.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result >= 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(255) }
}

/// Replaces the child by a program.
pub(crate) fn prepare_exec(command: &[&str]) -> impl FnOnce() -> i32 + use<> {
    let args: Vec<_> = command.iter().map(|arg| CString::new(*arg).unwrap()).collect();
    let mut pointers: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    move || {
        // SAFETY: the vectors were made before the fork and end with a null pointer.
        unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
        drop(args);
        122
    }
}
