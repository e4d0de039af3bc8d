//! The side that asks: starts the launcher, opens sessions, makes calls, keeps time.
//!
//! Time limits are kept here and do not depend on init: what init does not end in time ends with
//! its session. Must never know how a wall is put up.

mod audit;
mod breach;
mod call;
mod grants;
mod held;
mod process;
mod reactor;
mod report;
mod session;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cofferdam_contract::capability::Boundary;
use cofferdam_contract::ports::{Clock, Entropy};
use rustix::process::Signal;

use self::audit::Audit;
use self::grants::Granting;
use self::process::{Opened, Process};
use self::reactor::Reactor;
use self::session::{Opening, Shared};
use crate::decoy::Decoys;
use crate::error::SandboxError;
use crate::flat::{self, Places};
use crate::init::END_OF_WARDEN;
use crate::notify::{OwnDirectories, Watched, Watcher};
use crate::spec::{DenialSink, SandboxSpec};
use crate::sweep::Claim;
use crate::sys::socket::Channel;
use crate::view::HOME;
use crate::wire::{self, Groundwork, Own, Plan};

pub use self::call::{Call, Stopper};
pub use self::grants::Offer;
pub use self::session::Session;

/// How a launcher is started.
pub struct LauncherOptions {
    /// A binary that calls [`crate::launcher_main`] for its first argument `__launcher`; it is
    /// copied into a sealed memfd.
    pub executable: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Whether, after two sessions of one kind, the groundwork of a third is laid while nobody
    /// waits for it: opening that is several times faster, for the price of an idle process.
    pub spare: bool,
    /// Whether Landlock's refusals are told by the kernel's audit, where that can be had. It turns
    /// the host's audit on while this launcher lives.
    pub landlock_audit: bool,
}

/// The launcher of this process. Dropping it ends every session that it opened.
pub struct Launcher {
    core: Arc<Core>,
}

/// What sessions share.
pub(crate) struct Core {
    entropy: Arc<dyn Entropy>,
    image: OwnedFd,
    process: Mutex<Option<Arc<Process>>>,
    reactor: Reactor,
    watcher: Watcher,
    spare: bool,
    audit: Audit,
}

/// Keeps going when another thread panicked: what these locks guard is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Launcher {
    /// Starts the launcher process.
    ///
    /// # Errors
    /// The executable cannot be copied or executed.
    pub fn start(options: LauncherOptions) -> Result<Self, SandboxError> {
        let LauncherOptions { executable, clock, entropy, spare, landlock_audit } = options;
        crate::launcher::sweep_groups();
        let image = process::image(&executable)?;
        let watcher = Watcher::start(clock, Arc::clone(&entropy))?;
        let reactor = Reactor::start()?;
        let audit = Audit::start(landlock_audit, image.as_fd(), watcher.feed());
        let process = Mutex::new(None);
        let core = Core { entropy, image, process, reactor, watcher, spare, audit };
        core.process()?;
        Ok(Self { core: Arc::new(core) })
    }

    /// Opens a session: when this returns, its walls stand.
    ///
    /// # Errors
    /// [`SandboxError::WallMissing`] if a wall of the floor cannot be put up; nothing is left then.
    pub fn open(
        &self,
        spec: SandboxSpec,
        sink: Arc<dyn DenialSink>,
    ) -> Result<Session, SandboxError> {
        let core = &self.core;
        let claim = Claim::take(&spec.scratch)?;
        let plan = core.plan(&spec)?;
        let (ours, theirs) = Channel::pair().map_err(SandboxError::system("making sockets"))?;
        ours.ask_for_senders().map_err(SandboxError::system("asking for senders"))?;
        let opened = core.process()?.open(&plan, core.spare, &theirs)?;
        drop(theirs);
        let Opened { process, pid, pidfd, rootless, groups, mounts } = opened;
        let end = if plan.groundwork.flat.is_some() { END_OF_WARDEN } else { Signal::KILL };
        let opening = Opening { channel: ours, process, pid, pidfd, groups, end };
        let ready = opening.ready()?;
        let listening = ready.listener.is_some();
        let granting = Granting {
            mounts: Mutex::new(mounts),
            asked: ready.asked.into(),
            told: ready.told.into(),
            asks_before_tracing: listening && !spec.debug && spec.boundary == Boundary::Native,
            places: Mutex::default(),
        };
        let report = report::report(&spec, rootless, ready.walls, (listening, &core.audit));
        let decoys = plan.own.decoys.iter().zip(&ready.decoys).map(|((inside, _), file)| {
            (inside.to_path(), PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
        });
        let decoys = (!plan.own.decoys.is_empty()).then(|| Decoys { files: decoys.collect() });
        let own = own_directories(&spec)?;
        let watch = core.watcher.watch(Watched {
            session: spec.session.clone(),
            run: spec.run.clone(),
            init: opening.pid,
            listener: ready.listener,
            procfs: ready.procfs,
            decoys,
            groups: opening.groups.clone(),
            own,
            sink: report::tell_session(sink, ready.denials),
        })?;
        let shared = Shared::new(spec, opening, watch, claim, Arc::clone(core));
        Session::begin(shared, report, granting)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        if let Some(process) = lock(&self.core.process).take() {
            process.kill();
            process.wait_for_end();
        }
    }
}

impl Core {
    /// The launcher process: the one that runs, or a new one.
    fn process(&self) -> Result<Arc<Process>, SandboxError> {
        let mut current = lock(&self.process);
        match &*current {
            Some(process) if process.is_alive() => Ok(Arc::clone(process)),
            _ => {
                let process = Arc::new(Process::start(self.image.as_fd())?);
                *current = Some(Arc::clone(&process));
                Ok(process)
            }
        }
    }

    fn plan(&self, spec: &SandboxSpec) -> Result<Plan, SandboxError> {
        if !spec.workspace_path.is_absolute() {
            let detail = "the workspace's path inside is not absolute".to_owned();
            return Err(SandboxError::Invalid { detail });
        }
        let view = &spec.view;
        let mut environment = wire::environment(&view.environment());
        environment.extend(wire::environment(&spec.environment));
        let pairs =
            |(one, other): &(PathBuf, PathBuf)| (one.as_path().into(), other.as_path().into());
        let groundwork = Groundwork {
            binds: view
                .binds
                .iter()
                .map(|bind| (bind.source.as_path().into(), bind.target.as_path().into()))
                .collect(),
            caches: view
                .caches
                .iter()
                .filter(|cache| spec.caches.contains(&cache.name))
                .map(|cache| (cache.source.as_path().into(), cache.target.as_path().into()))
                .collect(),
            files: view
                .files
                .iter()
                .map(|(path, content)| (path.as_path().into(), wire::Bytes(content.clone())))
                .collect(),
            links: view.links.iter().map(pairs).collect(),
            limits: spec.limits,
            debug: spec.debug,
            tells_writes: spec.tells_writes,
            audited: self.audit.is_on(),
            flat: None,
        };
        let own = Own {
            decoys: if spec.decoys { decoys(&*self.entropy) } else { Vec::new() },
            workspace: spec.workspace.clone(),
            workspace_path: spec.workspace_path.as_path().into(),
            environment,
        };
        let plan = Plan { groundwork, own };
        match spec.boundary {
            Boundary::Native => Ok(plan),
            Boundary::Flat => flat::plan(plan, &spec.scratch),
        }
    }
}

/// Where a flat session's changes of modes and times are made.
fn own_directories(spec: &SandboxSpec) -> Result<Option<OwnDirectories>, SandboxError> {
    if spec.boundary == Boundary::Native {
        return Ok(None);
    }
    let places = Places::of(&spec.scratch);
    let paths = [spec.workspace_path.clone(), places.home(), places.temporary()];
    let opened = OwnDirectories::open(&paths);
    opened.map(Some).map_err(SandboxError::system("opening the session's directories"))
}

/// Where decoys lie inside, and what they hold. Init lays them out on a file system of the
/// session's own; nothing of them is ever on the host.
fn decoys(entropy: &dyn Entropy) -> wire::Environment {
    let decoys = crate::decoy::contents(HOME.as_ref(), entropy).into_iter();
    decoys.map(|(inside, content)| (inside.as_path().into(), wire::Bytes(content))).collect()
}
