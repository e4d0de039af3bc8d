//! Doors for the fuzzer to the parsers of what sessions send. Not part of any build but its own.

use crate::audit::{self, Record};
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

/// A record of the kernel's audit: the domain, the right and the target of a refusal.
pub fn refusal(kind: u16, text: &[u8]) -> Option<(u64, String, Option<Vec<u8>>)> {
    match audit::parse_record(kind, text)? {
        Ok(Record::Denied { domain, blocker, target }) => Some((domain, blocker, target)),
        _ => None,
    }
}
