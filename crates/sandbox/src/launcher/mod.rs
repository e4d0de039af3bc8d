//! The launcher process: clones sessions and keeps nothing of them but their process ids.
//!
//! ```text
//! supervisor ──control socket──▶ launcher ──clone──▶ init of session 1, 2, …
//!     └───────────────session socket─────────────────────▲
//! ```
//! It has one thread, an empty environment and no descriptor but its control socket. Its death
//! takes every session with it (parent-death signal), and so does that of the supervisor's thread
//! that started it. Must never read or write a session's socket, nor wait for a session.

#![allow(unsafe_code)]

mod cgroup;
mod clone;
mod identity;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use cofferdam_contract::capability::WallName;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions};

use self::clone::{Cloned, Make};
use self::identity::Identity;
use crate::filter;
use crate::spec::Resident;
use crate::sys::process;
use crate::sys::socket::{Channel, Packet};
use crate::wire::{FromLauncher, Plan, Refusal, ToLauncher};

pub(crate) use self::cgroup::{Groups, remove as remove_group, sweep as sweep_groups};

/// First argument of the launcher's command line.
pub(crate) const SUBCOMMAND: &str = "__launcher";
/// Its control socket.
pub(crate) const CONTROL: i32 = 3;

/// What the hidden subcommand `__launcher` does. The binary that [`crate::LauncherOptions`] names
/// calls it first thing in `main`, before any thread.
pub fn launcher_main(residents: &'static [Resident]) -> ! {
    let failed = Launching::start(residents).and_then(|mut launching| launching.serve()).is_err();
    process::exit(if failed { 70 } else { 0 })
}

struct Launching {
    control: Channel,
    children: OwnedFd,
    identity: Identity,
    residents: &'static [Resident],
    /// Control groups of each session, by its process 1.
    sessions: HashMap<i32, Vec<PathBuf>>,
    /// The system-call filters, without and with tracing allowed, once they were needed.
    programs: [OnceCell<Vec<libc::sock_filter>>; 2],
    /// How many sessions were opened, for names of control groups.
    opened: u64,
}

impl Launching {
    fn start(residents: &'static [Resident]) -> io::Result<Self> {
        process::close_from(CONTROL as u32 + 1)?;
        // SAFETY: the supervisor put the socket there before it executed this program, and
        // nothing else in it knows that number.
        let control = Channel::from(unsafe { OwnedFd::from_raw_fd(CONTROL) });
        rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::CLOEXEC)?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let identity = Identity::find()?;
        let children = process::watch_children()?;
        let (sessions, programs) = Default::default();
        Ok(Self { control, children, identity, residents, sessions, programs, opened: 0 })
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            let mut polled = [
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::new(&self.children, PollFlags::IN),
            ];
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [asked, ended] = [0, 1].map(|at| !polled[at].revents().is_empty());
            if ended {
                self.reap()?;
            }
            if asked {
                match self.control.receive()? {
                    Some(packet) => self.answer(packet)?,
                    None => return Ok(()),
                }
            }
        }
    }

    fn answer(&mut self, packet: Packet<ToLauncher>) -> io::Result<()> {
        match packet.message {
            ToLauncher::Open(plan) => self.open(&plan, packet.descriptors),
            ToLauncher::Kill { pid } => {
                if self.sessions.contains_key(&pid) {
                    process::signal(pid, Signal::KILL);
                }
                Ok(())
            }
        }
    }

    fn open(&mut self, plan: &Plan, mut descriptors: Vec<OwnedFd>) -> io::Result<()> {
        self.opened += 1;
        let cloned = match descriptors.pop() {
            Some(socket) => self.program(plan.debug).and_then(|program| {
                let number = self.opened;
                let make = Make { plan, program, number, residents: self.residents };
                clone::session(&make, socket, &self.identity)
            }),
            None => {
                Err(Refusal { wall: None, detail: "no socket came with the session".to_owned() })
            }
        };
        match cloned {
            Ok(Cloned { child, groups }) => {
                self.sessions.insert(child.pid, groups.clone());
                let rootless = self.identity.is_single();
                let opened = FromLauncher::Opened { pid: child.pid, rootless, groups };
                self.control.send(&opened, &[child.pidfd.as_fd()])
            }
            Err(refusal) => self.control.send(&FromLauncher::Refused(refusal), &[]),
        }
    }

    fn program(&self, debug: bool) -> Result<&[libc::sock_filter], Refusal> {
        let kept = &self.programs[usize::from(debug)];
        if let Some(program) = kept.get() {
            return Ok(program);
        }
        let program = filter::program(debug).map_err(|error| Refusal {
            wall: Some(WallName::Seccomp),
            detail: error.to_string(),
        })?;
        Ok(kept.get_or_init(|| program))
    }

    /// Takes note of ended sessions.
    fn reap(&mut self) -> io::Result<()> {
        let mut drained = [0; 1024];
        while rustix::io::read(&self.children, &mut drained).is_ok() {}
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, _))) => self.forget(pid),
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn forget(&mut self, pid: Pid) {
        for group in self.sessions.remove(&pid.as_raw_nonzero().get()).into_iter().flatten() {
            remove_group(&group);
        }
    }
}
