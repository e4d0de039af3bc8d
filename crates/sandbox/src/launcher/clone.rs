//! Cloning one session: what must be done from outside its namespaces.
//!
//! Must never know which walls init puts up.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use cofferdam_contract::capability::WallName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cgroup::Groups;
use super::identity::Identity;
use crate::init::{self, Beginning, Grouped, ViewSources, WorkspaceSources};
use crate::spec::Resident;
use crate::sys::process::{self, Child, NAMESPACES};
use crate::sys::socket::Channel;
use crate::wire::{Begin, Groundwork, Own, Refusal};

/// How long init may take from its clone to being tied to the launcher's life.
const ARMED_WITHIN: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// What a session is made from.
pub(crate) struct Make<'a> {
    pub(crate) groundwork: &'a Groundwork,
    pub(crate) program: &'a [libc::sock_filter],
    pub(crate) residents: &'static [Resident],
    /// Nobody waits for it yet.
    pub(crate) is_spare: bool,
}

/// An init that lays its groundwork and waits to be told its session.
pub(crate) struct Cloned {
    pub(crate) child: Child,
    pub(crate) groups: Vec<PathBuf>,
    /// Its mounts, which nobody without privilege can get hold of once init is closed to others.
    mounts: Option<OwnedFd>,
    channel: Channel,
}

/// A session that goes on by itself.
pub(crate) struct Begun {
    pub(crate) child: Child,
    pub(crate) groups: Vec<PathBuf>,
    /// See [`Cloned`].
    pub(crate) mounts: Option<OwnedFd>,
}

impl Cloned {
    /// Tells it its session; from then on it goes on by itself. An init that is gone takes the
    /// groundwork along: `None`.
    pub(crate) fn begin(
        self,
        own: &Own,
        socket: &OwnedFd,
        identity: &Identity,
    ) -> Result<Option<Begun>, Refusal> {
        let mounts = match identity {
            // As root what is mounted may be readable by root alone, so it is opened here.
            Identity::Own { mapping, .. } => {
                Some(WorkspaceSources::open(&own.workspace, Some(mapping))?)
            }
            Identity::Single { .. } => None,
        };
        let (mounts, opened) = mounts.map(WorkspaceSources::into_parts).unzip();
        let opened: Vec<OwnedFd> = opened.unwrap_or_default();
        let descriptors: Vec<_> = [socket].into_iter().chain(&opened).map(AsFd::as_fd).collect();
        let begin = Begin { own: own.clone(), mounts };
        let Self { child, groups, mounts, channel } = self;
        match channel.send(&begin, &descriptors) {
            Ok(()) => Ok(Some(Begun { child, groups, mounts })),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
            Err(error) => Err(refused(None, "telling init its session")(error)),
        }
    }
}

fn refused(wall: Option<WallName>, action: &str) -> impl FnOnce(io::Error) -> Refusal {
    let action = action.to_owned();
    move |error| Refusal { wall, detail: format!("{action}: {error}") }
}

/// Clones a session. Returns in the launcher only.
pub(crate) fn session(make: &Make<'_>, identity: &Identity) -> Result<Cloned, Refusal> {
    let Make { groundwork, program, residents, is_spare } = *make;
    let is_flat = groundwork.flat.is_some();
    if is_flat {
        refuse_root()?;
    }
    let sources = match identity {
        Identity::Own { mapping, .. } => Some(ViewSources::open(groundwork, Some(mapping))?),
        Identity::Single { .. } => None,
    };
    let groups = Groups::create(&groundwork.limits);
    let (ours, theirs) = Channel::pair().map_err(refused(None, "making a socket pair"))?;
    let cloned = process::clone_into(if is_flat { 0 } else { NAMESPACES })
        .map_err(refused(Some(WallName::UserNamespace), "cloning into new namespaces"));
    let child = match cloned {
        Ok(Some(child)) => child,
        Ok(None) => {
            // 0 to 2 are the null device, and stay so that nothing else gets these numbers.
            let mut keep: Vec<RawFd> = vec![0, 1, 2, raw(&theirs)];
            keep.extend(sources.iter().flat_map(ViewSources::descriptors));
            if process::close_all_but(&keep).is_err() {
                process::exit(70);
            }
            let becomes = (!identity.is_single()).then(|| identity.inside());
            let memory_grouped = groups.limits_memory();
            let pids_grouped = groups.limits_pids();
            let cpu_grouped = groups.limits_cpu();
            let grouped = Grouped { memory_grouped, pids_grouped, cpu_grouped };
            let launcher = theirs;
            init::main(
                groundwork,
                Beginning { launcher, sources, becomes, residents, program, grouped, is_spare },
            )
        }
        Err(refusal) => {
            groups.remove();
            return Err(refusal);
        }
    };
    drop(theirs);
    let maps = (!is_flat).then_some(identity);
    match release(&ours, &child, maps, &groups) {
        Ok(mounts) => Ok(Cloned { child, groups: groups.into_paths(), mounts, channel: ours }),
        Err(refusal) => {
            process::signal(child.pid, rustix::process::Signal::KILL);
            let pid = rustix::process::Pid::from_raw(child.pid);
            let _ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
            groups.remove();
            Err(refusal)
        }
    }
}

/// Without a user namespace user 0 of the session would be user 0 of the host, or of the container:
/// the owner of everything that Landlock does not speak of, such as the modes of files.
fn refuse_root() -> Result<(), Refusal> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let detail = "a flat session of root would own the host's files: run it as an ordinary user \
                  (docker run --user 1000:1000, runAsUser in a pod)";
    Err(Refusal { wall: Some(WallName::UserNamespace), detail: detail.to_owned() })
}

fn raw(channel: &Channel) -> RawFd {
    channel.as_fd().as_raw_fd()
}

/// Maps the user, moves the child into its control groups, lets it go on, and waits until it is
/// tied to this process's life.
fn release(
    channel: &Channel,
    child: &Child,
    maps: Option<&Identity>,
    groups: &Groups,
) -> Result<Option<OwnedFd>, Refusal> {
    let mut mounts = None;
    if let Some(identity) = maps {
        identity
            .map_into(child.pid)
            .map_err(refused(Some(WallName::UserNamespace), "mapping the session's user"))?;
        // Never of a flat session: those are the host's.
        mounts = std::fs::File::open(format!("/proc/{}/ns/mnt", child.pid)).ok();
    }
    groups.add(child.pid).map_err(refused(None, "moving the session into its control groups"))?;
    channel.send(&(), &[]).map_err(refused(None, "releasing the session"))?;
    let mut polled = [PollFd::new(channel, PollFlags::IN)];
    let armed = matches!(poll(&mut polled, Some(&ARMED_WITHIN)), Ok(1..));
    match armed.then(|| channel.receive::<()>()) {
        Some(Ok(Some(_))) => Ok(mounts.map(OwnedFd::from)),
        _ => Err(Refusal { wall: None, detail: "the session did not start".to_owned() }),
    }
}
