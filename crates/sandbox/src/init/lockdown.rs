//! Everything that init gives up before it serves, and the report of it.
//!
//! The order matters: limits and key ring, no_new_privs, Landlock, capabilities, and last the
//! system-call filter. Each wall reports what was really done. Must never know what calls are.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use cofferdam_contract::capability::{Wall, WallName, WallStatus};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};

use super::{Built, Footing, Grouped, failed, wall};
use crate::sys::landlock::Layer;
use crate::sys::process;
use crate::sys::socket::Channel;
use crate::wire::{FromInit, Groundwork, Refusal};
use crate::{filter, landlocked};

/// Puts all walls up and tells the supervisor. Returns the Landlock layer for calls.
pub(super) fn all(
    groundwork: &Groundwork,
    program: &[libc::sock_filter],
    grouped: Grouped,
    mut footing: Footing,
    socket: &Channel,
) -> Built<Layer> {
    let mut walls = std::mem::take(&mut footing.walls);
    walls.extend(limits(groundwork, grouped)?);
    walls.push(keyring(groundwork.flat.is_some())?);
    rustix::thread::set_no_new_privs(true).map_err(|error| {
        failed(Some(WallName::NoNewPrivileges), "setting no_new_privs")(error.into())
    })?;
    walls.push(wall(WallName::NoNewPrivileges, WallStatus::Enforced, "set on process 1"));
    let is_flat = groundwork.flat.is_some();
    let landlock = |detail| Refusal { wall: Some(WallName::LandlockFilesystem), detail };
    walls.extend(landlocked::session(&footing.reach).map_err(landlock)?);
    if is_flat {
        super::flat::is_scoped()?;
    }
    let call_layer = landlocked::call_layer(&footing.reach).map_err(landlock)?;
    let bounded = drop_capabilities(is_flat)
        .map_err(failed(Some(WallName::NoCapabilities), "dropping capabilities"))?;
    let detail = if bounded {
        "bounding, permitted, effective, inheritable and ambient sets are empty"
    } else {
        "permitted, effective, inheritable and ambient sets are empty; emptying the bounding set \
         needs a privilege, and no_new_privs stands for it"
    };
    walls.push(wall(WallName::NoCapabilities, WallStatus::Enforced, detail));
    // Before the filter: afterwards no other process may look into this one.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| failed(None, "closing process 1 to others")(error.into()))?;
    install_filter(groundwork, program, walls, &footing, socket)?;
    Ok(call_layer)
}

fn limits(groundwork: &Groundwork, grouped: Grouped) -> Built<Vec<Wall>> {
    let limits = &groundwork.limits;
    let failed = |what: &'static str| failed(None, what);
    lower(Resource::Nofile, limits.open_files).map_err(failed("limiting open files"))?;
    lower(Resource::Fsize, limits.disk_bytes).map_err(failed("limiting the size of a file"))?;
    // The kernel counts these for the user on the host as well, whom a session must not exhaust.
    lower(Resource::Sigpending, SIGNALS_AND_TIMERS).map_err(failed("limiting timers"))?;
    lower(Resource::Msgqueue, MESSAGE_BYTES).map_err(failed("limiting message queues"))?;
    let others = groundwork.flat.as_ref().map(|_| super::flat::threads_of_user());
    // Counted in the session's user namespace, so over the session and nothing else (Linux 5.14).
    // Where a control group counts too it has to be the one that refuses, since it tells of it.
    let room = if grouped.pids_grouped { BEHIND_THE_GROUP } else { 0 };
    // Where there is no user namespace the user's other processes count, so they are allowed for.
    let nproc = limits.pids.saturating_add(room).saturating_add(others.unwrap_or(0));
    lower(Resource::Nproc, nproc).map_err(failed("limiting processes"))?;
    let pids = if let Some(others) = others {
        let detail = format!(
            "RLIMIT_NPROC, which counts all of the user's: {others} were there at the start, and \
             {} come on top",
            limits.pids
        );
        wall(WallName::ProcessLimit, WallStatus::Degraded, &detail)
    } else if grouped.pids_grouped {
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
    let disk = if groundwork.flat.is_some() {
        "workspace, home and temporary files have no quota: RLIMIT_FSIZE bounds each file"
    } else {
        "scratch file systems are bounded by size and inodes; the workspace layer has no quota: \
         RLIMIT_FSIZE bounds each file"
    };
    let disk = wall(WallName::DiskLimit, WallStatus::Degraded, disk);
    let mut walls = vec![no_core_dumps(), memory, pids, disk];
    walls.extend(cpu(limits.cpu_percent, grouped.cpu_grouped));
    Ok(walls)
}

/// Queued signals and timers; the usual limit is some 30,000 and more for each user.
const SIGNALS_AND_TIMERS: u64 = 4096;
/// Bytes of POSIX message queues: what is usual for one user.
const MESSAGE_BYTES: u64 = 819_200;
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

fn keyring(is_flat: bool) -> Built<Wall> {
    let name = WallName::PrivateKeyring;
    Ok(match process::new_keyring() {
        Ok(()) => wall(name, WallStatus::Enforced, "a session key ring of its own"),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            wall(name, WallStatus::Enforced, "the kernel has no key rings")
        }
        // Over the host user's quota: the launcher's is empty, though shared between sessions.
        Err(error) if error.raw_os_error() == Some(libc::EDQUOT) => {
            wall(name, WallStatus::Enforced, "the launcher's, which is empty")
        }
        // The filter of a container engine. No call can use a key ring anyway.
        Err(error) if is_flat => {
            let detail = format!("the user's own ({error}); every call that uses one is refused");
            wall(name, WallStatus::Degraded, &detail)
        }
        Err(error) => return Err(failed(Some(name), "joining a key ring of its own")(error)),
    })
}

/// Whether the bounding set is empty too. A flat session has no user namespace to be privileged in,
/// so that it may not empty it, and nothing it executes can gain from it.
fn drop_capabilities(is_flat: bool) -> io::Result<bool> {
    use rustix::thread::{CapabilitySet, CapabilitySets};
    let bounded = match bound_capabilities() {
        Err(rustix::io::Errno::PERM) if is_flat => false,
        other => other.map(|()| true)?,
    };
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(bounded)
}

fn bound_capabilities() -> rustix::io::Result<()> {
    use rustix::thread::{CapabilitiesSecureBits as Bits, CapabilitySet};
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
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Installs the filter and has the listener sent to the supervisor.
///
/// Sending a descriptor is a call that the filter asks the supervisor about, and the supervisor
/// cannot answer before it has the listener. So a child without the filter, which shares our
/// descriptors, sends it.
fn install_filter(
    groundwork: &Groundwork,
    program: &[libc::sock_filter],
    walls: Vec<Wall>,
    footing: &Footing,
    socket: &Channel,
) -> Built<()> {
    let missing = || failed(Some(WallName::Seccomp), "installing the system-call filter");
    let (number, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| failed(None, "making a pipe")(error.into()))?;
    let sender = process::fork_sharing_descriptors()
        .map_err(failed(None, "forking the listener's sender"))?;
    if sender.is_none() {
        let sent = read_number(number.as_fd())
            .and_then(|listener| send_ready(listener, walls, footing, socket));
        process::exit(i32::from(sent.is_err()));
    }
    let installed = match filter::install(program) {
        Ok(listener) => Ok(Some(listener)),
        // Somebody outside listens already; only one may.
        // Without one a flat session would lack a wall, not only the word of it.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) && groundwork.flat.is_none() => {
            filter::silent_program(groundwork.debug)
                .map_err(io::Error::other)
                .and_then(|program| filter::install_silent(&program))
                .map(|()| None)
        }
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
    footing: &Footing,
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
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let procfs = rustix::fs::open("/proc", flags, Mode::empty())?;
    let three = [&footing.denials, &footing.asked, &footing.told];
    descriptors.extend(three.map(AsFd::as_fd).into_iter().chain([procfs.as_fd()]));
    descriptors.extend(footing.decoys.iter().map(AsFd::as_fd));
    socket.send(&FromInit::Ready { walls, listener: listener.is_some() }, &descriptors)
}
