//! Who in a session holds on to something, and their end.
//!
//! Read from the host's `/proc`, where paths of a session's process are those of its own root. A
//! process that forks while it is hunted is found in the next round. Must never signal a process
//! that is not beneath the session's process 1: that is asked again once its number cannot change
//! hands.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::init::procs::{self, Entry};

/// Rounds of looking; with a pause in between, about half a second.
const ROUNDS: usize = 250;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);
/// Longest `/proc` file that is read.
const PROC_BYTES_MAX: u64 = 16 << 20;

/// What makes a process a holder.
pub(crate) trait Holds {
    /// Whether this process holds on to it.
    fn holds(&self, pid: i32) -> bool;
}

/// Everything of the session.
pub(crate) struct Anything;

impl Holds for Anything {
    fn holds(&self, _pid: i32) -> bool {
        true
    }
}

/// A granted path: open, mapped, stood in, watched, or perhaps in flight between two sockets.
pub(crate) struct HoldsPath {
    /// Where it is inside.
    pub(crate) place: PathBuf,
    /// Its file system, as `fdinfo` writes it.
    pub(crate) device: u64,
}

impl Holds for HoldsPath {
    /// A thread can have descriptors and directories of its own (unshare(2), `CLONE_FILES` and
    /// `CLONE_FS`), and of the process itself `/proc` shows those of its first thread.
    fn holds(&self, pid: i32) -> bool {
        let process = PathBuf::from(format!("/proc/{pid}"));
        self.has_mapped(&process) || procs::threads(pid).any(|thread| self.is_held_by(&thread))
    }
}

impl HoldsPath {
    fn is_in(&self, path: &Path) -> bool {
        path.starts_with(&self.place)
    }

    fn is_held_by(&self, thread: &Path) -> bool {
        let at = |name| std::fs::read_link(thread.join(name)).is_ok_and(|it| self.is_in(&it));
        at("cwd") || at("root") || at("exe") || self.has_open(thread)
    }

    fn has_open(&self, thread: &Path) -> bool {
        let entries = std::fs::read_dir(thread.join("fd")).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| {
            let Ok(target) = std::fs::read_link(entry.path()) else { return false };
            let bytes = target.as_os_str().as_bytes();
            // What is no file says what it is: a watch outlives a mount, and a descriptor on its
            // way between two sockets is nobody's.
            let asks = bytes.starts_with(b"anon_inode:inotify") || bytes.starts_with(b"socket:");
            self.is_in(&target) || (asks && self.is_told(thread, &entry.file_name()))
        })
    }

    fn is_told(&self, thread: &Path, descriptor: &std::ffi::OsStr) -> bool {
        let text = read(&thread.join("fdinfo").join(descriptor));
        let text = String::from_utf8_lossy(&text);
        let device = format!(" sdev:{:x} ", self.device);
        text.lines().any(|line| {
            let in_flight = line.strip_prefix("scm_fds:").is_some_and(|it| it.trim() != "0");
            in_flight || (line.starts_with("inotify ") && line.contains(&device))
        })
    }

    fn has_mapped(&self, process: &Path) -> bool {
        let maps = read(&process.join("maps"));
        let place = self.place.as_os_str().as_bytes();
        maps.split(|byte| *byte == b'\n').any(|line| {
            let path = line.iter().position(|byte| *byte == b'/').map(|at| &line[at..]);
            path.is_some_and(|path| path.starts_with(place))
        })
    }
}

/// A process that traces another one of the session.
pub(crate) struct Traces {
    tracers: Vec<i32>,
}

impl Traces {
    /// Those that trace at this moment.
    pub(crate) fn of(init: i32) -> Self {
        let tracers = session(init).iter().flat_map(|it| tracers_of(it.pid)).collect();
        Self { tracers }
    }
}

impl Holds for Traces {
    fn holds(&self, pid: i32) -> bool {
        self.tracers.contains(&pid)
    }
}

/// Who traces the threads of a process. A thread traces, and the kernel names it.
fn tracers_of(pid: i32) -> Vec<i32> {
    let tracers = procs::threads(pid).filter_map(|thread| number(&thread, "TracerPid:"));
    let process = |thread| number(Path::new(&format!("/proc/{thread}")), "Tgid:");
    tracers.filter_map(process).collect()
}

/// A number in the status of a thread, unless it is zero.
fn number(thread: &Path, name: &str) -> Option<i32> {
    let status = read(&thread.join("status"));
    let status = String::from_utf8_lossy(&status).into_owned();
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok().filter(|number| *number != 0)
}

fn read(path: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(PROC_BYTES_MAX).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    bytes
}

fn session(init: i32) -> Vec<Entry> {
    procs::beneath(init, &procs::all().unwrap_or_default())
}

fn is_beneath(init: i32, pid: i32) -> bool {
    let mut next = procs::read(pid);
    for _ in 0..1024 {
        match next {
            Some(entry) if entry.parent == init => return true,
            Some(entry) if entry.parent > 1 => next = procs::read(entry.parent),
            _ => return false,
        }
    }
    false
}

/// Kills every process beneath `init` that holds, until none does. Says how many, and whether it
/// came to that.
pub(crate) fn kill(init: i32, what: impl Fn() -> Box<dyn Holds>) -> (u64, bool) {
    let mut killed = std::collections::HashSet::new();
    for _ in 0..ROUNDS {
        let what = what();
        let mut found = session(init);
        found.retain(|it| !it.is_dead() && what.holds(it.pid));
        if found.is_empty() {
            return (killed.len() as u64, true);
        }
        for entry in found {
            let Some(pid) = Pid::from_raw(entry.pid) else { continue };
            let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if is_beneath(init, entry.pid)
                && what.holds(entry.pid)
                && rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
            {
                killed.insert(entry.pid);
            }
        }
        std::thread::sleep(PAUSE);
    }
    (killed.len() as u64, false)
}
