//! The boundary: launcher, init, walls, limits, denial records. With `btrfs`, the only
//! crate with `unsafe`.
//!
//! Three kinds of process meet here. The *supervisor* (whoever calls [`Launcher::start`]) asks; the
//! *launcher* (this binary executed once more from a sealed memfd) clones sessions; *init* is
//! process 1 of a session, puts the walls up and then serves calls. See ARCHITECTURE.md for the
//! drawing.
//!
//! This crate must never know: runs beyond their id, policy, git, the journal, an async runtime.

pub mod attempt;
mod audit;
mod decoy;
pub mod doctor;
mod error;
mod filter;
mod flat;
#[cfg(fuzzing)]
pub mod fuzzing;
mod grant;
mod init;
mod landlocked;
mod launcher;
mod notify;
mod privilege;
mod spec;
mod supervisor;
mod sweep;
mod sys;
pub mod view;
mod wire;

pub use audit::HostAudit;
pub use error::SandboxError;
pub use flat::FLAT_DIRECTORIES;
pub use grant::Guarded;
pub use launcher::launcher_main;
pub use privilege::{give_back_privileges, give_up_privileges};
pub use spec::{
    CallIo, CallResult, CallSpec, DenialSink, NotStarted, Program, Resident, SandboxSpec,
    SessionEnd, TraceGate,
};
pub use supervisor::{Call, Launcher, LauncherOptions, Offer, Session, Stopper};
pub use sweep::{Claim, sweep};
pub use sys::process::pass_on_standard_streams_only;
pub use view::View;
