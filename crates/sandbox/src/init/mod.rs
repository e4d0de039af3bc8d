//! Process 1 of a session: puts the walls up, gives everything up, then serves calls.
//!
//! ```text
//! cloned ─▶ tied to the launcher ─▶ groundwork ─▶ told what its session is ─▶ private root
//!             └▶ under a warden ─────────────────▶ told ─▶ flat footing ─┐    ─▶ locked down
//!                                                                        └────▶ ─▶ serves until
//!                                                                                  its socket closes
//! ```
//! The groundwork is what sessions have in common. A *spare* is an init that has laid it before
//! anybody asked for a session. Where the launcher is root and has opened the mounts, that is the
//! whole root but the workspace; else init stays where it can still see the host. The second row is
//! for hosts without namespaces; everything else is the same.
//!
//! It is forked from the launcher and never executes anything itself, so nothing of it need exist
//! in the session's root. The walls stand before the first call, and init stands behind all of
//! them but the per-call one. Must never read a path of the host after its root is private.

mod call;
pub(crate) mod devices;
mod flat;
mod layers;
mod lockdown;
mod paths;
pub(crate) mod procs;
mod root;
mod scratch;
mod serve;
mod sources;
mod warden;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use cofferdam_contract::capability::{Wall, WallName, WallStatus};
use rustix::process::Signal;

pub(crate) use self::procs::{Entry, beneath, kill_until_none};
pub(crate) use self::sources::{ViewSources, WorkspaceSources};
pub(crate) use self::warden::END as END_OF_WARDEN;

use crate::landlocked::Reach;
use crate::spec::Resident;
use crate::sys::process;
use crate::sys::socket::Channel;
use crate::wire::{Begin, FromInit, Groundwork, Mounts, Own, Refusal};

/// What a cloned session starts with.
pub(crate) struct Beginning<'a> {
    /// To the launcher, until init is tied to its life and knows its session.
    pub(crate) launcher: Channel,
    /// What is bound, where the launcher had to open it.
    pub(crate) sources: Option<ViewSources>,
    /// The user and group to become, where that is not who we are.
    pub(crate) becomes: Option<(u32, u32)>,
    /// What can be run without being executed.
    pub(crate) residents: &'static [Resident],
    /// The system-call filter.
    pub(crate) program: &'a [libc::sock_filter],
    /// What is limited from outside.
    pub(crate) grouped: Grouped,
    /// Nobody waits for it yet.
    pub(crate) is_spare: bool,
}

/// Which limits are kept by control groups.
#[derive(Clone, Copy)]
pub(crate) struct Grouped {
    pub(crate) memory_grouped: bool,
    pub(crate) pids_grouped: bool,
    pub(crate) cpu_grouped: bool,
}

/// What a session stands on, however it came about.
struct Footing {
    /// What it may reach.
    reach: Reach,
    /// Open for appending, for the supervisor.
    denials: OwnedFd,
    /// Where the session asks for grants, to be read, and where it is told, to be appended to.
    asked: OwnedFd,
    told: OwnedFd,
    /// Open, in the order of the plan, for the supervisor to watch.
    decoys: Vec<OwnedFd>,
    /// What stands already, and what does not.
    walls: Vec<Wall>,
}

/// What cannot be built is one of these, with the wall that it was for.
type Built<T> = Result<T, Refusal>;

/// Makes an error out of the kernel's answer.
fn failed(wall: Option<WallName>, action: &str) -> impl FnOnce(io::Error) -> Refusal {
    let action = action.to_owned();
    move |error| Refusal { wall, detail: format!("{action}: {error}") }
}

fn wall(name: WallName, status: WallStatus, detail: &str) -> Wall {
    Wall { name, status, detail: detail.to_owned() }
}

/// What is built before init knows its session.
struct Prepared {
    cgroup_namespace: bool,
    ground: Ground,
}

/// How far that goes.
enum Ground {
    /// Still where the host can be seen.
    Outside(ViewSources),
    /// In the private root.
    Inside(root::Entered),
    /// There are no namespaces to build in.
    Flat,
}

/// Everything that process 1 does. It ends when the supervisor's end of the socket closes.
pub(crate) fn main(groundwork: &Groundwork, start: Beginning<'_>) -> ! {
    let Beginning { launcher, sources, becomes, residents, program, grouped, is_spare } = start;
    let prepared = prepare(groundwork, &launcher, sources, becomes);
    if is_spare && prepared.is_err() {
        // Whoever asks for a session gets a new one, and hears why that one fails.
        process::exit(70);
    }
    let Some((begin, socket, mounts)) = told(&launcher) else { process::exit(70) };
    drop(launcher);
    let Begin { own, mounts: shapes } = begin;
    let built = prepared
        .and_then(|prepared| finish(groundwork, prepared, &own, (shapes, mounts)))
        .and_then(|built| lockdown::all(groundwork, program, grouped, built, &socket));
    match built {
        Ok(layer) => match call::Shared::new(socket, own.environment, layer, residents) {
            Ok(shared) => serve::Serving::new(shared).run(),
            Err(_) => process::exit(70),
        },
        Err(refusal) => {
            let _supervisor_gone = socket.send(&FromInit::Failed(refusal), &[]);
            process::exit(70)
        }
    }
}

/// Waits for the session: what it is, its socket, and the mounts that came along.
fn told(launcher: &Channel) -> Option<(Begin, Channel, Vec<OwnedFd>)> {
    let packet = launcher.receive::<Begin>().ok().flatten()?;
    let mut descriptors = packet.descriptors.into_iter();
    let socket = Channel::from(descriptors.next()?);
    Some((packet.message, socket, descriptors.collect()))
}

/// From the clone as far as it goes without knowing the session.
fn prepare(
    groundwork: &Groundwork,
    launcher: &Channel,
    sources: Option<ViewSources>,
    becomes: Option<(u32, u32)>,
) -> Built<Prepared> {
    if !matches!(launcher.receive::<()>(), Ok(Some(_))) {
        process::exit(70);
    }
    if groundwork.flat.is_some() {
        warden::split(launcher)?;
        return Ok(Prepared { cgroup_namespace: false, ground: Ground::Flat });
    }
    // Optional: a kernel may be built without it.
    let cgroup = process::new_cgroup_namespace();
    if let Some((uid, gid)) = becomes {
        process::become_user(uid, gid)
            .map_err(failed(Some(WallName::UserNamespace), "becoming the session's user"))?;
    }
    tie_to(launcher, Signal::KILL)?;
    make_host_mounts_private()?;
    process::loopback_up()
        .map_err(failed(Some(WallName::NetworkNamespace), "bringing up loopback"))?;
    rustix::system::sethostname(b"cofferdam")
        .map_err(|error| failed(Some(WallName::UtsNamespace), "naming the host")(error.into()))?;
    let ground = match sources {
        Some(sources) => Ground::Inside(root::enter(groundwork, sources)?),
        None => Ground::Outside(ViewSources::open(groundwork, None)?),
    };
    Ok(Prepared { cgroup_namespace: cgroup.is_ok(), ground })
}

/// The rest of the root.
fn finish(
    groundwork: &Groundwork,
    prepared: Prepared,
    own: &Own,
    (shapes, mounts): (Option<Mounts>, Vec<OwnedFd>),
) -> Built<Footing> {
    if let (Ground::Flat, Some(dir)) = (&prepared.ground, &groundwork.flat) {
        return flat::build(groundwork, own, dir.as_path());
    }
    let workspace = match shapes {
        Some(shapes) => WorkspaceSources::from_parts(shapes, mounts).ok_or_else(|| Refusal {
            wall: None,
            detail: "the launcher sent too few mounts".to_owned(),
        })?,
        None => WorkspaceSources::open(&own.workspace, None)?,
    };
    let entered = match prepared.ground {
        Ground::Inside(entered) => entered,
        Ground::Outside(sources) => root::enter(groundwork, sources)?,
        Ground::Flat => return Err(Refusal { wall: None, detail: "no directory".to_owned() }),
    };
    root::furnish(entered, own, workspace, prepared.cgroup_namespace)
}

/// From here on the launcher's death is ours, with SIGKILL also while we are stopped. Changing the
/// user would have undone it, so it comes after; whether the launcher died before is seen on its socket.
fn tie_to(launcher: &Channel, signal: Signal) -> Built<()> {
    let tied = rustix::process::set_parent_process_death_signal(Some(signal));
    tied.map_err(|error| failed(None, "tying the session to the launcher")(error.into()))?;
    if process::is_hung_up(launcher.as_fd()) {
        process::exit(70);
    }
    launcher.send(&(), &[]).map_err(failed(None, "reporting to the launcher"))
}

fn make_host_mounts_private() -> Built<()> {
    use rustix::mount::MountPropagationFlags as Propagation;
    rustix::mount::mount_change("/", Propagation::PRIVATE | Propagation::REC).map_err(|error| {
        failed(Some(WallName::MountNamespace), "separating the host's mounts")(error.into())
    })
}
