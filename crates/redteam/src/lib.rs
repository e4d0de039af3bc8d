//! The attacks that ship with the product: probes of the boundary, each with its control.
//!
//! A probe is one line in the file of its class; the runner makes the attempt in a session and once
//! more in throwaway namespaces without walls, and decides both from outside. Everything is
//! harmless: what is attacked is the suite's own, and goes with it. Nothing but the binary uses
//! this crate. It must never know: the command line, the environment, or how a wall is put up.

mod call;
mod classes;
mod flat;
mod inside;
mod listen;
mod probe;
mod proof;
mod registry;
mod report;
mod runner;
mod scene;
mod stages;
mod victim;
mod watch;
mod world;

use std::path::PathBuf;
use std::sync::Arc;

use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::EventBody;
use cofferdam_contract::ids::{CorrelationId, PrincipalId, RequestId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::ports::{Clock, Entropy, PortFuture, Record};
use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::{
    DataClassification, DriverRequest, REQUEST_VERSION, RepositoryRequest, RepositorySource,
    Retention, RuntimeRequest, TaskType,
};
use cofferdam_engine::sessions::Sessions;
use cofferdam_policy::{Policy, Profile};

pub use inside::attempt_main;
pub use probe::Class;
pub use registry::{Listed, listed};
pub use report::{EventSeen, Outcome, ProbeResult, Report, Sums};
pub use runner::ATTEMPT_ARGUMENT;
pub use world::Places;

/// The variable that holds the planted credential, where a process has one.
pub const PLANTED_VARIABLE: &str = "REDTEAM_API_TOKEN";
/// The name of the planted key.
pub const PLANTED_KEY: &str = "cofferdam-redteam";

/// Which probes are run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// Those of these classes; all, if none is named.
    Classes(Vec<Class>),
    /// A few of each class.
    Quick,
}

impl Which {
    fn has(&self, class: Class, probe: &probe::Probe) -> bool {
        match self {
            Self::Classes(classes) => classes.is_empty() || classes.contains(&class),
            Self::Quick => registry::QUICK.contains(&probe.name),
        }
    }
}

/// See [`Suite::govern`].
pub type Govern = Box<dyn Fn(&std::path::Path, &str) -> Result<Vec<u8>, Problem> + Send + Sync>;

/// What the suite runs against, and with.
pub struct Suite {
    /// Opens the sessions that are attacked.
    pub sessions: Arc<dyn Sessions>,
    /// The program that opens them, which is this one.
    pub binary: Digest,
    /// The name of the profile.
    pub profile_name: String,
    /// The profile.
    pub profile: Profile,
    /// A directory of the suite's own.
    pub dir: PathBuf,
    /// Where the workspace is inside.
    pub workspace_path: PathBuf,
    /// The credential that this process holds: in its environment, an argument and a key.
    pub planted: String,
    /// Who asks.
    pub actor: PrincipalId,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub entropy: Arc<dyn Entropy>,
    /// Randomness for canaries: text without spaces.
    pub random: fn() -> String,
    /// Carries out a governed run of a shell script on a repository, has its change checked, shown
    /// and, where the gate lets it, applied; and gives all that it then shows of it.
    pub govern: Govern,
    /// Told the name of each class as it begins.
    pub progress: Box<dyn Fn(&str) + Send + Sync>,
}

impl Suite {
    /// Runs those probes. Blocks.
    ///
    /// # Errors
    /// What keeps a session from being opened, or the world from being made.
    pub fn run(&self, which: &Which) -> Result<Report, Problem> {
        runner::run(self, which)
    }

    /// The profile's policy with these limits.
    fn policy(&self, limits: Limits) -> Result<Policy, Problem> {
        let profile = Profile { limits, ..self.profile.clone() };
        let request = RuntimeRequest {
            contract_version: REQUEST_VERSION.to_owned(),
            request_id: RequestId::generate(&*self.clock, &*self.entropy),
            correlation_id: CorrelationId::generate(&*self.clock, &*self.entropy),
            idempotency_key: None,
            timestamp_utc: self.clock.now(),
            deadline_utc: None,
            actor: self.actor.clone(),
            tenant: "local".to_owned(),
            task_type: TaskType::Assist,
            task: "be attacked".to_owned(),
            profile: self.profile_name.clone(),
            repository: RepositoryRequest {
                source: RepositorySource::Path(self.dir.to_string_lossy().into_owned()),
                base: "HEAD".to_owned(),
                carry: Vec::new(),
                allowed_paths: Vec::new(),
                protected_paths: Vec::new(),
            },
            driver: DriverRequest::Attached {},
            budget: None,
            data_classification: DataClassification::Internal,
            retention: Retention::Run,
        };
        Ok(cofferdam_policy::compile(&profile, None, &request)?)
    }
}

/// The suite's sessions belong to no run: what is refused is handed to the probe that asked for it.
struct Unrecorded;

impl Record for Unrecorded {
    fn commit(&self, _: Vec<EventBody>) -> PortFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn observe(&self, _: EventBody) {}
}
