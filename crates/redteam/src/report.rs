//! What a run of the suite found: for people, scripts and evidence.
//!
//! Must never know how anything was found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use cofferdam_contract::digest::Digest;
use cofferdam_contract::time::UtcTime;
use cofferdam_policy::tables::SessionRules;

use crate::probe::Class;

/// What came of one probe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It failed in the session, and the same attempt succeeded where the wall is not.
    Held,
    /// It succeeded in the session.
    Escaped,
    /// It could not be decided.
    Error(String),
    /// It cannot be tried on this host.
    Skipped(String),
}

/// Whether the refusal was recorded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "event", content = "rule")]
pub enum EventSeen {
    /// The denial with this rule, which must arrive, arrived.
    Arrived(String),
    /// The denial with this rule, which must arrive, did not.
    Missing(String),
    /// None need arrive; this class of attempts is silent by design (`denials.md`).
    Unobserved,
    /// None need arrive, and this one did.
    Told(String),
}

/// One probe and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProbeResult {
    /// Stable name.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// What was tried.
    pub tries: String,
    /// What should hold it.
    pub wall: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Whether its denial arrived.
    #[serde(flatten)]
    pub event: EventSeen,
    /// Whether the same attempt succeeded where the wall is not.
    pub control_fired: bool,
    /// How long both took.
    pub duration_ms: u64,
}

/// A run of the suite.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of Cofferdam.
    pub version: String,
    /// The program that made the sessions.
    pub binary: Digest,
    /// The profile whose sessions were attacked.
    pub profile: String,
    /// The rules of those sessions.
    pub session: SessionRules,
    /// What kept the sessions apart: `native` or `flat`.
    pub backend: String,
    /// Whether the sessions were made by an ordinary user.
    pub rootless: bool,
    /// Kernel release.
    pub kernel: String,
    /// When it began.
    pub at: UtcTime,
    /// How long it took.
    pub duration_ms: u64,
    /// Every probe.
    pub probes: Vec<ProbeResult>,
}

/// Sums over one class or all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// Probes.
    pub all: usize,
    /// That held.
    pub held: usize,
    /// That escaped.
    pub escaped: usize,
    /// That could not be decided.
    pub errors: usize,
    /// That cannot be tried here.
    pub skipped: usize,
    /// Denials that had to arrive and did.
    pub arrived: usize,
    /// Denials that had to arrive and did not.
    pub missing: usize,
}

impl Report {
    /// The sums over those probes.
    pub fn sums(&self, class: Option<Class>) -> Sums {
        let mut sums = Sums::default();
        for probe in self.probes.iter().filter(|it| class.is_none_or(|class| it.class == class)) {
            sums.all += 1;
            match probe.outcome {
                Outcome::Held => sums.held += 1,
                Outcome::Escaped => sums.escaped += 1,
                Outcome::Error(_) => sums.errors += 1,
                Outcome::Skipped(_) => sums.skipped += 1,
            }
            match probe.event {
                EventSeen::Arrived(_) => sums.arrived += 1,
                EventSeen::Missing(_) => sums.missing += 1,
                EventSeen::Unobserved | EventSeen::Told(_) => {}
            }
        }
        sums
    }
}
