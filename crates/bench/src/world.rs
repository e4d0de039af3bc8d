//! The runtime as the binary wires it, over directories of the benchmark's own.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use cofferdam_contract::capability::{CapabilityReport, WorkspaceKind};
use cofferdam_contract::change::FileKind;
use cofferdam_contract::denial::Denial;
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::{CallId, CorrelationId, PrincipalId, RequestId, SessionId};
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::{
    DataClassification, DriverRequest, REQUEST_VERSION, RepositoryRequest, RepositorySource,
    Retention, RuntimeRequest, TaskType,
};
use cofferdam_contract::time::UtcTime;
use cofferdam_engine::admissions::Admissions;
use cofferdam_engine::sessions::native::NativeSessions;
use cofferdam_engine::sessions::{Left, OpenSession, SessionOrder, Sessions};
use cofferdam_engine::{Engine, Parts, Profiles};
use cofferdam_journal::{Journal, JournalOptions, Redactor};
use cofferdam_policy::{Profile, builtin};
use cofferdam_repository::{Broker, BrokerOptions, FETCH_TIMEOUT_MS, Git, no_crash};
use cofferdam_sandbox::{
    CallIo, CallResult, CallSpec, Launcher, LauncherOptions, SessionEnd, View,
};
use cofferdam_tools::{Ending, Hands, Running};

/// The profile of every measured run.
const PROFILE: &str = "assist";

/// Room for the large repository and for what a session writes.
const POOL_SIZE: &str = "8G";

/// The wall clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UtcTime {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UtcTime::from_unix_ms(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The kernel's randomness.
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if getrandom::fill(bytes).is_err() {
            std::process::abort();
        }
    }
}

/// Where everything is.
pub(crate) struct World {
    /// State of this run of the benchmark; gone after it.
    state: tempfile::TempDir,
    /// Prepared bases, kept for the next run.
    cache: PathBuf,
    /// The program that users have.
    pub(crate) binary: PathBuf,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Drop for World {
    fn drop(&mut self) {
        if self.path("pooled/pool").exists() {
            let _stays_for_the_person_to_see = self.pool(&["remove"]);
        }
    }
}

impl World {
    /// Directories below `dir`.
    ///
    /// # Errors
    /// If they cannot be made.
    pub(crate) fn new(dir: &Path, binary: PathBuf) -> anyhow::Result<Self> {
        let state = tempfile::Builder::new().prefix("state-").tempdir_in(dir)?;
        for name in ["sessions", "config"] {
            std::fs::create_dir(state.path().join(name))?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { state, cache: dir.join("cache"), binary, runtime })
    }

    /// A directory of this run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// Opens sessions as the product does, the product being the launcher; with or without a spare.
    ///
    /// # Errors
    /// What the boundary lacks.
    pub(crate) fn native_sessions(&self, spare: bool) -> anyhow::Result<Arc<NativeSessions>> {
        self.sessions_in(self.path("sessions"), spare)
    }

    /// The kinds of workspace whose cost does not depend on the number of files.
    pub(crate) fn kinds(&self) -> Vec<WorkspaceKind> {
        let snapshots = rustix::process::geteuid().is_root().then_some(WorkspaceKind::Btrfs);
        [WorkspaceKind::Overlay].into_iter().chain(snapshots).collect()
    }

    /// Sessions with workspaces of that kind; snapshots in a pool that is made for it.
    ///
    /// # Errors
    /// What the boundary lacks.
    pub(crate) fn sessions_of(
        &self,
        kind: WorkspaceKind,
        spare: bool,
    ) -> anyhow::Result<Arc<NativeSessions>> {
        if kind != WorkspaceKind::Btrfs {
            return self.native_sessions(spare);
        }
        self.pool(&["create", "--size", POOL_SIZE])?;
        self.sessions_in(self.path("pooled/pool/sessions"), spare)
    }

    fn pool(&self, args: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("pool").args(args).env("COFFERDAM_STATE_DIR", self.path("pooled"));
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn sessions_in(&self, dir: PathBuf, spare: bool) -> anyhow::Result<Arc<NativeSessions>> {
        let launcher = Launcher::start(LauncherOptions {
            executable: self.binary.clone(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            spare,
            landlock_audit: false,
        })?;
        let variable = |name: &str| std::env::var_os(name);
        let home = variable("HOME").unwrap_or_else(|| OsString::from("/nonexistent"));
        let view = View::of_host(&path_variable(), Path::new(&home), &variable);
        let sessions = NativeSessions::new(
            launcher,
            view,
            dir,
            Box::new(variable),
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
        );
        Ok(Arc::new(sessions))
    }

    /// An engine with a journal of its own, called `name`.
    ///
    /// # Errors
    /// What keeps a part from being made.
    pub(crate) fn engine(&self, name: &str, sessions: Arc<dyn Sessions>) -> anyhow::Result<Engine> {
        self.engine_of(name, sessions, WorkspaceKind::Overlay)
    }

    /// The same, whose profiles want workspaces of that kind.
    ///
    /// # Errors
    /// What the journal or git lacks.
    pub(crate) fn engine_of(
        &self,
        name: &str,
        sessions: Arc<dyn Sessions>,
        kind: WorkspaceKind,
    ) -> anyhow::Result<Engine> {
        let at = |part: &str| self.path(name).join(part);
        let journal = self.runtime.block_on(Journal::open(JournalOptions {
            dir: at("journal"),
            keys: at("keys"),
            locks: at("locks"),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }))?;
        Ok(Engine::new(Parts {
            journal,
            broker: self.broker(name)?,
            sessions,
            profiles: Arc::new(Builtin(kind)),
            admissions: Admissions::open(&at("admissions"))?,
            redactor: Arc::new(Redactor::new(vec![])),
            owner: owner()?,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }))
    }

    /// The broker of the engine called `name`; all share prepared bases.
    ///
    /// # Errors
    /// What git lacks.
    pub(crate) fn broker(&self, name: &str) -> anyhow::Result<Broker> {
        Ok(Broker::open(BrokerOptions {
            store: self.path(name).join("store"),
            cache: self.cache.join("cofferdam").join("bases"),
            git: Git::find(&path_variable())?,
            crash_point: no_crash(),
            fetch_environment: vec![],
            fetch_timeout_ms: FETCH_TIMEOUT_MS,
        })?)
    }

    /// A broker that shares no base with the others.
    ///
    /// # Errors
    /// A directory cannot be made, or git is unusable.
    pub(crate) fn broker_apart(&self, name: &str) -> anyhow::Result<Broker> {
        Ok(Broker::open(BrokerOptions {
            store: self.path(name).join("store"),
            cache: self.path(name).join("cache"),
            git: Git::find(&path_variable())?,
            crash_point: no_crash(),
            fetch_environment: vec![],
            fetch_timeout_ms: FETCH_TIMEOUT_MS,
        })?)
    }

    /// The program with directories of its own.
    pub(crate) fn program(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .env("COFFERDAM_STATE_DIR", self.path("binary"))
            .env("COFFERDAM_CACHE_DIR", self.cache.join("cofferdam"))
            .env("COFFERDAM_CONFIG_DIR", self.path("config"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the program and gives the object that it prints.
    ///
    /// # Errors
    /// If it fails; its words are on standard error.
    pub(crate) fn object(&self, args: &[&str]) -> anyhow::Result<serde_json::Value> {
        let output = self.program(args).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "failed ({}): cofferdam {args:?}", output.status);
        serde_json::from_slice(&output.stdout).context("not an object")
    }
}

/// What a run on `repository` with that driver is asked for by.
///
/// # Errors
/// If the path cannot be part of a request.
pub(crate) fn request(repository: &Path, driver: DriverRequest) -> anyhow::Result<RuntimeRequest> {
    let path = repository.to_str().context("a path is not UTF-8")?;
    Ok(RuntimeRequest {
        contract_version: REQUEST_VERSION.to_owned(),
        request_id: RequestId::generate(&SystemClock, &SystemEntropy),
        correlation_id: CorrelationId::generate(&SystemClock, &SystemEntropy),
        idempotency_key: None,
        timestamp_utc: SystemClock.now(),
        deadline_utc: None,
        actor: owner()?,
        tenant: "local".to_owned(),
        task_type: TaskType::Assist,
        task: "measure".to_owned(),
        profile: PROFILE.to_owned(),
        repository: RepositoryRequest {
            source: RepositorySource::Path(path.to_owned()),
            base: "main".to_owned(),
            carry: vec![],
            allowed_paths: vec![],
            protected_paths: vec![],
        },
        driver,
        budget: None,
        data_classification: DataClassification::Internal,
        retention: Retention::Run,
    })
}

/// Who measures.
///
/// # Errors
/// Never.
pub(crate) fn owner() -> anyhow::Result<PrincipalId> {
    Ok("local:bench".parse()?)
}

/// Where programs are looked for, bare and in sessions: first where the Python interpreter is that
/// is found. What a version manager puts in front of it is a shell script that chooses one, which
/// would take longer than what is measured.
pub(crate) fn path_variable() -> OsString {
    static PATH: OnceLock<OsString> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = std::env::var_os("PATH")
            .unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
        let asks = ["-c", "import os, sys; print(os.path.dirname(sys.executable), end='')"];
        match Command::new("python3").args(asks).output() {
            Ok(asked) if asked.status.success() && !asked.stdout.is_empty() => {
                let mut first = OsString::from_vec(asked.stdout);
                first.push(":");
                first.push(path);
                first
            }
            _ => path,
        }
    })
    .clone()
}

/// The built-in profiles, with a budget of tool time that no measurement uses up, and this kind of
/// workspace.
struct Builtin(WorkspaceKind);

impl Profiles for Builtin {
    fn profile(&self, name: &str) -> Result<Profile, Problem> {
        let mut profile = builtin(name)?;
        profile.budget.tool_ms = u64::from(u32::MAX);
        profile.budget.wall_ms = u64::from(u32::MAX);
        profile.session.workspace_kind = self.0;
        Ok(profile)
    }
}

/// Sessions in which a call is over as soon as it is started: what is left is the pipeline.
pub(crate) struct NoSessions {
    /// Opens a real one, for its report.
    pub(crate) native: Arc<NativeSessions>,
}

impl Sessions for NoSessions {
    fn open(&self, order: SessionOrder<'_>) -> Result<Arc<dyn OpenSession>, Problem> {
        Ok(Arc::new(Nothing(self.native.open(order)?)))
    }
}

struct Nothing(Arc<dyn OpenSession>);

struct Done;

impl Running for Done {
    fn stopper(&self) -> Box<dyn Fn() + Send> {
        Box::new(|| {})
    }

    fn wait(self: Box<Self>) -> Ending {
        Box::pin(std::future::ready(self.block()))
    }

    fn block(self: Box<Self>) -> CallResult {
        CallResult {
            end: CallEnd::Exited,
            exit_code: Some(0),
            signal: None,
            not_started: None,
            stdout: vec![],
            stderr: vec![],
            truncated: false,
            duration_ms: 0,
            denials: 0,
        }
    }
}

impl Hands for Nothing {
    fn session(&self) -> &SessionId {
        self.0.session()
    }

    fn start(&self, _spec: CallSpec, _io: CallIo) -> Result<Box<dyn Running>, Problem> {
        Ok(Box::new(Done))
    }

    fn denials(&self, _call: &CallId) -> Vec<Denial> {
        vec![]
    }
}

impl OpenSession for Nothing {
    fn report(&self) -> &CapabilityReport {
        self.0.report()
    }

    fn freeze(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn thaw(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn left(&self) -> Result<Left, Problem> {
        Ok(Left { changes: vec![], left_out: vec![] })
    }

    fn read(&self, _path: &RepoPath) -> Result<(FileKind, u64, Box<dyn Read + Send>), Problem> {
        Err(Problem::new(Code::Internal, "nothing was touched"))
    }

    fn end(&self) -> SessionEnd {
        self.0.end()
    }

    fn discard(&self) {
        self.0.discard();
    }
}
