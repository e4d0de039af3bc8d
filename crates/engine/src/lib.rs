//! The flow of a run: phases, the order of stages, recovery.
//!
//! [`Engine`] is the only door: commands and queries, both closed. The state machine is drawn in
//! [`state`], the request flow is `run/`, a file a stage. This crate must never know: HTTP, the
//! command line, the environment, files of configuration, or how any leaf does what it does.

pub mod admissions;
pub mod attached;
mod breaker;
mod causes;
mod checking;
pub mod command;
pub mod denials;
pub mod denied;
mod doors;
mod engine;
pub mod grants;
mod live;
mod narrowing;
pub mod parts;
mod run;
mod run_session;
pub mod sessions;
pub mod state;
mod upkeep;
pub mod view;
mod wall_clock;

pub use attached::{Attached, Diff};
pub use command::{Command, CommandKind, Given};
pub use denied::{DenialGroup, DenialGrouping, DenialQuery, DenialsView};
pub use engine::{Answer, Engine, Settled};
pub use grants::{GrantState, GrantView};
pub use parts::{Observer, Parts, Profiles, Unobserved};
pub use run::admit::Admitting;
pub use state::State;
pub use upkeep::{Pruned, verify_evidence};
pub use view::RunView;
