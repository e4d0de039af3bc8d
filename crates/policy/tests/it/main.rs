//! Tests of the policy crate: the narrowing table, attacks on invariant 9, properties, authority.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap in a test is the failure it reports"
)]

mod attacks;
mod authority;
mod decisions;
mod grants;
mod narrowing;
mod profiles;
mod properties;
mod support;
