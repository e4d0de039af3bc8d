//! The only place that puts the runtime's parts together.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::time::UtcTime;
use cofferdam_engine::admissions::Admissions;
use cofferdam_engine::sessions::native::NativeSessions;
use cofferdam_engine::sessions::{OpenSession, SessionOrder, Sessions};
use cofferdam_engine::{Engine, Parts, Profiles};
use cofferdam_journal::{Journal, JournalOptions, Redactor, SecretBytes};
use cofferdam_policy::Profile;
use cofferdam_repository::{Broker, BrokerOptions, FETCH_TIMEOUT_MS, Git, no_crash};
use cofferdam_sandbox::{Guarded, Launcher, LauncherOptions, Resident, View};
use cofferdam_workspace::Pool;

use crate::config::{Config, Configuration};
use crate::dirs::Dirs;
use crate::principal;

/// The programs of this binary that run inside sessions.
pub(crate) const RESIDENTS: &[Resident] = &[Resident {
    name: cofferdam_tools::Codemod::RESIDENT,
    run: cofferdam_agents::codemod::resident,
}];

/// This binary, even if its file was replaced since it was started.
pub(crate) const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Variables that a fetch of a repository may need. Their values go to git alone.
const FETCH_VARIABLES: [&str; 9] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSH_AUTH_SOCK",
];

/// Words that make a variable's name look like a credential's.
const SECRET_WORDS: [&str; 6] = ["TOKEN", "SECRET", "PASSW", "CREDENTIAL", "KEY", "PASSPHRASE"];
/// Shorter values are words, not secrets.
const SECRET_BYTES_MIN: usize = 8;

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
        // Without randomness ids and keys would be guessable: rather no process than that.
        if getrandom::fill(bytes).is_err() {
            std::process::abort();
        }
    }
}

struct OperatorProfiles(Configuration);

impl Profiles for OperatorProfiles {
    fn profile(&self, name: &str) -> Result<Profile, Problem> {
        self.0.profile(name)
    }
}

/// Starts the launcher when the first session is opened, so that reading starts none.
struct LazySessions {
    dirs: Dirs,
    landlock_audit: bool,
    started: Mutex<Option<Arc<NativeSessions>>>,
}

impl LazySessions {
    fn native(&self) -> Result<Arc<NativeSessions>, Problem> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(native) = &*started {
            return Ok(Arc::clone(native));
        }
        let launcher = Launcher::start(LauncherOptions {
            executable: PathBuf::from(OWN_EXECUTABLE),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            spare: true,
            landlock_audit: self.landlock_audit,
        })?;
        let variable = |name: &str| std::env::var_os(name);
        let view = View::of_host(&path_variable(), Path::new(&home()), &variable);
        refuse_in_sight(&view, &self.dirs)?;
        let native = NativeSessions::new(
            launcher,
            view,
            sessions_dir(&self.dirs),
            Box::new(variable),
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
        )
        .guarding(Guarded {
            home: PathBuf::from(home()),
            never: [&self.dirs.state, &self.dirs.cache, &self.dirs.config]
                .map(PathBuf::clone)
                .into(),
            never_written: std::env::split_paths(&path_variable())
                .filter(|entry| entry.is_absolute())
                .collect(),
        });
        Ok(Arc::clone(started.insert(Arc::new(native))))
    }
}

impl Sessions for LazySessions {
    fn open(&self, order: SessionOrder<'_>) -> Result<Arc<dyn OpenSession>, Problem> {
        self.native()?.open(order)
    }
}

/// Sessions of this host, with state beneath these directories.
///
/// # Errors
/// What keeps the directories from being made.
pub(crate) fn sessions(dirs: &Dirs, landlock_audit: bool) -> Result<Arc<dyn Sessions>, Problem> {
    dirs.prepare()?;
    let (dirs, started) = (dirs.clone(), Mutex::default());
    Ok(Arc::new(LazySessions { dirs, landlock_audit, started }))
}

/// Invariant 2: keys, journal and other repositories' bases must not lie where a session looks,
/// such as in a directory on `PATH`.
fn refuse_in_sight(view: &View, dirs: &Dirs) -> Result<(), Problem> {
    for (dir, variable) in
        [(&dirs.state, "COFFERDAM_STATE_DIR"), (&dirs.cache, "COFFERDAM_CACHE_DIR")]
    {
        if let Some(source) = view.shows(dir) {
            let (dir, shown) = (crate::dirs::shown(dir), crate::dirs::shown(source));
            let detail = format!("{dir} would be seen in sessions, which get to see {shown}");
            return Err(Problem::new(Code::ConfigurationInvalid, detail)
                .hint(format!("set {variable} to another directory, or take that one off PATH")));
        }
    }
    Ok(())
}

/// Gives up what only the launcher needs. This process has one thread.
///
/// # Errors
/// `internal`: the kernel's.
pub(crate) fn give_up_privileges() -> Result<(), Problem> {
    cofferdam_sandbox::give_up_privileges()
        .map_err(|error| Problem::new(Code::Internal, format!("giving privileges up: {error}")))
}

/// The `PATH` of this process, or the usual one.
pub(crate) fn path_variable() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"))
}

fn home() -> OsString {
    std::env::var_os("HOME").unwrap_or_else(|| OsString::from("/nonexistent"))
}

/// Where each session has a directory: in the pool, where there is one.
fn sessions_dir(dirs: &Dirs) -> PathBuf {
    match Pool::at(&dirs.pool()) {
        Some(pool) => pool.sessions(),
        None => dirs.state.join("sessions"),
    }
}

/// Removes what sessions left that died with their supervisor, those from before a pool included.
pub(crate) fn sweep_sessions(dirs: &Dirs) {
    let pool = Pool::at(&dirs.pool()).map(|pool| pool.sessions());
    for dir in pool.into_iter().chain([dirs.state.join("sessions")]) {
        cofferdam_sandbox::sweep(&dir, |left| {
            let _stays = cofferdam_workspace::remove_dir(left);
        });
    }
}

/// The git of this machine.
///
/// # Errors
/// `boundary_unavailable` or the like, naming the version that is needed.
pub(crate) fn git() -> Result<Git, Problem> {
    Ok(Git::find(&path_variable())?)
}

/// An engine over these directories.
///
/// # Errors
/// What keeps a part from being made, with the remedy.
pub(crate) async fn engine(dirs: &Dirs, configuration: &Configuration) -> Result<Engine, Problem> {
    dirs.prepare()?;
    let config = configuration.config()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let journal = Journal::open(JournalOptions {
        dir: dirs.state.join("journal"),
        keys: dirs.state.join("keys"),
        locks: dirs.state.join("locks"),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
    })
    .await?;
    let broker = Broker::open(BrokerOptions {
        store: dirs.state.join("store"),
        cache: dirs.cache.join("bases"),
        git: git()?,
        crash_point: no_crash(),
        fetch_environment: fetch_environment(),
        fetch_timeout_ms: FETCH_TIMEOUT_MS,
    })?;
    Ok(Engine::new(Parts {
        journal,
        broker,
        sessions: sessions(dirs, config.landlock_audit)?,
        profiles: Arc::new(OperatorProfiles(configuration.clone())),
        admissions: Admissions::open(&dirs.state.join("admissions"))?,
        redactor: Arc::new(Redactor::new(known_secrets(&config))),
        owner: principal::of_process()?,
        clock,
        entropy,
    }))
}

fn fetch_environment() -> Vec<(OsString, OsString)> {
    let set = |name: &str| Some((OsString::from(name), std::env::var_os(name)?));
    FETCH_VARIABLES.into_iter().filter_map(set).collect()
}

/// The values of the environment that must not reach the journal.
fn known_secrets(config: &Config) -> Vec<SecretBytes> {
    use std::os::unix::ffi::OsStringExt as _;
    std::env::vars_os()
        .filter(|(name, value)| {
            value.len() >= SECRET_BYTES_MIN && is_secret(name, &config.redact_environment)
        })
        .map(|(_, value)| SecretBytes::from(value.into_vec()))
        .collect()
}

fn is_secret(name: &OsStr, listed: &std::collections::BTreeSet<String>) -> bool {
    let name = name.to_string_lossy();
    let upper = name.to_ascii_uppercase();
    listed.contains(&*name) || SECRET_WORDS.iter().any(|word| upper.contains(word))
}

/// Runs `work` where blocking is allowed.
///
/// # Errors
/// What `work` says; `internal` if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?
}
