//! The background supervisor's process: detached from whoever started it, at most one per state
//! directory, ready before its starter goes on.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use cofferdam_contract::problem::{Code, Outcome, Problem};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::server::Server;
use super::socket::{Lock, Place};
use crate::config::Configuration;
use crate::dirs::Dirs;
use crate::wiring;

/// The hidden subcommand.
pub(crate) const ARGUMENT: &str = "__supervisor";
/// What it says on standard output once it listens.
pub(crate) const READY: &str = "ready";
/// How long it waits for the one before it to be gone.
const PREDECESSOR_TRIES: u32 = 400;
const PREDECESSOR_EVERY: Duration = Duration::from_millis(50);
/// Beyond this the log is begun anew.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// The supervisor's log, begun anew where it has become long.
pub(crate) fn open_log(state: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).append(true).mode(0o600);
    let log = options.open(state.join("supervisor.log"))?;
    if log.metadata()?.len() > LOG_BYTES_MAX {
        log.set_len(0)?;
    }
    Ok(log)
}

/// The process's `main`.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // The starter reads it if nobody was told to be ready; the log gets it in any case.
            let text = serde_json::to_string(&problem).unwrap_or_default();
            let _ = write!(io::stdout(), "{text}");
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::from(Outcome::Internal.exit_code())
        }
    }
}

fn serve() -> Result<(), Problem> {
    let system = |error: io::Error| Problem::new(Code::Internal, format!("detaching: {error}"));
    wiring::give_up_privileges()?;
    raise_open_files();
    // Already the leader of a session when it was started by hand.
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    rustix::process::chdir("/").map_err(|error| system(error.into()))?;
    let dirs = Dirs::find(&|name| std::env::var_os(name))?;
    dirs.prepare()?;
    let place = Place::open(&dirs.state).map_err(system)?;
    let _only_one_lives = wait_for_predecessor(&place).map_err(system)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(system)?;
    let served = runtime.block_on(async {
        let engine = wiring::engine(&dirs, &Configuration::new(dirs.config.clone())).await?;
        wiring::sweep_sessions(&dirs);
        engine.settle_orphans(std::sync::Arc::new(cofferdam_engine::Unobserved)).await?;
        let listener = place.listen().map_err(system)?;
        say_ready().map_err(system)?;
        Server::new(engine).serve(listener, &place).await
    });
    let _ = place.remove();
    served
}

/// As many open files as the administrator allows: a session takes up to eleven, and the usual soft
/// limit of 1,024 is for programs that use select(2) (getrlimit(2)). What is left is said by whoever
/// meets it.
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _as_before = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn wait_for_predecessor(place: &Place) -> io::Result<Lock> {
    for _ in 0..PREDECESSOR_TRIES {
        if let Some(lock) = place.life_lock()? {
            return Ok(lock);
        }
        std::thread::sleep(PREDECESSOR_EVERY);
    }
    Err(io::Error::other("another supervisor holds the state directory and does not answer"))
}

/// Tells the starter, then lets go of its pipe: standard output becomes the log.
fn say_ready() -> io::Result<()> {
    let mut out = io::stdout();
    write!(out, "{READY}")?;
    out.flush()?;
    Ok(rustix::stdio::dup2_stdout(io::stderr())?)
}
