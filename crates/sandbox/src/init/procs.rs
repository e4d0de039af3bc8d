//! The processes of a session as its process 1 sees them, and bringing sets of them to an end.
//!
//! A set is given by a rule, not by a list, and a rule is applied until nothing new is found:
//! processes that fork while they are hunted are stopped first. Must never know what a call is.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::sys::process::{signal, signal_all};

/// Rounds of looking before giving up; with a pause in between, about two seconds.
const ROUNDS: usize = 1000;
const PAUSE: Duration = Duration::from_millis(2);

/// One process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// As in `/proc/PID/stat`, of the thread that is the most alive.
    pub(crate) state: u8,
}

impl Entry {
    pub(crate) fn is_dead(self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    fn is_stopped(self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    /// Of two threads of one process.
    fn livelier(self, other: Self) -> Self {
        let liveliness = |it: Self| 2 * u8::from(!it.is_dead()) - u8::from(it.is_stopped());
        if liveliness(other) > liveliness(self) { other } else { self }
    }
}

/// Every process that can be seen. In a flat session that is all of the host, and a set is always
/// what is [`beneath`] one of our own.
///
/// # Errors
/// If they cannot be listed, which is not the same as that there are none.
pub(crate) fn all() -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|it| it.parse().ok()) {
            found.extend(look(pid)?);
        }
    }
    Ok(found)
}

/// This process, as `/proc` numbers it.
pub(super) fn own() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// One process; none if it is gone, or cannot be looked at.
pub(crate) fn read(pid: i32) -> Option<Entry> {
    look(pid).ok().flatten()
}

/// One process; none if it is gone, or another user's that is hidden.
fn look(pid: i32) -> io::Result<Option<Entry>> {
    let stat = unless_gone(fs::read(format!("/proc/{pid}/stat")))?;
    let Some(mut found) = stat.and_then(|stat| parse(pid, &stat)) else { return Ok(None) };
    // What the kernel says of a process it says of its first thread, which can exit before the
    // others (pthread_exit(3)), or stop before them.
    if found.is_dead() || found.is_stopped() {
        let tasks = unless_gone(fs::read_dir(format!("/proc/{pid}/task")))?;
        for task in tasks.into_iter().flatten() {
            let Some(task) = unless_gone(task)? else { continue };
            let stat = unless_gone(fs::read(task.path().join("stat")))?;
            let thread = stat.and_then(|stat| parse(pid, &stat));
            found = thread.map_or(found, |thread| found.livelier(thread));
        }
    }
    Ok(Some(found))
}

/// Where `/proc` shows the threads of a process; nowhere, if it is gone.
pub(crate) fn threads(pid: i32) -> impl Iterator<Item = PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.map(|task| task.path())
}

fn unless_gone<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(error),
        },
    }
}

/// `PID (NAME) STATE PARENT …`, where the name may hold anything, parentheses too.
fn parse(pid: i32, stat: &[u8]) -> Option<Entry> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat.get(end + 2..)?.split(|byte| *byte == b' ');
    let state = *fields.next()?.first()?;
    let parent = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    Some(Entry { pid, parent, state })
}

/// Those beneath `root`, and without it.
pub(crate) fn beneath(root: i32, of: &[Entry]) -> Vec<Entry> {
    let mut children: HashMap<i32, Vec<Entry>> = HashMap::new();
    for entry in of {
        children.entry(entry.parent).or_default().push(*entry);
    }
    let (mut found, mut open) = (Vec::new(), vec![root]);
    while let Some(next) = open.pop() {
        for child in children.remove(&next).into_iter().flatten() {
            open.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// Kills whatever `select` finds, until it finds nothing alive. `reap` is called between looks.
/// Returns whether it came to that.
///
/// # Errors
/// If nobody can be looked for: then somebody may be alive.
pub(crate) fn kill_until_none(
    select: impl Fn(&[Entry]) -> Vec<Entry>,
    mut reap: impl FnMut(),
) -> io::Result<bool> {
    let alive = || {
        let mut found = select(&all()?);
        found.retain(|entry| !entry.is_dead());
        Ok::<_, io::Error>(found)
    };
    let mut stopped = HashSet::new();
    for round in 0..ROUNDS {
        let found = alive()?;
        let fresh = found.iter().filter(|entry| stopped.insert(entry.pid)).count();
        if found.is_empty() {
            return Ok(true);
        }
        // As long as new ones appear, something still runs that makes them.
        let answer = if fresh > 0 && round < ROUNDS / 2 { Signal::STOP } else { Signal::KILL };
        for entry in &found {
            signal(entry.pid, answer);
        }
        reap();
        if fresh == 0 {
            sleep(PAUSE);
        }
    }
    Ok(false)
}

/// Stops `pid` and waits until it has stopped or is gone.
pub(super) fn stop_one(pid: i32) {
    signal(pid, Signal::STOP);
    for _ in 0..ROUNDS {
        match read(pid) {
            Some(entry) if !entry.is_stopped() && !entry.is_dead() => sleep(PAUSE),
            _ => return,
        };
    }
}

/// Stops everything. Returns what did not stop.
///
/// One signal reaches all that exist, and a fork that it interrupts does not happen. A process
/// stops when it leaves the kernel, so that is waited for; the parent of a vfork cannot leave it
/// while its child is stopped, and cannot write either.
///
/// # Errors
/// If they cannot be looked at.
pub(super) fn freeze_all() -> io::Result<Vec<Entry>> {
    signal_all(Signal::STOP);
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        let found = beneath(own(), &all()?);
        let has_stopped_child = |pid| found.iter().any(|it| it.parent == pid && it.is_stopped());
        left = found.clone();
        left.retain(|entry| {
            let waits_for_vfork = entry.state == b'D' && has_stopped_child(entry.pid);
            !entry.is_stopped() && !entry.is_dead() && !waits_for_vfork
        });
        if left.is_empty() {
            break;
        }
        sleep(PAUSE);
    }
    Ok(left)
}

/// Lets everything go on.
pub(super) fn thaw_all() {
    signal_all(Signal::CONT);
}

#[cfg(test)]
mod tests {
    use super::{Entry, beneath, parse};

    #[test]
    fn a_name_cannot_forge_state_or_parent() {
        let entry = parse(7, b"7 (a) Z 1 ) T 3 (x) S 5 5 5 0");
        assert_eq!(entry, Some(Entry { pid: 7, parent: 5, state: b'S' }));
        assert_eq!(parse(7, b"7 (a"), None);
        assert_eq!(parse(7, b"7 (a)"), None);
    }

    #[test]
    fn the_liveliest_thread_speaks_for_its_process() {
        let thread = |state| Entry { pid: 2, parent: 1, state };
        for (states, expected) in [("ZS", b'S'), ("ZT", b'T'), ("TtR", b'R'), ("ZX", b'Z')] {
            let threads = states.bytes().map(thread);
            let state = threads.reduce(Entry::livelier).map(|it| it.state);
            assert_eq!(state, Some(expected), "{states}");
        }
    }

    /// To see nobody is not to see that nobody is there.
    #[test]
    fn who_cannot_look_does_not_find_that_all_are_dead() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).unwrap();
        let looked = super::all().map(|found| found.len());
        let killed = super::kill_until_none(|all| all.to_vec(), || {});
        setrlimit(Resource::Nofile, before).unwrap();
        assert!(looked.is_err() && killed.is_err(), "{looked:?} {killed:?}");
        assert!(super::all().is_ok_and(|found| found.len() > 1));
    }

    #[test]
    fn beneath_follows_children_and_nothing_else() {
        let entry = |pid, parent| Entry { pid, parent, state: b'S' };
        let of = [entry(2, 1), entry(3, 2), entry(4, 3), entry(5, 1), entry(6, 5)];
        let mut pids: Vec<i32> = beneath(2, &of).iter().map(|entry| entry.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [3, 4]);
    }
}
