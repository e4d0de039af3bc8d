//! The nouns of Cofferdam and the five published contracts.
//!
//! Everything that two crates must agree on lives here: typed ids, the runtime request, the tool
//! contract, decisions and approvals, evidence records, events, the hash chain and the three ports
//! a leaf may call (`Decide`, `Record`, `Spend`). A type with one user lives with that user.
//!
//! This crate must never know: files, sockets, processes, databases, the environment or the clock.
//! It does no I/O, so that a verifier can be built from it alone.

pub mod approval;
pub mod budget;
pub mod capability;
pub mod chain;
pub mod change;
pub mod check;
pub mod decision;
pub mod denial;
pub mod digest;
pub mod events;
pub mod evidence;
pub mod grant;
pub mod ids;
pub mod limits;
pub mod mount;
pub mod path;
mod place;
pub mod ports;
pub mod problem;
pub mod proposal;
pub mod refusals;
pub mod request;
pub mod schema;
pub mod text;
pub mod time;
pub mod tool;
pub mod trace;
