//! A supervisor that opens many sessions, makes many calls in them and says each one, so that it can
//! be killed at any of them; and a process above it that outlives it.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::{CallId, SessionId};
use cofferdam_sandbox::{
    CallIo, CallSpec, Launcher, LauncherOptions, Program, SandboxError, Session,
};

use crate::{Counter, Nowhere, SystemClock, specification};

/// Threads that make calls.
const CALLERS: usize = 4;
/// Openings in a row that may fail: a launcher that was killed fails those that wait for it.
const FAILED_MAX: usize = 20;

/// Runs this program again and adopts whatever it leaves. Ends when nothing is left.
pub(crate) fn reap(args: &[&str]) -> std::io::Result<()> {
    // Any process id but none sets the flag (prctl(2)).
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Command::new(std::env::current_exe()?).args(args).spawn()?;
    // Whoever reads what it says is to learn of its end.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Ok(()),
        }
    }
}

struct Soak<'a> {
    dir: &'a Path,
    launcher: Launcher,
    clock: Arc<SystemClock>,
    entropy: Arc<Counter>,
}

/// Says its process id, then does what it reads: `round SESSIONS CALLS`, the calls in each of the
/// sessions, which are held at once; `leave descriptor`, `leave thread`, `leave process`. Says `rested` after each.
pub(crate) fn soak(dir: &Path) -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(SystemClock);
    let entropy = Arc::new(Counter(AtomicU64::new(1)));
    let launcher = Launcher::start(LauncherOptions {
        executable: std::env::current_exe()?,
        clock: Arc::clone(&clock) as _,
        entropy: Arc::clone(&entropy) as _,
        spare: true,
        landlock_audit: false,
    })?;
    println!("{}", std::process::id());
    let soak = Soak { dir, launcher, clock, entropy };
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["round", sessions, calls] => soak.round(sessions.parse()?, calls.parse()?)?,
            ["leave", "descriptor"] => std::mem::forget(File::open("/dev/null")?),
            ["leave", "thread"] => drop(std::thread::spawn(|| {
                loop {
                    std::thread::park()
                }
            })),
            ["leave", "process"] => {
                let mut sleep = Command::new("/bin/sleep");
                sleep.arg("1000").process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
                sleep.spawn()?;
            }
            _ => return Err(format!("{line}?").into()),
        }
        println!("rested");
    }
    Ok(())
}

impl Soak<'_> {
    fn round(&self, sessions: usize, calls: usize) -> Result<(), Box<dyn Error>> {
        let (mut held, mut failed) = (Vec::new(), 0);
        while held.len() < sessions {
            match self.open() {
                Ok(session) => {
                    println!("session");
                    held.push(session);
                    failed = 0;
                }
                Err(error) if failed == FAILED_MAX => return Err(error),
                Err(_) => failed += 1,
            }
            held.retain(Session::is_alive);
        }
        println!("held");
        let calls = calls * sessions;
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let of_caller = (caller..calls).step_by(CALLERS);
                // All callers are in one session at a time.
                let each = |number| self.call(&held[number / CALLERS % sessions], number);
                scope.spawn(move || of_caller.for_each(each));
            }
        });
        Ok(())
    }

    fn open(&self) -> Result<Session, Box<dyn Error>> {
        let id = SessionId::generate(&*self.clock, &*self.entropy);
        Ok(self.launcher.open(specification(self.dir, id)?, Arc::new(Nowhere))?)
    }

    /// Makes a call and says how it came out. Some leave something that runs on: of those that
    /// are made in the background it stays, until the end of the session.
    fn call(&self, session: &Session, number: usize) {
        let (background, script) = match number % 10 {
            0 => (true, "sleep 1000 >/dev/null 2>&1 &"),
            1 => (false, "sleep 1000 >/dev/null 2>&1 &"),
            _ => (false, ":"),
        };
        let spec = CallSpec {
            id: CallId::generate(&*self.clock, &*self.entropy),
            program: Program::Execute {
                executable: "/bin/sh".into(),
                args: ["-c", script].map(Into::into).to_vec(),
            },
            environment: Vec::new(),
            cwd: "/workspace".into(),
            timeout_ms: 60_000,
            output_bytes_max: 1 << 20,
            background,
            is_agent: false,
            terminal: false,
        };
        let result = session.call(spec, CallIo::Captured { stdin: Vec::new() });
        let said = match result.map(|call| call.wait()) {
            Ok(result) if result.exit_code == Some(0) => "call".to_owned(),
            Ok(result) if result.end == CallEnd::SessionLost => "lost".to_owned(),
            Err(SandboxError::SessionLost) => "lost".to_owned(),
            other => format!("{other:?}"),
        };
        // Whoever reads may be gone.
        let _closed = writeln!(std::io::stdout(), "{said}");
    }
}
