//! Memory, queues and keys that processes share by name and not by descriptor.

use std::io;

use super::{c_string, check};

const SHARED_BYTES: usize = 4096;
/// `KEY_SPEC_SESSION_KEYRING` of keyctl(2).
const SESSION_RING: i64 = -3;

/// Puts bytes into a System V segment of that key.
///
/// # Errors
/// The kernel's.
pub fn share_memory(key: i32, bytes: &[u8]) -> io::Result<()> {
    with_segment(key, libc::IPC_CREAT | 0o600, |segment| {
        let length = bytes.len().min(SHARED_BYTES);
        // SAFETY: the segment is that long and attached for writing.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), segment, length) };
    })
}

/// The first page of the System V segment of that key.
///
/// # Errors
/// The kernel's.
pub fn shared_memory(key: i32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SHARED_BYTES];
    with_segment(key, 0, |segment| {
        // SAFETY: the segment is that long.
        unsafe { std::ptr::copy_nonoverlapping(segment, bytes.as_mut_ptr(), SHARED_BYTES) };
    })?;
    Ok(bytes)
}

fn with_segment(key: i32, flags: i32, work: impl FnOnce(*mut u8)) -> io::Result<()> {
    // SAFETY: takes numbers.
    let id = check(unsafe { libc::shmget(key, SHARED_BYTES, flags) }.into())?;
    // SAFETY: the kernel chooses the address.
    let segment = unsafe { libc::shmat(id as i32, std::ptr::null(), 0) };
    if segment as isize == -1 {
        return Err(io::Error::last_os_error());
    }
    work(segment.cast());
    // SAFETY: attached above, and no pointer into it is left.
    check(unsafe { libc::shmdt(segment) }.into()).map(drop)
}

/// Longest message of a queue here.
const MESSAGE_BYTES: usize = 256;

#[repr(C)]
struct Message {
    kind: libc::c_long,
    text: [u8; MESSAGE_BYTES],
}

/// Sends a message to the System V queue of that key, which is made.
///
/// # Errors
/// The kernel's.
pub fn send_message(key: i32, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: takes numbers.
    let queue = check(unsafe { libc::msgget(key, libc::IPC_CREAT | 0o600) }.into())?;
    let mut message = Message { kind: 1, text: [0; MESSAGE_BYTES] };
    let length = bytes.len().min(MESSAGE_BYTES);
    message.text[..length].copy_from_slice(&bytes[..length]);
    let pointer = (&raw const message).cast();
    // SAFETY: the message outlives the call and is at least that long after its kind.
    check(unsafe { libc::msgsnd(queue as i32, pointer, length, libc::IPC_NOWAIT) }.into()).map(drop)
}

/// Takes a message from the System V queue of that key.
///
/// # Errors
/// The kernel's.
pub fn receive_message(key: i32) -> io::Result<Vec<u8>> {
    // SAFETY: takes numbers.
    let queue = check(unsafe { libc::msgget(key, 0) }.into())?;
    let mut message = Message { kind: 0, text: [0; MESSAGE_BYTES] };
    let pointer = (&raw mut message).cast();
    // SAFETY: the kernel writes a kind and at most that many bytes.
    let length =
        check(unsafe { libc::msgrcv(queue as i32, pointer, MESSAGE_BYTES, 0, libc::IPC_NOWAIT) }
            as i64)?;
    Ok(message.text[..usize::try_from(length).unwrap_or_default()].to_vec())
}

/// Puts a key into the calling thread's session key ring.
///
/// # Errors
/// The kernel's.
pub fn plant_key(name: &str, payload: &[u8]) -> io::Result<()> {
    let (kind, name) = (c"user", c_string(name)?);
    let (kind, name) = (kind.as_ptr(), name.as_ptr());
    let (from, length) = (payload.as_ptr(), payload.len());
    // SAFETY: texts and payload outlive the call and the payload's length is given.
    check(unsafe { libc::syscall(libc::SYS_add_key, kind, name, from, length, SESSION_RING) })
        .map(drop)
}

/// The payload of a key in the session key ring (`keyctl(2)`: search, then read).
///
/// # Errors
/// The kernel's.
pub fn search_key(name: &str) -> io::Result<Vec<u8>> {
    const SEARCH: i32 = 10;
    const READ: i32 = 11;
    let name = c_string(name)?;
    let (kind, name) = (c"user".as_ptr(), name.as_ptr());
    // SAFETY: the texts outlive the call.
    let key =
        check(unsafe { libc::syscall(libc::SYS_keyctl, SEARCH, SESSION_RING, kind, name, 0) })?;
    let mut bytes = vec![0_u8; 512];
    let (into, room) = (bytes.as_mut_ptr(), bytes.len());
    // SAFETY: the kernel writes at most as many bytes as there is room for.
    let length = check(unsafe { libc::syscall(libc::SYS_keyctl, READ, key, into, room, 0) })?;
    bytes.truncate(usize::try_from(length).unwrap_or_default());
    Ok(bytes)
}
