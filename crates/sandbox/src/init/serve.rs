//! Init's service: starts calls, reaps, ends calls with all they left, stops and thaws.
//!
//! ```text
//! init ─┬─ program of the plain call     its orphans become init's own children
//!       ├─ keeper ── program of a call   its orphans become the keeper's
//!       └─ stray                         no call's: dies
//! ```
//! One call at a time may be plain, which costs one child and no more. A call that keeps processes,
//! or that starts while a plain one runs, gets a *keeper*, which adopts whatever the call leaves.
//! So a child of init that is neither is the plain call's, or nobody's. Must never know how long a
//! call may take.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::call::{self, Shared};
use super::procs::{self, Entry};
use super::scratch;
use crate::spec::NotStarted;
use crate::sys::process;
use crate::sys::socket::Packet;
use crate::wire::{Exit, FromInit, Order, ToInit};
use cofferdam_contract::ids::CallId;

/// Exit code of a keeper that reported its call's end.
const REPORTED: i32 = 0;

pub(super) struct Serving {
    shared: Shared,
    /// The plain call and its first process.
    plain: Option<(i32, CallId)>,
    /// Calls with a keeper, by the keeper.
    keepers: HashMap<i32, CallId>,
}

impl Serving {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, plain: None, keepers: HashMap::new() }
    }

    /// Serves until the supervisor is gone. Process 1's end is the end of every process here.
    pub(super) fn run(mut self) -> ! {
        let Ok(children) = process::watch_children() else { process::exit(70) };
        loop {
            let mut polled = [
                PollFd::new(&children, PollFlags::IN),
                PollFd::new(&self.shared.socket, PollFlags::IN),
            ];
            if let Err(error) = poll(&mut polled, None)
                && error != rustix::io::Errno::INTR
            {
                process::exit(70);
            }
            let [ended, asked] = [0, 1].map(|at| !polled[at].revents().is_empty());
            if ended {
                let mut drained = [0; 1024];
                while rustix::io::read(&children, &mut drained).is_ok() {}
                self.reap();
            }
            if asked {
                match self.shared.socket.receive() {
                    Ok(Some(packet)) => self.answer(packet),
                    Ok(None) | Err(_) => process::exit(0),
                }
            }
        }
    }

    fn answer(&mut self, packet: Packet<ToInit>) {
        match packet.message {
            ToInit::Call(order) => self.start(&order, packet.descriptors),
            ToInit::Kill { call } => self.kill(&call),
            ToInit::Freeze => {
                let left = or_end(procs::freeze_all());
                let names = || left.iter().map(|it| it.pid.to_string()).collect::<Vec<_>>();
                let left = (!left.is_empty()).then(|| format!("processes {}", names().join(", ")));
                self.tell(&FromInit::Frozen { left });
            }
            ToInit::Thaw => {
                procs::thaw_all();
                self.tell(&FromInit::Thawed);
            }
        }
    }

    fn tell(&self, message: &FromInit) {
        // A supervisor that is gone is noticed when its socket is read.
        let _gone = self.shared.socket.send(message, &[]);
    }

    fn start(&mut self, order: &Order, descriptors: Vec<OwnedFd>) {
        let call = order.call.clone();
        if order.keeps_processes || self.plain.is_some() {
            match process::fork() {
                Ok(None) => keep(&self.shared, order, descriptors),
                Ok(Some(pid)) => drop(self.keepers.insert(pid.as_raw_nonzero().get(), call)),
                Err(_) => self.never_began(call, NotStarted::NoRoom),
            }
            return;
        }
        match call::start(&self.shared, order, &descriptors) {
            Ok((pid, failed)) => {
                self.plain = Some((pid.as_raw_nonzero().get(), call.clone()));
                if let Some(why) = failed {
                    self.tell(&FromInit::NotStarted { call, why });
                }
            }
            Err(why) => self.never_began(call, why),
        }
    }

    /// There is not even a process that could end.
    fn never_began(&self, call: CallId, why: NotStarted) {
        self.tell(&FromInit::NotStarted { call: call.clone(), why });
        self.tell(&FromInit::Ended { call, exit: Exit::Code(1), full: Vec::new() });
    }

    /// Kills a call. Its end is told when its first process is reaped.
    fn kill(&mut self, call: &CallId) {
        if let Some((pid, plain)) = &self.plain
            && plain == call
        {
            process::signal(*pid, Signal::KILL);
            // Another process of the call may trace it, and keep its end to itself.
            if self.keepers.is_empty() {
                process::signal_all(Signal::KILL);
            }
            return;
        }
        let Some(keeper) = self.keepers.iter().find(|(_, kept)| *kept == call).map(|(pid, _)| *pid)
        else {
            return;
        };
        // While it stands still, all that the call has stays beneath it.
        procs::stop_one(keeper);
        or_end(procs::kill_until_none(|all| procs::beneath(keeper, all), || {}));
        process::signal(keeper, Signal::KILL);
    }

    fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status),
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) {
        let pid = pid.as_raw_nonzero().get();
        if let Some((_, call)) = self.plain.take_if(|(plain, _)| *plain == pid) {
            self.kill_strays();
            let (exit, full) = (exit_of(status), scratch::full());
            self.tell(&FromInit::Ended { call, exit, full });
        } else if let Some(call) = self.keepers.remove(&pid) {
            // It was killed: by us, and then nothing is beneath it, or by the session, and then
            // what it kept is ours now.
            if status.exit_status() != Some(REPORTED) {
                if self.plain.is_none() {
                    self.kill_strays();
                }
                let (call, exit, full) = (call.clone(), exit_of(status), scratch::full());
                self.tell(&FromInit::Ended { call, exit, full });
            }
            self.tell(&FromInit::Gone { call });
        }
    }

    /// Kills whatever belongs to no call. Called while no plain call runs.
    fn kill_strays(&mut self) {
        if self.keepers.is_empty() {
            // The one signal that a fork cannot outrun.
            while process::signal_all(Signal::KILL) {
                if rustix::process::wait(WaitOptions::empty()).is_err() {
                    break;
                }
            }
            while rustix::process::wait(WaitOptions::NOHANG).is_ok_and(|it| it.is_some()) {}
            return;
        }
        let mut ended = Vec::new();
        let keepers: Vec<i32> = self.keepers.keys().copied().collect();
        let own = procs::own();
        let strays = |all: &[Entry]| {
            let mut found = Vec::new();
            for child in all.iter().filter(|it| it.parent == own && !keepers.contains(&it.pid)) {
                found.push(*child);
                found.extend(procs::beneath(child.pid, all));
            }
            found
        };
        or_end(procs::kill_until_none(strays, || {
            while let Ok(Some(one)) = rustix::process::wait(WaitOptions::NOHANG) {
                ended.push(one);
            }
        }));
        for (pid, status) in ended {
            self.ended(pid, status);
        }
    }
}

/// Who cannot see who is to be ended ends as well: nothing outlives process 1, and what outlives a
/// keeper is process 1's to end.
fn or_end<T>(looked: std::io::Result<T>) -> T {
    looked.unwrap_or_else(|_| process::exit(70))
}

fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(libc::SIGKILL)),
    }
}

/// The keeper of one call: adopts what the call leaves, reports its end, and lives until nothing
/// is beneath it.
fn keep(shared: &Shared, order: &Order, descriptors: Vec<OwnedFd>) -> ! {
    // Any process id but none sets the flag (prctl(2)).
    let adopts = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let _gone = shared.socket.send(&FromInit::Keeps { call: order.call.clone() }, &[]);
    let begun = match adopts {
        Ok(()) => call::start(shared, order, &descriptors),
        Err(_) => Err(NotStarted::NoRoom),
    };
    let (program, failed) = match begun {
        Ok((pid, failed)) => (Some(pid), failed),
        Err(why) => (None, Some(why)),
    };
    if let Some(why) = failed {
        let _gone =
            shared.socket.send(&FromInit::NotStarted { call: order.call.clone(), why }, &[]);
    }
    let Some(program) = program else { process::exit(1) };
    drop(descriptors);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => {
                if !order.keeps_processes {
                    let own = procs::own();
                    or_end(procs::kill_until_none(|all| procs::beneath(own, all), || {}));
                }
                let (exit, full) = (exit_of(status), scratch::full());
                let ended = FromInit::Ended { call: order.call.clone(), exit, full };
                let _gone = shared.socket.send(&ended, &[]);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => process::exit(REPORTED),
        }
    }
}
