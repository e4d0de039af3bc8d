//! What the engine is made of; `wiring.rs` in the binary puts it together.

use std::sync::Arc;

use cofferdam_contract::events::EventBody;
use cofferdam_contract::ids::PrincipalId;
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::problem::Problem;
use cofferdam_journal::{Journal, Redactor};
use cofferdam_policy::Profile;
use cofferdam_repository::Broker;

use crate::admissions::Admissions;
use crate::sessions::Sessions;

/// The engine's parts.
pub struct Parts {
    /// Truth.
    pub journal: Journal,
    /// Git.
    pub broker: Broker,
    /// Sandboxes with workspaces.
    pub sessions: Arc<dyn Sessions>,
    /// The operator's profiles.
    pub profiles: Arc<dyn Profiles>,
    /// What runs were admitted with.
    pub admissions: Admissions,
    /// Removes secrets from session text.
    pub redactor: Arc<Redactor>,
    /// Whose state directory this is: the one that local authority is about.
    pub owner: PrincipalId,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// Finds the operator's profiles.
pub trait Profiles: Send + Sync {
    /// The profile of that name.
    ///
    /// # Errors
    /// `configuration_invalid`, naming the file and the field.
    fn profile(&self, name: &str) -> Result<Profile, Problem>;
}

/// Sees what happens as it happens, for whoever watches. Must not block.
pub trait Observer: Send + Sync {
    /// Something was recorded; of what is only observed, such as a denial, it may still be under
    /// way.
    fn event(&self, event: &EventBody);

    /// Long work goes on; `total` is 0 where it is not known.
    fn progress(&self, stage: &str, done: u64, total: u64);
}

/// Watches nothing.
pub struct Unobserved;

impl Observer for Unobserved {
    fn event(&self, _event: &EventBody) {}

    fn progress(&self, _stage: &str, _done: u64, _total: u64) {}
}
