//! Landlock: which ABI there is, and putting a prepared layer on.
//!
//! Rules are made with the crate `landlock`; this adds what it does not have. Must never know
//! which paths a session may use.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

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

/// Refusals by programs that a domain executes are told to the kernel's audit (ABI 7).
const LOG_NEW_EXEC_ON: u32 = 1 << 1;
/// Those of domains that a program makes for itself are not.
const LOG_SUBDOMAINS_OFF: u32 = 1 << 2;

/// Rules, and how a domain of them tells.
pub(crate) struct Layer {
    rules: OwnedFd,
    flags: u32,
}

impl Layer {
    /// Of a session: told, if `audited`, for as long as no call's own is over it.
    pub(crate) fn of_session(rules: OwnedFd, audited: bool) -> Self {
        Self { rules, flags: if audited { LOG_NEW_EXEC_ON } else { 0 } }
    }

    /// Of a call.
    pub(crate) fn of_call(rules: OwnedFd, audited: bool) -> Self {
        Self { rules, flags: if audited { LOG_NEW_EXEC_ON | LOG_SUBDOMAINS_OFF } else { 0 } }
    }

    /// Puts a domain of its own with these rules on the calling thread. The rules can be used
    /// again: every use makes a new domain. Async-signal-safe.
    pub(crate) fn put_on(&self) -> io::Result<()> {
        // SAFETY: takes a descriptor and flags.
        let result = unsafe {
            libc::syscall(libc::SYS_landlock_restrict_self, self.rules.as_raw_fd(), self.flags)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
