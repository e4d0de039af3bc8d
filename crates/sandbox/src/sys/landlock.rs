//! Landlock: which ABI there is, and putting a prepared layer on.
//!
//! Rules are made with the crate `landlock`; this adds what it does not have. Must never know
//! which paths a session may use.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The ABI of this kernel; 0 where there is none.
pub(crate) fn abi() -> u32 {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: with this flag the kernel takes no structure.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(abi).unwrap_or(0)
}

/// Puts a domain of its own with these rules on the calling thread. The rules can be used again:
/// every use makes a new domain. Async-signal-safe.
pub(crate) fn restrict_self(rules: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a descriptor and flags.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0_u32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
