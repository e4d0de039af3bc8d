//! Turning the host's audit on for as long as somebody here listens, and leaving it as it was.
//!
//! Several supervisors may listen at once: the first that comes notes what it found, the last that
//! goes puts that back. Who goes is known by a file lock, so one that was killed has gone; what it
//! found is put back by the next. Must never change a host that audits by itself.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use super::netlink::{Control, Status};

const DIR: &str = "/run/cofferdam-audit";
/// Records that may wait for the kernel's own thread; the default of 64 loses bursts.
const BACKLOG_LIMIT: u32 = 8192;
/// `failure` of a host that rather panics than loses a record.
const PANICS: u32 = 2;
/// Of the namespaces that the kernel began with (`linux/proc_ns.h`).
const INITIAL: [(&str, &str); 2] = [("user", "user:[4026531837]"), ("pid", "pid:[4026531836]")];

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Found {
    backlog_limit: u32,
}

/// Audit is on until this ends.
pub(super) struct Host {
    control: Control,
    /// None: the host audits by itself, and nothing of it was changed.
    users: Option<File>,
    lost: u32,
}

/// Why it cannot be had, for the capability report.
type Had<T> = Result<T, String>;

fn failed(action: &str) -> impl FnOnce(io::Error) -> String {
    let action = action.to_owned();
    move |error| format!("{action}: {error}")
}

fn open(name: &str) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(i32::try_from(flags).unwrap_or(0)).open(PathBuf::from(DIR).join(name))
}

/// Held while somebody comes or goes.
fn turn() -> io::Result<File> {
    match DirBuilder::new().mode(0o700).create(DIR) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let turn = open("turn")?;
    flock(&turn, FlockOperation::LockExclusive)?;
    Ok(turn)
}

/// Whether nobody else listens. Afterwards this one does, as far as others can tell.
fn is_alone(users: &File) -> io::Result<bool> {
    match flock(users, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn noted(file: &mut File) -> Option<Found> {
    let mut text = String::new();
    file.take(1024).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

impl Host {
    /// Turns it on.
    pub(super) fn begin() -> Had<Self> {
        for (name, initial) in INITIAL {
            let own = std::fs::read_link(format!("/proc/self/ns/{name}"));
            if !own.is_ok_and(|own| own.as_os_str() == initial) {
                return Err(format!(
                    "audit belongs to the host, and this is another {name} namespace"
                ));
            }
        }
        let control = Control::open().map_err(failed("opening audit"))?;
        let status = control.status().map_err(failed("asking audit for its state"))?;
        let lost = status.lost;
        let _turn = turn().map_err(failed("taking turns with others"))?;
        let users = open("users").map_err(failed("taking turns with others"))?;
        if is_alone(&users).map_err(failed("taking turns with others"))? {
            let mut note = open("found").map_err(failed("noting what was found"))?;
            match noted(&mut note) {
                // Left by one that was killed.
                Some(_) => {}
                None if may_listen(status)? == Change::Nothing => {
                    return Ok(Self { control, users: None, lost });
                }
                None => {
                    let (rules, _) = control.rules().map_err(failed("listing rules"))?;
                    if rules > 0 {
                        return Err("the host has audit rules, which would take effect".to_owned());
                    }
                    let found = Found { backlog_limit: status.backlog_limit };
                    write(&mut note, &found).map_err(failed("noting what was found"))?;
                }
            }
            turn_on(&control).map_err(failed("turning audit on"))?;
        }
        flock(&users, FlockOperation::LockShared).map_err(|error| error.to_string())?;
        Ok(Self { control, users: Some(users), lost })
    }

    /// Whether the kernel dropped records since this was last asked.
    pub(super) fn has_lost(&mut self) -> io::Result<bool> {
        let before = std::mem::replace(&mut self.lost, self.control.status()?.lost);
        Ok(self.lost != before)
    }

    /// Leaves it as it was found, unless somebody else still listens.
    pub(super) fn end(self) -> io::Result<()> {
        let Some(users) = self.users else { return Ok(()) };
        let _turn = turn()?;
        if !is_alone(&users)? {
            return Ok(());
        }
        let mut note = open("found")?;
        let found = noted(&mut note);
        self.control.set_enabled(0)?;
        if let Some(found) = found {
            self.control.set_backlog_limit(found.backlog_limit)?;
        }
        match self.control.delete_never() {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
        note.set_len(0)
    }
}

/// What listening changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    /// The host audits by itself.
    Nothing,
    /// It is turned on.
    TurnedOn,
}

fn may_listen(status: Status) -> Had<Change> {
    match status {
        Status { failure: PANICS, .. } => {
            Err("the host panics when an audit record is lost (failure=2)".to_owned())
        }
        Status { enabled: 0, .. } => Ok(Change::TurnedOn),
        _ => Ok(Change::Nothing),
    }
}

fn write(note: &mut File, found: &Found) -> io::Result<()> {
    note.write_all(&serde_json::to_vec(found)?)?;
    note.sync_all()
}

/// The rule before the switch: a process that starts in between would be audited for its life.
fn turn_on(control: &Control) -> io::Result<()> {
    match control.add_never() {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        _ => {}
    }
    control.set_backlog_limit(BACKLOG_LIMIT)?;
    control.set_enabled(1)
}

#[cfg(test)]
mod tests {
    use super::{Change, may_listen};
    use crate::audit::netlink::Status;

    #[test]
    fn a_host_that_would_panic_is_left_alone() {
        let status = |enabled, failure| Status { enabled, failure, backlog_limit: 64, lost: 0 };
        assert!(may_listen(status(0, 2)).is_err() && may_listen(status(1, 2)).is_err());
        assert_eq!(may_listen(status(0, 1)), Ok(Change::TurnedOn));
        assert_eq!(may_listen(status(1, 1)), Ok(Change::Nothing));
        // Locked until the next boot.
        assert_eq!(may_listen(status(2, 0)), Ok(Change::Nothing));
    }
}
