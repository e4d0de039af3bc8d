//! The kernel's side of a seccomp listener: receive, validate, answer (`seccomp_unotify(2)`).
//!
//! Must never know what an answer should be.

#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notification {
    id: u64,
    /// The calling thread, in the supervisor's process namespace.
    pub(super) pid: i32,
    /// Number of the call.
    pub(super) number: i32,
    /// Its arguments.
    pub(super) args: [u64; 6],
}

/// What the caller gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    /// The kernel goes on with the call.
    Continue,
    /// The call fails with this number.
    Fail(i32),
    /// The call succeeds, and the kernel does nothing.
    Done,
}

fn ioctl<T>(listener: BorrowedFd<'_>, request: libc::Ioctl, data: &mut T) -> io::Result<()> {
    // SAFETY: each caller passes the structure that `request` names, and the kernel writes within.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), request, std::ptr::from_mut(data)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks the kernel to wake the caller on the answering processor (Linux 6.6): a third faster where
/// it is there, no loss where it is not.
pub(super) fn wake_synchronously(listener: BorrowedFd<'_>) {
    const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: u64 = 1;
    // SAFETY: this request takes its flags by value.
    unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
            SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP,
        );
    }
}

/// Receives one notification; none if its caller is gone already.
pub(super) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    // SAFETY: the structure is plain numbers, and the kernel wants it zeroed.
    let mut notification: libc::seccomp_notif = unsafe { zeroed() };
    match ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &mut notification) {
        Ok(()) => Ok(Some(Notification {
            id: notification.id,
            pid: notification.pid.cast_signed(),
            number: notification.data.nr,
            args: notification.data.args,
        })),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Whether the caller still waits, so that what was read of its process was its own.
pub(super) fn is_waiting(listener: BorrowedFd<'_>, notification: &Notification) -> bool {
    let mut id = notification.id;
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &mut id).is_ok()
}

/// Answers. A caller that is gone meanwhile is no error.
pub(super) fn answer(listener: BorrowedFd<'_>, notification: &Notification, reply: Reply) {
    let mut response = libc::seccomp_notif_resp { id: notification.id, val: 0, error: 0, flags: 0 };
    match reply {
        Reply::Continue => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        Reply::Fail(errno) => response.error = -errno,
        Reply::Done => {}
    }
    let _gone = ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &mut response);
}
