//! The git broker: finds repositories, prepares bases, writes results as trees, and carries out
//! the only writes that a run may do to a repository: apply, merge and rollback.
//!
//! Git runs in one place (`git.rs`), with nothing of the user's or the repository's configuration
//! in effect that could execute anything. Objects are read beside our own store; of the user's
//! repository only refs are asked for by its own configuration.
//!
//! Must never know: sessions, runs or policy; a session's `.git`; how a workspace is mounted. Must
//! never open a path that a session can write.

mod base;
mod changes;
mod collect;
mod contents;
mod effects;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod git;
mod layer;
mod listing;
mod locate;
mod lock;
mod merge;
mod mirror;
mod names;
mod process;
mod reclaim;
mod store;
mod three_way;
mod tree;
mod waits;

pub use base::{PreparedBase, Progress, Survey};
pub use collect::{Collected, Retain};
pub use contents::Contents;
pub use effects::Carried;
pub use error::RepositoryError;
pub use git::{Git, VERSION_MIN as GIT_VERSION_MIN};
pub use locate::{Repository, Traits};
pub use merge::{MergeKind, MergePlan, MergeRequest};
pub use mirror::FETCH_TIMEOUT_MS;
pub use reclaim::Writing;
pub use store::{Broker, BrokerOptions, CrashPoint, ObjectFormat, no_crash};
pub use three_way::Rebased;
pub use tree::Changes;
