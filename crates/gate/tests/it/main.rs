//! Tests of the gate: every check on good and bad changes, the parsers on examples and on noise,
//! the verdict's rules.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is the failure it reports")]

mod checks;
mod commands;
mod dependencies;
mod noise;
mod registry;
mod support;
mod verdict;
