//! Everything that init gives up before it serves, and the report of it.
//!
//! The order matters: limits and key ring, no_new_privs, Landlock, capabilities, and last the
//! system-call filter. Each wall reports what was really done. Must never know what calls are.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use cofferdam_contract::capability::{Wall, WallName, WallStatus};
use cofferdam_contract::limits::Limits;
use rustix::process::{Resource, Rlimit};

use super::root::Root;
use super::{Built, Grouped, failed, wall};
use crate::sys::landlock::Layer;
use crate::sys::process;
use crate::sys::socket::Channel;
use crate::wire::{FromInit, Groundwork, Own};
use crate::{filter, landlocked};

/// Puts all walls up and tells the supervisor. Returns the Landlock layer for calls.
pub(super) fn all(
    groundwork: &Groundwork,
    own: &Own,
    program: &[libc::sock_filter],
    grouped: Grouped,
    root: Root,
    socket: &Channel,
) -> Built<Layer> {
    let mut walls = namespaces(root.cgroup_namespace, groundwork.audited);
    walls.extend(limits(&groundwork.limits, grouped)?);
    walls.push(keyring());
    rustix::thread::set_no_new_privs(true).map_err(|error| {
        failed(Some(WallName::NoNewPrivileges), "setting no_new_privs")(error.into())
    })?;
    walls.push(wall(WallName::NoNewPrivileges, WallStatus::Enforced, "set on process 1"));
    let (view, workspace, audited) = (&root.view, own.workspace_path.as_path(), groundwork.audited);
    let missing =
        |detail| crate::wire::Refusal { wall: Some(WallName::LandlockFilesystem), detail };
    walls.extend(landlocked::session(view, workspace, audited).map_err(missing)?);
    let call_layer = landlocked::call_layer(view, workspace, audited).map_err(missing)?;
    drop_capabilities().map_err(failed(Some(WallName::NoCapabilities), "dropping capabilities"))?;
    walls.push(wall(
        WallName::NoCapabilities,
        WallStatus::Enforced,
        "bounding, permitted, effective, inheritable and ambient sets are empty",
    ));
    // Before the filter: afterwards no other process may look into this one.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| failed(None, "closing process 1 to others")(error.into()))?;
    install_filter(groundwork.debug, program, walls, &root, socket)?;
    Ok(call_layer)
}

fn namespaces(cgroup: bool, audited: bool) -> Vec<Wall> {
    use WallName::{
        CgroupNamespace, CleanEnvironment, ClosedDescriptors, IpcNamespace, MountNamespace,
        NetworkNamespace, PidNamespace, PrivateRoot, UserNamespace, UtsNamespace,
    };
    let enforced = |(name, detail): (WallName, &str)| wall(name, WallStatus::Enforced, detail);
    let mut walls: Vec<Wall> = [
        (UserNamespace, "one user and one group are mapped"),
        (MountNamespace, "nothing of the host's mounts is left in it"),
        (PidNamespace, "process 1 is the session's init; its end is the end of all"),
        (NetworkNamespace, "loopback only"),
        (IpcNamespace, "own System V and POSIX IPC"),
        (UtsNamespace, "own host name"),
        (PrivateRoot, if audited { TOLD_ROOT } else { ROOT }),
        (ClosedDescriptors, "all closed before anything else was done"),
        (CleanEnvironment, "the launcher was executed with an empty one"),
    ]
    .into_iter()
    .map(enforced)
    .collect();
    walls.push(if cgroup {
        wall(CgroupNamespace, WallStatus::Enforced, "own view of control groups")
    } else {
        wall(CgroupNamespace, WallStatus::Absent, "the kernel has none; /sys is not there either")
    });
    walls
}

fn limits(limits: &Limits, grouped: Grouped) -> Built<Vec<Wall>> {
    let failed = |what: &'static str| failed(None, what);
    lower(Resource::Nofile, limits.open_files).map_err(failed("limiting open files"))?;
    lower(Resource::Fsize, limits.disk_bytes).map_err(failed("limiting the size of a file"))?;
    // Counted in the session's user namespace, so over the session and nothing else (Linux 5.14).
    // Where a control group counts too it has to be the one that refuses, since it tells of it.
    let room = if grouped.pids_grouped { BEHIND_THE_GROUP } else { 0 };
    let nproc = limits.pids.saturating_add(room);
    lower(Resource::Nproc, nproc).map_err(failed("limiting processes"))?;
    let pids = if grouped.pids_grouped {
        wall(WallName::ProcessLimit, WallStatus::Enforced, "pids control group")
    } else {
        let detail = "RLIMIT_NPROC, counted over the session's user namespace";
        wall(WallName::ProcessLimit, WallStatus::Enforced, detail)
    };
    let memory = if grouped.memory_grouped {
        wall(WallName::MemoryLimit, WallStatus::Enforced, "memory control group")
    } else {
        lower(Resource::Data, limits.memory_bytes).map_err(failed("limiting memory"))?;
        let detail = "no memory control group could be made: RLIMIT_DATA bounds each process, \
                      not their sum, and not memory files";
        wall(WallName::MemoryLimit, WallStatus::Degraded, detail)
    };
    let disk = wall(
        WallName::DiskLimit,
        WallStatus::Degraded,
        "scratch file systems are bounded by size and inodes; the workspace layer has no quota: \
         RLIMIT_FSIZE bounds each file",
    );
    let mut walls = vec![no_core_dumps(), memory, pids, disk];
    walls.extend(cpu(limits.cpu_percent, grouped.cpu_grouped));
    Ok(walls)
}

/// The private root as it is.
const ROOT: &str = "a read-only skeleton with an allow-list of read-only, nosuid, nodev binds";
/// The same where Landlock's audit tells.
const TOLD_ROOT: &str = "a skeleton of the session's own that Landlock keeps from being changed, so \
                         that attempts are told, with an allow-list of read-only, nosuid, nodev binds";

/// Process 1, and one more than the control group lets be.
const BEHIND_THE_GROUP: u64 = 2;

/// Named where it was asked for: nobody misses a wall that nobody wants.
fn cpu(percent: Option<u64>, grouped: bool) -> Option<Wall> {
    let percent = percent?;
    let (status, detail) = if grouped {
        (WallStatus::Enforced, format!("cpu control group: {percent} % of one processor"))
    } else {
        (WallStatus::Absent, "no cpu control group could be made".to_owned())
    };
    Some(wall(WallName::CpuLimit, status, &detail))
}

/// Lowers both limits to `to`, or to what is allowed.
fn lower(resource: Resource, to: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let to = hard.map_or(to, |hard| hard.min(to));
    let limit = Rlimit { current: Some(to), maximum: Some(to) };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

/// With a piped `core_pattern` the kernel ignores a limit of 0 and runs the host's handler as
/// root; 1 is the value that stops it (core(5)).
fn no_core_dumps() -> Wall {
    let name = WallName::NoCoreDumps;
    let one = Rlimit { current: Some(1), maximum: Some(1) };
    if rustix::process::setrlimit(Resource::Core, one).is_ok() {
        return wall(name, WallStatus::Enforced, "RLIMIT_CORE is 1");
    }
    let piped = std::fs::read("/proc/sys/kernel/core_pattern")
        .map_or(true, |pattern| pattern.first() == Some(&b'|'));
    if piped {
        let detail = "RLIMIT_CORE is 0 and cannot be raised to 1: the host's handler runs";
        wall(name, WallStatus::Degraded, detail)
    } else {
        wall(name, WallStatus::Enforced, "RLIMIT_CORE is 0 and the host's pattern is a file")
    }
}

fn keyring() -> Wall {
    let name = WallName::PrivateKeyring;
    match process::new_keyring() {
        Ok(()) => wall(name, WallStatus::Enforced, "a session key ring of its own"),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            wall(name, WallStatus::Enforced, "the kernel has no key rings")
        }
        // Over the host user's quota: the launcher's is empty, though shared between sessions.
        Err(_) => wall(name, WallStatus::Enforced, "the launcher's, which is empty"),
    }
}

fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitiesSecureBits as Bits, CapabilitySet, CapabilitySets};
    rustix::thread::set_capabilities_secure_bits(
        Bits::NO_ROOT
            | Bits::NO_ROOT_LOCKED
            | Bits::NO_SETUID_FIXUP
            | Bits::NO_SETUID_FIXUP_LOCKED
            | Bits::KEEP_CAPS_LOCKED
            | Bits::NO_CAP_AMBIENT_RAISE
            | Bits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last one that this kernel has.
            Err(rustix::io::Errno::INVAL) if number > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Installs the filter and has the listener sent to the supervisor.
///
/// Sending a descriptor is a call that the filter asks the supervisor about, and the supervisor
/// cannot answer before it has the listener. So a child without the filter, which shares our
/// descriptors, sends it.
fn install_filter(
    debug: bool,
    program: &[libc::sock_filter],
    walls: Vec<Wall>,
    root: &Root,
    socket: &Channel,
) -> Built<()> {
    let missing = || failed(Some(WallName::Seccomp), "installing the system-call filter");
    let (number, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| failed(None, "making a pipe")(error.into()))?;
    let sender = process::fork_sharing_descriptors()
        .map_err(failed(None, "forking the listener's sender"))?;
    if sender.is_none() {
        let sent = read_number(number.as_fd())
            .and_then(|listener| send_ready(listener, walls, root, socket));
        process::exit(i32::from(sent.is_err()));
    }
    let installed = match filter::install(program) {
        Ok(listener) => Ok(Some(listener)),
        // Somebody outside listens already; only one may.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => filter::silent_program(debug)
            .map_err(io::Error::other)
            .and_then(|program| filter::install_silent(&program))
            .map(|()| None),
        Err(error) => Err(error),
    };
    let told: i32 = match &installed {
        Ok(Some(listener)) => std::os::fd::AsRawFd::as_raw_fd(listener),
        Ok(None) => NO_LISTENER,
        Err(_) => NOTHING,
    };
    let told = std::fs::File::from(tell).write_all(&told.to_ne_bytes());
    let ended = rustix::process::waitpid(sender, rustix::process::WaitOptions::empty());
    let sent = matches!(ended, Ok(Some((_, status))) if status.exit_status() == Some(0));
    installed.map_err(missing())?;
    if sent && told.is_ok() { Ok(()) } else { Err(missing()(io::ErrorKind::BrokenPipe.into())) }
}

/// The filter stands without a listener.
const NO_LISTENER: i32 = -1;
/// The filter does not stand.
const NOTHING: i32 = -2;

fn read_number(pipe: BorrowedFd<'_>) -> io::Result<RawFd> {
    let mut bytes = [0; 4];
    let read = rustix::io::read(pipe, &mut bytes)?;
    if read == bytes.len() {
        Ok(i32::from_ne_bytes(bytes))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn send_ready(
    listener: RawFd,
    mut walls: Vec<Wall>,
    root: &Root,
    socket: &Channel,
) -> io::Result<()> {
    let (status, detail) = match listener {
        NOTHING => return Err(io::ErrorKind::Other.into()),
        NO_LISTENER => {
            let detail = "enforced, but another listener outside keeps us from hearing of refusals";
            (WallStatus::Degraded, detail)
        }
        _ => (WallStatus::Enforced, "allow-list; telling calls are refused by the supervisor"),
    };
    walls.push(wall(WallName::Seccomp, status, detail));
    walls.sort_by_key(|wall| wall.name);
    let listener = (listener >= 0).then(|| crate::sys::process::borrow(listener));
    let mut descriptors: Vec<BorrowedFd<'_>> = listener.into_iter().collect();
    descriptors.push(root.denials.as_fd());
    descriptors.extend(root.decoys.iter().map(AsFd::as_fd));
    socket.send(&FromInit::Ready { walls, listener: listener.is_some() }, &descriptors)
}
