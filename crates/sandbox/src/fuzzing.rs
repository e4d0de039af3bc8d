//! Doors for the fuzzer to the parsers of what sessions send. Not part of any build but its own.

use crate::notify;
use crate::wire::FromInit;

/// A socket address of a session's program: where it leads, if that is told.
pub fn address(bytes: &[u8]) -> Option<String> {
    notify::far_address(bytes)
}

/// A message from init, as it comes out of a packet.
pub fn from_init(bytes: &[u8]) {
    drop(crate::sys::socket::decode::<FromInit>(bytes, &mut Vec::new()));
}
