//! A world to run in: a repository, a state directory, and sessions that edit plain directories.
//!
//! Only the sandbox is replaced ([`crate::plain`]).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cofferdam_contract::ids::{CorrelationId, PrincipalId, RequestId};
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::{
    DataClassification, DriverRequest, RepositoryRequest, RepositorySource, Retention,
    RuntimeRequest, TaskType,
};
use cofferdam_contract::time::UtcTime;
use cofferdam_engine::admissions::Admissions;
use cofferdam_engine::{Engine, Parts, Profiles};
use cofferdam_journal::{FaultPlan, Journal, JournalOptions, Redactor};
use cofferdam_policy::{Profile, builtin};
use cofferdam_repository::{Broker, BrokerOptions, FETCH_TIMEOUT_MS, Git};

use crate::plain::PlainSessions;

/// Time that moves a millisecond whenever somebody looks.
#[derive(Default)]
pub(crate) struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> UtcTime {
        UtcTime::from_unix_ms(1_760_000_000_000 + self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// Numbers from a seed (splitmix64), so that a failure can be had again.
pub(crate) struct Seeded(AtomicU64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Where the process dies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    /// At which write of the journal.
    pub(crate) journal: FaultPlan,
    /// At which crossing of an outside effect, from 0.
    pub(crate) crossing: Option<u64>,
}

impl Death {
    pub(crate) const NONE: Self = Self { journal: FaultPlan::Never, crossing: None };
}

/// The crossings of outside effects that one process makes, and the one at which it dies.
#[derive(Clone)]
pub(crate) struct Crossings {
    crossed: Arc<Mutex<Vec<&'static str>>>,
    dies_at: Option<u64>,
    journal: Journal,
}

impl Crossings {
    /// A dead process crosses nothing more, and writes nothing more.
    pub(crate) fn cross(&self, point: &'static str) -> Result<(), Problem> {
        let mut crossed = self.crossed.lock().unwrap();
        if self.dies_at.is_some_and(|at| crossed.len() as u64 >= at) {
            self.journal.die();
            return Err(Problem::new(Code::Internal, format!("died at {point}")));
        }
        crossed.push(point);
        Ok(())
    }
}

/// What lies on disk, and so survives every death.
pub(crate) struct World {
    dir: tempfile::TempDir,
    cache: PathBuf,
    pub(crate) profile: Profile,
    clock: Arc<Ticks>,
    entropy: Arc<Seeded>,
    /// What the process that was booted last has crossed.
    crossed: Mutex<Arc<Mutex<Vec<&'static str>>>>,
    /// How long a session takes to open.
    pub(crate) opening: Duration,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_cache(seed, None)
    }

    /// Worlds of one seed have the same first commit, so that a cache of prepared bases serves
    /// them all.
    pub(crate) fn with_cache(seed: u64, cache: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut profile = builtin("assist").unwrap();
        profile.gate.detect = false;
        let world = Self {
            cache: cache.map_or_else(|| dir.path().join("cache"), Path::to_owned),
            dir,
            profile,
            clock: Arc::default(),
            entropy: Arc::new(Seeded::new(seed)),
            crossed: Mutex::default(),
            opening: Duration::ZERO,
        };
        std::fs::create_dir(world.repository()).unwrap();
        world.git(&["init", "--quiet", "--initial-branch=main"]);
        world.write("file.txt", "one\n");
        world.commit("first");
        world.git(&["checkout", "--quiet", "--detach"]);
        world
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.repository().join(name), text).unwrap();
    }

    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.repository(), args)
    }

    pub(crate) fn git_in(&self, dir: &Path, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=tester", "-c", "user.email=tester@example.invalid"])
            .args(args)
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_DATE", "2026-01-31T12:00:00Z")
            .env("GIT_COMMITTER_DATE", "2026-01-31T12:00:00Z")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A process of its own over what lies on disk.
    pub(crate) async fn boot(&self, death: Death) -> Result<Engine, Problem> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let entropy: Arc<dyn Entropy> = self.entropy.clone();
        let options = JournalOptions {
            dir: self.path("journal"),
            keys: self.path("keys"),
            locks: self.path("locks"),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
        };
        let journal = Journal::with_faults(options, death.journal).await?;
        let crossed = Arc::default();
        *self.crossed.lock().unwrap() = Arc::clone(&crossed);
        let crossings = Crossings { crossed, dies_at: death.crossing, journal: journal.clone() };
        let of_git = crossings.clone();
        let broker = Broker::open(BrokerOptions {
            store: self.path("store"),
            cache: self.cache.clone(),
            git: Git::find(&std::env::var_os("PATH").unwrap())?,
            crash_point: Arc::new(move |point| of_git.cross(point).unwrap()),
            fetch_environment: vec![],
            fetch_timeout_ms: FETCH_TIMEOUT_MS,
        })?;
        Ok(Engine::new(Parts {
            journal,
            broker,
            sessions: Arc::new(PlainSessions {
                dir: self.path("sessions"),
                opening: self.opening,
                crossings,
            }),
            profiles: Arc::new(OneProfile(self.profile.clone())),
            admissions: Admissions::open(&self.path("admissions"))?,
            redactor: Arc::new(Redactor::new(vec![])),
            owner: owner(),
            clock,
            entropy,
        }))
    }

    /// The outside effects that the process that was booted last has crossed, in order.
    pub(crate) fn crossed(&self) -> Vec<&'static str> {
        self.crossed.lock().unwrap().lock().unwrap().clone()
    }

    /// The mirror of a URL, if there is one.
    pub(crate) fn mirror(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path("store/mirrors")).ok()?;
        let mut dirs = entries.map(|entry| entry.unwrap().path());
        dirs.find(|dir| dir.extension().is_some_and(|it| it == "git"))
    }

    pub(crate) fn request(&self, argv: &[&str]) -> RuntimeRequest {
        RuntimeRequest {
            contract_version: "1.0.0".to_owned(),
            request_id: RequestId::generate(&*self.clock, &*self.entropy),
            correlation_id: CorrelationId::generate(&*self.clock, &*self.entropy),
            idempotency_key: None,
            timestamp_utc: self.clock.now(),
            deadline_utc: None,
            actor: owner(),
            tenant: "local".to_owned(),
            task_type: TaskType::Assist,
            task: "change a file".to_owned(),
            profile: "assist".to_owned(),
            repository: RepositoryRequest {
                source: RepositorySource::Path(self.repository().to_str().unwrap().to_owned()),
                base: "main".to_owned(),
                carry: vec![],
                allowed_paths: vec![],
                protected_paths: vec![],
            },
            driver: DriverRequest::Command {
                argv: argv.iter().map(|it| (*it).to_owned()).collect(),
            },
            budget: None,
            data_classification: DataClassification::Internal,
            retention: Retention::Run,
        }
    }
}

pub(crate) fn owner() -> PrincipalId {
    "local:tester".parse().unwrap()
}

struct OneProfile(Profile);

impl Profiles for OneProfile {
    fn profile(&self, _name: &str) -> Result<Profile, Problem> {
        Ok(self.0.clone())
    }
}
