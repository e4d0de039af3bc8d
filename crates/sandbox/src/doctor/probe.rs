//! Tries one thing in a throwaway child and reports the kernel's answer.
//!
//! The caller may have threads, so a child makes system calls only: paths and texts are made before
//! the fork. Must never know what an answer means.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::path::Path;

/// The kernel's answer to a probe.
pub(super) type Answer = Result<(), io::Error>;

/// A step of a probe, in the child: 0, or -1 with `errno` set.
pub(super) type Code = libc::c_long;

/// Runs `steps` in a forked child until one fails.
pub(super) fn attempt(steps: &[&dyn Fn() -> Code]) -> Answer {
    // SAFETY: the child makes system calls only and leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        let failed = steps.iter().any(|step| step() < 0);
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        // SAFETY: ends the child without running anything that was copied from the parent.
        unsafe { libc::_exit(if failed { errno.clamp(1, 255) } else { 0 }) };
    }
    let mut status = 0;
    loop {
        // SAFETY: waits for our own child.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if waited == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(()),
        (true, errno) => Err(io::Error::from_raw_os_error(errno)),
        (false, _) => Err(io::Error::other("the probe was killed")),
    }
}

/// Into new namespaces; user namespaces among them make the caller their root.
pub(super) fn unshare(flags: i32) -> impl Fn() -> Code {
    // SAFETY: changes the child alone.
    move || unsafe { libc::unshare(flags) }.into()
}

/// Maps the caller to root of its new user namespace.
pub(super) fn map_to_root() -> impl Fn() -> Code {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let files = [
        (c"/proc/self/setgroups", "deny".to_owned()),
        (c"/proc/self/uid_map", format!("0 {uid} 1")),
        (c"/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    move || {
        for (path, text) in &files {
            // SAFETY: path and text outlive the calls.
            let written = unsafe {
                let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                libc::write(file, text.as_ptr().cast(), text.len())
            };
            if written < 0 {
                return -1;
            }
        }
        0
    }
}

/// A mount; empty texts are null pointers.
pub(super) fn mount(
    source: &str,
    target: &Path,
    kind: &str,
    flags: libc::c_ulong,
    data: &str,
) -> impl Fn() -> Code + use<> {
    use std::os::unix::ffi::OsStrExt;
    let text = |text: &[u8]| CString::new(text).unwrap_or_default();
    let (source, kind, data) =
        (text(source.as_bytes()), text(kind.as_bytes()), text(data.as_bytes()));
    let target = text(target.as_os_str().as_bytes());
    move || {
        let or_null =
            |text: &CString| if text.is_empty() { std::ptr::null() } else { text.as_ptr() };
        // SAFETY: the texts outlive the call.
        unsafe {
            libc::mount(
                or_null(&source),
                target.as_ptr(),
                or_null(&kind),
                flags,
                or_null(&data).cast(),
            )
        }
        .into()
    }
}

/// Makes the directory at `path` the root, as a session does.
pub(super) fn pivot(path: &'static std::ffi::CStr) -> impl Fn() -> Code {
    move || {
        // SAFETY: constant paths; changes the child's own mounts alone.
        unsafe {
            if libc::chdir(path.as_ptr()) < 0 {
                return -1;
            }
            libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr())
        }
    }
}

/// Makes a directory in the child's own mounts.
pub(super) fn mkdir(path: &'static std::ffi::CStr) -> impl Fn() -> Code {
    // SAFETY: a constant path.
    move || unsafe { libc::mkdir(path.as_ptr(), 0o700) }.into()
}

/// Any call by number.
pub(super) fn call(number: i64, args: [usize; 4]) -> impl Fn() -> Code {
    let [a, b, c, d] = args;
    // Calls with five arguments want the last to be zero.
    // SAFETY: callers pass numbers, or pointers to constants.
    move || unsafe { libc::syscall(number, a, b, c, d, 0, 0) }
}

/// Installs a filter after `no_new_privs`.
pub(super) fn filter(program: &[libc::sock_filter], telling: bool) -> impl Fn() -> Code + '_ {
    move || {
        let installed = if telling {
            crate::filter::install(program).map(drop)
        } else {
            crate::filter::install_silent(program)
        };
        installed.map_or(-1, |()| 0)
    }
}
