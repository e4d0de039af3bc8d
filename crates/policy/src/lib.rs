//! From a profile and a request to the tables that every decision of a run is looked up in.
//!
//! An operator's [`Profile`], narrowed by the base commit's `.cofferdam.toml` ([`Narrowing`]) and
//! by the request, compiles to one [`Policy`]. Invariant 9: what a repository says can only
//! narrow. Who may issue a command is in [`authority`].
//!
//! This crate must never know: files, the environment, the clock, processes or git. It gets text
//! and gives answers; whoever reads the text decides where it comes from.

pub mod authority;
pub mod compile;
pub mod error;
pub mod glob;
pub mod grants;
pub mod narrowing;
pub mod policy;
pub mod profile;
pub mod tables;

pub use compile::compile;
pub use error::PolicyError;
pub use glob::AllowList;
pub use grants::ExecutableClass;
pub use narrowing::{NARROWING_BYTES_MAX, NARROWING_FILE, Narrowing};
pub use policy::{PathRule, Policy, Ruling};
pub use profile::{BUILTINS, CheckCommand, CommandKind, Profile, builtin};
pub use tables::Tables;
