//! Who a session's processes are, inside and on the host.
//!
//! Started by root, a session's one user is a host user without rights and without a name, and
//! id-mapped mounts let it own what the supervisor owns on disk. Started by anyone else it is that
//! user. Either way one user is mapped: the product is a tree without owners, so ranges of users
//! would buy nothing. Must never know what is mounted.

use std::io;
use std::os::fd::OwnedFd;

use crate::sys::process::{self, Child};
use rustix::process::{Signal, WaitOptions};

/// First of the host users that systemd's and the distributions' tables leave unused
/// (<https://systemd.io/UIDS-GIDS/>).
const UNUSED_USERS: u32 = 0x7000_0000;
/// The user inside, where it is not the caller itself.
const INSIDE: u32 = 1000;

/// The one user of a session.
pub(crate) enum Identity {
    /// A host user of its own.
    Own {
        /// On the host, as user and as group.
        host: u32,
        /// A user namespace that makes the supervisor's files that user's.
        mapping: OwnedFd,
    },
    /// The supervisor's.
    Single {
        /// User on the host.
        uid: u32,
        /// Group on the host.
        gid: u32,
    },
}

impl Identity {
    /// Decides by what this process may do.
    pub(crate) fn find() -> io::Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let single = Self::Single { uid, gid };
        if uid != 0 {
            return Ok(single);
        }
        // Different launchers at one time get different users.
        let host = UNUSED_USERS + rustix::process::getpid().as_raw_nonzero().get().cast_unsigned();
        match process::drop_groups().and_then(|()| mapping(0, &[(0, host)], host)) {
            Ok(mapping) => Ok(Self::Own { host, mapping }),
            // Root of a container that has no such users, or no right to map them.
            Err(_) => Ok(single),
        }
    }

    /// Whether the session's user is the supervisor's.
    pub(crate) fn is_single(&self) -> bool {
        matches!(self, Self::Single { .. })
    }

    /// User and group inside.
    pub(crate) fn inside(&self) -> (u32, u32) {
        match self {
            Self::Own { .. } | Self::Single { uid: 0, .. } => (INSIDE, INSIDE),
            Self::Single { uid, gid } => (*uid, *gid),
        }
    }

    /// Maps the user into the user namespace of `pid`, a child of this process.
    pub(crate) fn map_into(&self, pid: i32) -> io::Result<()> {
        let (uid, gid) = self.inside();
        match self {
            Self::Own { host, .. } => write_maps(pid, (uid, *host), &[(gid, *host)]),
            Self::Single { uid: host, gid: host_group } => {
                // Without privilege this must be said before groups are mapped (CVE-2014-8989).
                std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
                write_maps(pid, (uid, *host), &[(gid, *host_group)])
            }
        }
    }
}

fn write_maps(pid: i32, user: (u32, u32), groups: &[(u32, u32)]) -> io::Result<()> {
    std::fs::write(format!("/proc/{pid}/uid_map"), format!("{} {} 1", user.0, user.1))?;
    let lines: Vec<_> = groups.iter().map(|(one, other)| format!("{one} {other} 1")).collect();
    std::fs::write(format!("/proc/{pid}/gid_map"), lines.join("\n"))
}

/// A user namespace in which the user `owner` of what is on disk is `host`, and groups are others.
pub(super) fn mapping(owner: u32, groups: &[(u32, u32)], host: u32) -> io::Result<OwnedFd> {
    let Child { pid, .. } = sleeper()?;
    let opened = write_maps(pid, (owner, host), groups)
        .and_then(|()| std::fs::File::open(format!("/proc/{pid}/ns/user")));
    process::signal(pid, Signal::KILL);
    let reaped =
        rustix::process::waitpid(rustix::process::Pid::from_raw(pid), WaitOptions::empty());
    reaped?;
    Ok(opened?.into())
}

/// A process in a user namespace of its own, which does nothing. It dies with this one.
fn sleeper() -> io::Result<Child> {
    let parent = rustix::process::getpid();
    if let Some(child) = process::clone_into(libc::CLONE_NEWUSER)? {
        return Ok(child);
    }
    let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // It died before that.
    if tied.is_err() || rustix::process::getppid() != Some(parent) {
        process::exit(70);
    }
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::{process, sleeper};

    /// As when a launcher is killed between the two.
    #[test]
    fn what_sleeps_dies_with_who_waits_for_it() {
        let (hangs_up, held) = rustix::pipe::pipe().unwrap();
        match process::fork().unwrap() {
            None => {
                let slept = sleeper();
                process::exit(i32::from(slept.is_err()))
            }
            Some(parent) => {
                drop(held);
                let (_, status) =
                    rustix::process::waitpid(Some(parent), rustix::process::WaitOptions::empty())
                        .unwrap()
                        .unwrap();
                assert_eq!(status.exit_status(), Some(0));
            }
        }
        // Both held the other end. The bound is for a broken test, not for a slow machine.
        let mut polled = [PollFd::from_borrowed_fd(hangs_up.as_fd(), PollFlags::empty())];
        let within = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&within)).unwrap(), 1, "it is still there");
    }
}
