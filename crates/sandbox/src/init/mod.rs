//! Process 1 of a session: puts the walls up, gives everything up, then serves calls.
//!
//! ```text
//! cloned ─▶ tied to the launcher ─▶ private root ─▶ locked down ─▶ serves until its socket closes
//! ```
//! It is forked from the launcher and never executes anything itself, so nothing of it need exist
//! in the session's root. The walls stand before the first call, and init stands behind all of
//! them but the per-call one. Must never read a path of the host after its root is private.

mod call;
mod lockdown;
mod paths;
mod procs;
mod root;
mod serve;
mod sources;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use cofferdam_contract::capability::{Wall, WallName, WallStatus};
use rustix::process::Signal;

pub(crate) use self::paths::SCRATCH;
pub(crate) use self::sources::Sources;

use crate::spec::Resident;
use crate::sys::process;
use crate::sys::socket::Channel;
use crate::wire::{FromInit, Plan, Refusal};

/// What a cloned session starts with.
pub(crate) struct Beginning<'a> {
    /// To the supervisor.
    pub(crate) socket: OwnedFd,
    /// To the launcher, until init is tied to its life.
    pub(crate) launcher: Channel,
    /// What is bound, where the launcher had to open it.
    pub(crate) sources: Option<Sources>,
    /// The user and group to become, where that is not who we are.
    pub(crate) becomes: Option<(u32, u32)>,
    /// What can be run without being executed.
    pub(crate) residents: &'static [Resident],
    /// The system-call filter.
    pub(crate) program: &'a [libc::sock_filter],
    /// What is limited from outside.
    pub(crate) grouped: Grouped,
}

/// Which limits are kept by control groups.
#[derive(Clone, Copy)]
pub(crate) struct Grouped {
    pub(crate) memory_grouped: bool,
    pub(crate) pids_grouped: bool,
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

/// Everything that process 1 does. It ends when the supervisor's end of the socket closes.
pub(crate) fn main(plan: &Plan, start: Beginning<'_>) -> ! {
    let Beginning { socket, launcher, sources, becomes, residents, program, grouped } = start;
    let socket = Channel::from(socket);
    let built = begin(plan, &launcher, sources, becomes)
        .and_then(|built| lockdown::all(plan, program, grouped, built, &socket));
    drop(launcher);
    match built {
        Ok(call_layer) => {
            serve::Serving::new(socket, plan.environment.clone(), call_layer, residents).run()
        }
        Err(refusal) => {
            let _supervisor_gone = socket.send(&FromInit::Failed(refusal), &[]);
            process::exit(70)
        }
    }
}

/// From the clone to a private root.
fn begin(
    plan: &Plan,
    launcher: &Channel,
    sources: Option<Sources>,
    becomes: Option<(u32, u32)>,
) -> Built<root::Root> {
    if !matches!(launcher.receive::<()>(), Ok(Some(_))) {
        process::exit(70);
    }
    // Optional: a kernel may be built without it.
    let cgroup = process::new_cgroup_namespace();
    if let Some((uid, gid)) = becomes {
        process::become_user(uid, gid)
            .map_err(failed(Some(WallName::UserNamespace), "becoming the session's user"))?;
    }
    tie_to(launcher)?;
    make_host_mounts_private()?;
    let sources = match sources {
        Some(sources) => sources,
        None => Sources::open(plan, None)?,
    };
    process::loopback_up()
        .map_err(failed(Some(WallName::NetworkNamespace), "bringing up loopback"))?;
    rustix::system::sethostname(b"cofferdam")
        .map_err(|error| failed(Some(WallName::UtsNamespace), "naming the host")(error.into()))?;
    let root = root::build(plan, sources)?;
    Ok(root::Root { cgroup_namespace: cgroup.is_ok(), ..root })
}

/// From here on the launcher's death is ours, also while we are stopped. Changing the user would
/// have undone it, so it comes after; whether the launcher died before is seen on its socket.
fn tie_to(launcher: &Channel) -> Built<()> {
    let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
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
