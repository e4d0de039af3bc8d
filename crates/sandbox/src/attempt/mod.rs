//! What an attacker asks of the kernel, for the attacks that ship with the product.
//!
//! Each function tries one thing and says what the kernel gave: a descriptor where success makes
//! one, so that somebody else can look at it. Nothing here is used to build a boundary, and nothing
//! outlives the process that tried. Must never know which wall should refuse, or who watches.

#![allow(unsafe_code)]

mod ipc;
mod kernel;
mod locks;
mod net;
mod process;

pub use self::ipc::{
    plant_key, receive_message, search_key, send_message, share_memory, shared_memory,
};
pub use self::kernel::{
    bpf_map, fanotify, file_handle, io_uring, make_directory_by_i386, open_by_handle, perf_event,
    timers, type_into, user_faults,
};
pub use self::locks::{lock_ranges, locked_ranges};
pub use self::net::{add_loopback_address, fast_open, loopback_up, send_many, send_without_family};
pub use self::process::{
    KEPT_BYTES, Keeper, Namespace, become_user, clone_with, clone3_with, join_new_keyring,
    left_open, namespace_of, read_memory, take_capabilities, trace, unshare,
};

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Owns what a call that makes descriptors returned.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let number = check(result)?;
    // SAFETY: the kernel made this descriptor for the caller, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

fn c_string(text: &str) -> io::Result<std::ffi::CString> {
    std::ffi::CString::new(text).map_err(|_| io::ErrorKind::InvalidInput.into())
}
