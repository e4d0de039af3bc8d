//! The process above init where there is no process namespace: it ends what a session leaves.
//!
//! ```text
//! launcher ─▶ warden ─▶ init ─▶ calls ─▶ whatever they start
//!               ▲                          │ its parent dies
//!               └── adopted by init, or ◀──┘
//!                   by the warden once init is gone
//! ```
//! It stands outside the session's Landlock domain, so that nothing in the session can signal it,
//! and it adopts (prctl(2), PR_SET_CHILD_SUBREAPER) whatever outlives init. When it is told to end,
//! when the launcher dies or init does, it kills all that is beneath it until nothing is, and only
//! then ends: its end is the session's. Must never signal what is not beneath it.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions};

use super::procs;
use super::{Built, failed, tie_to};
use crate::sys::process;
use crate::sys::socket::Channel;

/// What tells the warden to end its session.
pub(crate) const END: Signal = Signal::TERM;

/// Forks init. Returns in init; the caller is the warden from then on.
pub(super) fn split(launcher: &Channel) -> Built<()> {
    let told = process::watch(&[Signal::CHILD, END])
        .map_err(failed(None, "watching over the session's processes"))?;
    let own = rustix::process::getpid();
    adopt()?;
    tie_to(launcher, END)?;
    match process::fork().map_err(failed(None, "forking the session's first process"))? {
        Some(init) => stand(&told, init),
        None => {
            let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            tied.map_err(|error| failed(None, "tying the session to its warden")(error.into()))?;
            // It died before that.
            if rustix::process::getppid() != Some(own) {
                process::exit(70);
            }
            // What loses its parent is init's, as in a namespace; only without init the warden's.
            adopt()
        }
    }
}

fn adopt() -> Built<()> {
    // Any process id but none sets the flag (prctl(2)).
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| failed(None, "adopting the session's orphans")(error.into()))
}

fn stand(told: &OwnedFd, init: Pid) -> ! {
    // The session's sockets above all, or nobody would notice that init is gone.
    if process::close_all_but(&[0, 1, 2, told.as_raw_fd()]).is_err() {
        process::exit(70);
    }
    loop {
        let mut polled = [PollFd::new(told, PollFlags::IN)];
        let _interrupted = poll(&mut polled, None);
        let asked = process::was_told(told, END);
        if reap(init) || asked {
            break;
        }
    }
    let own = procs::own();
    let beneath = |all: &[procs::Entry]| procs::beneath(own, all);
    let mut reaped = || {
        reap(init);
    };
    while !procs::kill_until_none(beneath, &mut reaped).unwrap_or(false) {}
    while !matches!(rustix::process::wait(WaitOptions::empty()), Err(rustix::io::Errno::CHILD)) {}
    process::exit(0)
}

/// Whether init was among those that ended.
fn reap(init: Pid) -> bool {
    let mut is_gone = false;
    while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::NOHANG) {
        is_gone |= pid == init;
    }
    is_gone
}
