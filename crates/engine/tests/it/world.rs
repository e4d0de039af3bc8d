//! A world to run in: a repository, a state directory, and sessions that edit plain directories.
//!
//! Only the sandbox is replaced. What a session does is told by the executable's name: `write`
//! writes a file, `fail` exits with 3, `nothing` does nothing, `hang` waits until it is ended,
//! `spend` takes so many milliseconds or, if that is longer, overstays its time limit by one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cofferdam_contract::capability::{CapabilityReport, WorkspaceKind};
use cofferdam_contract::change::{FileKind, TreeChange, WorkspaceChange};
use cofferdam_contract::denial::Denial;
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::{CallId, CorrelationId, PrincipalId, RequestId, SessionId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::{
    DataClassification, DriverRequest, RepositoryRequest, RepositorySource, Retention,
    RuntimeRequest, TaskType,
};
use cofferdam_contract::time::UtcTime;
use cofferdam_engine::admissions::Admissions;
use cofferdam_engine::sessions::{Left, OpenSession, SessionOrder, Sessions};
use cofferdam_engine::{Engine, Parts, Profiles};
use cofferdam_journal::{FaultPlan, Journal, JournalOptions, Redactor};
use cofferdam_policy::{Profile, builtin};
use cofferdam_repository::{Broker, BrokerOptions, CrashPoint, FETCH_TIMEOUT_MS, Git};
use cofferdam_sandbox::{CallIo, CallResult, CallSpec, Program, SessionEnd};
use cofferdam_tools::{Ending, Hands, Running};

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

/// What lies on disk, and so survives every death.
pub(crate) struct World {
    dir: tempfile::TempDir,
    cache: PathBuf,
    pub(crate) profile: Profile,
    clock: Arc<Ticks>,
    entropy: Arc<Seeded>,
    pub(crate) crossings: Arc<AtomicU64>,
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
            crossings: Arc::default(),
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
        let output = Command::new("git")
            .args(["-c", "user.name=tester", "-c", "user.email=tester@example.invalid"])
            .args(args)
            .current_dir(self.repository())
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
        let broker = Broker::open(BrokerOptions {
            store: self.path("store"),
            cache: self.cache.clone(),
            git: Git::find(&std::env::var_os("PATH").unwrap())?,
            crash_point: self.crash_point(death.crossing),
            fetch_environment: vec![],
            fetch_timeout_ms: FETCH_TIMEOUT_MS,
        })?;
        Ok(Engine::new(Parts {
            journal,
            broker,
            sessions: Arc::new(PlainSessions { dir: self.path("sessions"), opening: self.opening }),
            profiles: Arc::new(OneProfile(self.profile.clone())),
            admissions: Admissions::open(&self.path("admissions"))?,
            redactor: Arc::new(Redactor::new(vec![])),
            owner: owner(),
            clock,
            entropy,
        }))
    }

    /// Dies at the n-th crossing, and at every one after it: a dead process does nothing more.
    fn crash_point(&self, crossing: Option<u64>) -> CrashPoint {
        let crossed = Arc::clone(&self.crossings);
        crossed.store(0, Ordering::SeqCst);
        Arc::new(move |point| {
            let now = crossed.fetch_add(1, Ordering::SeqCst);
            assert!(crossing.is_none_or(|at| now < at), "died at {point}");
        })
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

/// Sessions that are plain directories.
struct PlainSessions {
    dir: PathBuf,
    opening: Duration,
}

impl Sessions for PlainSessions {
    fn open(&self, order: SessionOrder<'_>) -> Result<Arc<dyn OpenSession>, Problem> {
        std::thread::sleep(self.opening);
        let dir = self.dir.join(order.session.as_str());
        std::fs::create_dir_all(&dir).unwrap();
        let before = read_layers(&order.base_layers);
        for (path, bytes) in &before {
            put(&dir, path, bytes);
        }
        for change in order.fill {
            match change? {
                TreeChange::Remove { path } => {
                    std::fs::remove_file(dir.join(path.as_utf8().unwrap())).unwrap();
                }
                TreeChange::Put { path, mut content, .. } => {
                    let mut bytes = vec![];
                    content.read_to_end(&mut bytes).unwrap();
                    put(&dir, path.as_utf8().unwrap(), &bytes);
                }
            }
        }
        Ok(Arc::new(PlainSession {
            session: order.session,
            dir,
            before,
            report: report(),
            ended: Arc::default(),
        }))
    }
}

fn report() -> CapabilityReport {
    CapabilityReport {
        backend: "plain".to_owned(),
        rootless: true,
        kernel: "none".to_owned(),
        landlock_abi: 0,
        workspace: WorkspaceKind::Copy,
        walls: vec![],
        event_sources: vec![],
        limits: Limits::default(),
    }
}

fn put(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A base from its lowest layer up: a whiteout, the character device 0/0, takes a path away.
fn read_layers(layers: &[PathBuf]) -> BTreeMap<String, Vec<u8>> {
    use std::os::unix::fs::FileTypeExt as _;
    let mut whole = BTreeMap::new();
    for layer in layers.iter().rev() {
        let mut dirs = vec![layer.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path();
                let name = path.strip_prefix(layer).unwrap().to_str().unwrap().to_owned();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    whole.remove(&name);
                    dirs.extend((name != ".git").then_some(path));
                    continue;
                }
                let inside = format!("{name}/");
                whole.retain(|other: &String, _| *other != name && !other.starts_with(&inside));
                if !kind.is_char_device() {
                    whole.insert(name, std::fs::read(path).unwrap());
                }
            }
        }
    }
    whole
}

fn read_all(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            match path.is_dir() {
                true if name == ".git" => {}
                true => dirs.push(path),
                false => {
                    found.insert(name, std::fs::read(path).unwrap());
                }
            }
        }
    }
    found
}

type Ended = Arc<(Mutex<bool>, Condvar)>;

struct PlainSession {
    session: SessionId,
    dir: PathBuf,
    before: BTreeMap<String, Vec<u8>>,
    report: CapabilityReport,
    ended: Ended,
}

struct Done {
    exit_code: i32,
    hang: Option<Ended>,
    duration_ms: u64,
    timed_out: bool,
}

impl Running for Done {
    fn stopper(&self) -> Box<dyn Fn() + Send> {
        let hang = self.hang.clone();
        Box::new(move || {
            if let Some(ended) = &hang {
                *ended.0.lock().unwrap() = true;
                ended.1.notify_all();
            }
        })
    }

    fn wait(self: Box<Self>) -> Ending {
        Box::pin(async move { tokio::task::spawn_blocking(|| self.end()).await.unwrap() })
    }

    fn block(self: Box<Self>) -> CallResult {
        self.end()
    }
}

impl Done {
    fn end(self) -> CallResult {
        let mut end = if self.timed_out { CallEnd::TimedOut } else { CallEnd::Exited };
        if let Some(ended) = &self.hang {
            let over = ended.0.lock().unwrap();
            drop(ended.1.wait_while(over, |over| !*over).unwrap());
            end = CallEnd::SessionLost;
        }
        CallResult {
            end,
            exit_code: (end == CallEnd::Exited).then_some(self.exit_code),
            signal: None,
            not_started: None,
            stdout: b"done".to_vec(),
            stderr: vec![],
            truncated: false,
            duration_ms: self.duration_ms,
            denials: 0,
        }
    }
}

impl Hands for PlainSession {
    fn session(&self) -> &SessionId {
        &self.session
    }

    fn start(&self, spec: CallSpec, _io: CallIo) -> Result<Box<dyn Running>, Problem> {
        let Program::Execute { executable, args } = spec.program else {
            panic!("plain sessions have no residents");
        };
        let args: Vec<_> = args.iter().map(|it| it.to_str().unwrap()).collect();
        let done = |exit_code| Done { exit_code, hang: None, duration_ms: 1, timed_out: false };
        let done = match (executable.to_str().unwrap(), args.as_slice()) {
            ("write", [path, text]) => {
                put(&self.dir, path, text.as_bytes());
                done(0)
            }
            ("remove", [path]) => {
                std::fs::remove_file(self.dir.join(path)).unwrap();
                done(0)
            }
            ("has", [path]) => done(i32::from(!self.dir.join(path).exists())),
            ("fail", []) => done(3),
            ("hang", []) => Done { hang: Some(Arc::clone(&self.ended)), ..done(0) },
            ("spend", [ms]) => {
                let ms: u64 = ms.parse().unwrap();
                let timed_out = ms > spec.timeout_ms;
                Done { duration_ms: ms.min(spec.timeout_ms + 1), timed_out, ..done(0) }
            }
            _ => done(0),
        };
        Ok(Box::new(done))
    }

    fn denials(&self, _call: &CallId) -> Vec<Denial> {
        vec![]
    }
}

impl OpenSession for PlainSession {
    fn report(&self) -> &CapabilityReport {
        &self.report
    }

    fn freeze(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn thaw(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn left(&self) -> Result<Left, Problem> {
        let after = read_all(&self.dir);
        let names: BTreeSet<_> = self.before.keys().chain(after.keys()).collect();
        let mut changes = vec![];
        for name in names {
            let path = RepoPath::new(name.as_bytes()).unwrap();
            match (self.before.get(name), after.get(name)) {
                (before, Some(now)) if before != Some(now) => changes.push(WorkspaceChange::Put {
                    path,
                    kind: FileKind::File,
                    size_bytes: now.len() as u64,
                }),
                (Some(_), None) => changes.push(WorkspaceChange::Remove { path }),
                _ => {}
            }
        }
        Ok(Left { changes, left_out: vec![] })
    }

    fn read(&self, path: &RepoPath) -> Result<(FileKind, u64, Box<dyn Read + Send>), Problem> {
        let file = std::fs::File::open(self.dir.join(path.as_utf8().unwrap())).unwrap();
        let size_bytes = file.metadata().unwrap().len();
        Ok((FileKind::File, size_bytes, Box::new(file)))
    }

    fn end(&self) -> SessionEnd {
        *self.ended.0.lock().unwrap() = true;
        self.ended.1.notify_all();
        SessionEnd::default()
    }

    fn discard(&self) {
        self.end();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
