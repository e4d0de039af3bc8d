//! The launcher process: clones sessions and keeps nothing of them but their process ids.
//!
//! ```text
//! supervisor ──control socket──▶ launcher ──clone──▶ init of session 1, 2, …
//!     └───────────────session socket─────────────────────▲
//! ```
//! It has one thread, an empty environment and no descriptor but its control socket and what leads
//! to the spare: an init that has laid the groundwork of a session that nobody has asked for yet,
//! which takes the clone, the control groups and most mounts out of the time to open one. Its death
//! takes every session with it (parent-death signal), and so does that of the supervisor's thread
//! that started it. Must never read or write a session's socket, nor wait for a session.

#![allow(unsafe_code)]

mod cgroup;
mod clone;
mod identity;
mod widen;

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use cofferdam_contract::capability::{Boundary, WallName};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions};

use self::clone::{Begun, Cloned, Make};
use self::identity::Identity;
use crate::audit;
use crate::filter;
use crate::init::{END_OF_WARDEN, Entry, beneath, kill_until_none};
use crate::spec::Resident;
use crate::sys::process;
use crate::sys::socket::{Channel, Packet};
use crate::wire::{FromLauncher, Groundwork, Plan, Refusal, ToLauncher};

pub(crate) use self::cgroup::{Groups, remove as remove_group, sweep as sweep_groups};

/// First argument of the launcher's command line.
pub(crate) const SUBCOMMAND: &str = "__launcher";
/// Its control socket.
pub(crate) const CONTROL: i32 = 3;

/// What the hidden subcommand `__launcher` does. The binary that [`crate::LauncherOptions`] names
/// calls it first thing in `main`, before any thread.
pub fn launcher_main(residents: &'static [Resident]) -> ! {
    if std::env::args().nth(2).as_deref() == Some(audit::ARGUMENT) {
        // SAFETY: as for the launcher's own.
        let control = Channel::from(unsafe { OwnedFd::from_raw_fd(CONTROL) });
        process::exit(if audit::read(&control).is_err() { 70 } else { 0 })
    }
    let failed = Launching::start(residents).and_then(|mut launching| launching.serve()).is_err();
    process::exit(if failed { 70 } else { 0 })
}

/// What is kept of a session.
struct Kept {
    /// Its control groups, until the supervisor has them, which removes them when it has read what
    /// they counted.
    groups: Vec<PathBuf>,
    /// What ends it.
    end: Signal,
}

struct Launching {
    control: Channel,
    children: OwnedFd,
    identity: Identity,
    residents: &'static [Resident],
    /// By process 1, or its warden.
    sessions: HashMap<i32, Kept>,
    /// Children that put something into a session, or take it away.
    widening: HashSet<i32>,
    /// The system-call filters, without and with tracing allowed, and the same for flat sessions,
    /// once they were needed.
    programs: [OnceCell<Vec<libc::sock_filter>>; 8],
    /// There were flat sessions, so that orphans of theirs may come to this process.
    adopts: bool,
    /// Of the session before.
    last: Option<Groundwork>,
    spare: Option<Spare>,
}

/// An init that waits for a session of its kind.
struct Spare {
    groundwork: Groundwork,
    cloned: Cloned,
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
        let (sessions, widening, programs) = Default::default();
        Ok(Self {
            control,
            children,
            identity,
            residents,
            sessions,
            widening,
            programs,
            adopts: false,
            last: None,
            spare: None,
        })
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
            ToLauncher::Open { plan, then_spare } => {
                self.open(&plan, packet.descriptors.into_iter().next())?;
                // One session may be all that is ever asked for.
                if then_spare && self.last.as_ref() == Some(&plan.groundwork) {
                    self.lay_groundwork(plan.groundwork);
                } else {
                    self.last = Some(plan.groundwork);
                }
                Ok(())
            }
            ToLauncher::Widen(order) => {
                self.widening.extend(widen::start(&order, packet.descriptors, &self.identity));
                Ok(())
            }
            ToLauncher::Kill { pid } => {
                if let Some(kept) = self.sessions.get(&pid) {
                    process::signal(pid, kept.end);
                }
                Ok(())
            }
        }
    }

    fn open(&mut self, plan: &Plan, socket: Option<OwnedFd>) -> io::Result<()> {
        let opened = match socket {
            Some(socket) => self.begin(plan, &socket),
            None => {
                Err(Refusal { wall: None, detail: "no socket came with the session".to_owned() })
            }
        };
        match opened {
            Ok(Begun { child, groups, mounts }) => {
                if let Some(kept) = self.sessions.get_mut(&child.pid) {
                    kept.groups.clear();
                }
                let rootless = self.identity.is_single();
                let opened = FromLauncher::Opened { pid: child.pid, rootless, groups };
                let mut descriptors = vec![child.pidfd.as_fd()];
                descriptors.extend(mounts.as_ref().map(AsFd::as_fd));
                self.control.send(&opened, &descriptors)
            }
            Err(refusal) => self.control.send(&FromLauncher::Refused(refusal), &[]),
        }
    }

    /// Tells the spare its session, if there is one that was made for such; else a new init.
    fn begin(&mut self, plan: &Plan, socket: &OwnedFd) -> Result<Begun, Refusal> {
        let Plan { groundwork, own } = plan;
        if let Some(spare) = self.spare.take_if(|spare| spare.groundwork == *groundwork)
            && let Some(begun) = spare.cloned.begin(own, socket, &self.identity)?
        {
            return Ok(begun);
        }
        let cloned = self.clone_init(groundwork, false)?;
        let gone = || Refusal { wall: None, detail: "the session did not start".to_owned() };
        cloned.begin(own, socket, &self.identity)?.ok_or_else(gone)
    }

    fn clone_init(&mut self, groundwork: &Groundwork, is_spare: bool) -> Result<Cloned, Refusal> {
        let is_flat = groundwork.flat.is_some();
        if is_flat {
            self.adopt()?;
        }
        let make = Make {
            groundwork,
            program: self.program(groundwork)?,
            residents: self.residents,
            is_spare,
        };
        let cloned = clone::session(&make, &self.identity)?;
        let end = if is_flat { END_OF_WARDEN } else { Signal::KILL };
        self.sessions.insert(cloned.child.pid, Kept { groups: cloned.groups.clone(), end });
        Ok(cloned)
    }

    /// A warden can be killed by the user: what it watched over then comes to this process.
    fn adopt(&mut self) -> Result<(), Refusal> {
        let own = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(own)).map_err(|error| Refusal {
            wall: None,
            detail: format!("adopting orphans: {error}"),
        })?;
        self.adopts = true;
        Ok(())
    }

    /// Lays the groundwork of the next session. Whatever keeps it from being laid, whoever asks
    /// for that session hears.
    fn lay_groundwork(&mut self, groundwork: Groundwork) {
        if self.spare.as_ref().is_some_and(|spare| spare.groundwork == groundwork) {
            return;
        }
        // A spare that is let go of ends by itself.
        self.spare = None;
        if let Ok(cloned) = self.clone_init(&groundwork, true) {
            self.spare = Some(Spare { groundwork, cloned });
        }
    }

    fn program(&self, groundwork: &Groundwork) -> Result<&[libc::sock_filter], Refusal> {
        let Groundwork { debug, tells_writes, .. } = *groundwork;
        let is_flat = groundwork.flat.is_some();
        let at = [debug, is_flat, tells_writes].map(usize::from);
        let kept = &self.programs[at[0] + 2 * at[1] + 4 * at[2]];
        if let Some(program) = kept.get() {
            return Ok(program);
        }
        let boundary = if is_flat { Boundary::Flat } else { Boundary::Native };
        let made = filter::program(filter::Wanted { boundary, debug, tells_writes });
        let program = made.map_err(|error| Refusal {
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
                Ok(None) | Err(rustix::io::Errno::CHILD) => {
                    self.end_orphans();
                    return Ok(());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn forget(&mut self, pid: Pid) {
        let pid = pid.as_raw_nonzero().get();
        self.widening.remove(&pid);
        self.spare.take_if(|spare| spare.cloned.child.pid == pid);
        for group in self.sessions.remove(&pid).into_iter().flat_map(|kept| kept.groups) {
            remove_group(&group);
        }
    }

    /// A child that is no session and widens none is what a killed warden left.
    fn end_orphans(&self) {
        if !self.adopts {
            return;
        }
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let orphans = |all: &[Entry]| {
            let is_ours = |pid| self.sessions.contains_key(&pid) || self.widening.contains(&pid);
            let is_orphan = |it: &&Entry| it.parent == own && !is_ours(it.pid);
            let mut found: Vec<Entry> = all.iter().filter(is_orphan).copied().collect();
            found.extend(found.clone().iter().flat_map(|it| beneath(it.pid, all)));
            found
        };
        // They stay as dead children until the next round, which their death brings about.
        let _or_the_next_round = kill_until_none(orphans, || {});
    }
}
