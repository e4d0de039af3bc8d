//! The private root: a skeleton with an allow-list of what the host has.
//!
//! The new root is entered empty and built from inside, out of mounts that have no path yet: while
//! it is built no path can lead back to the host. Must never know what a call will do in it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::{Boundary, Wall, WallName, WallStatus};
use cofferdam_contract::limits::Limits;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::layers::{Stage, mounted};
use super::paths::{
    ASKED, DENIALS, MASKED_CONFIGURATION, MASKED_CONFIGURATION_FILES, MASKED_DIRECTORIES,
    MASKED_FILES, READ_ONLY, RUN, SCRATCH, TOLD,
};
use super::sources::{Bound, Layers, ViewSources, WorkspaceSources};
use super::{Built, Footing, failed, wall};
use crate::grant::PLACES;
use crate::landlocked::Reach;
use crate::sys::mount::{self, Attributes};
use crate::view::HOME;
use crate::wire::{Bytes, Groundwork, Own};

/// Bytes and files of the skeleton: synthesised files and mount points.
const SKELETON: &[(&str, Option<&str>)] =
    &[("size", Some("16m")), ("nr_inodes", Some("16384")), ("mode", Some("0755"))];

/// What could not be layered, and why not.
type Shared = (PathBuf, io::Error);

/// A root that lacks what is one session's own.
pub(super) struct Entered {
    view: Vec<PathBuf>,
    /// What of it is no layer.
    shared: Vec<Shared>,
    devices: Wall,
    denials: OwnedFd,
    audited: bool,
    asked: OwnedFd,
    told: OwnedFd,
}

/// Enters the root, and builds in it what sessions have in common.
pub(super) fn enter(groundwork: &Groundwork, sources: ViewSources) -> Built<Entered> {
    let wall = Some(WallName::PrivateRoot);
    // A new proc is granted only while the host's is still in sight (mount_too_revealing).
    let no_programs = Attributes::MOUNT_ATTR_NOSUID
        | Attributes::MOUNT_ATTR_NODEV
        | Attributes::MOUNT_ATTR_NOEXEC;
    let proc = mount::create("proc", &[], no_programs)
        .map_err(failed(Some(WallName::PidNamespace), "mounting proc"))?;
    let skeleton = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV;
    mount::create("tmpfs", SKELETON, skeleton)
        .and_then(mount::enter_root)
        .map_err(failed(wall, "entering the private root"))?;
    build_proc(&proc).map_err(failed(wall, "building /proc"))?;
    let view: Vec<PathBuf> = sources.view.iter().map(|it| it.target.clone()).collect();
    let devices = sources.devices.wall();
    sources.devices.build().map_err(failed(wall, "building /dev"))?;
    mask_proc().map_err(failed(wall, "masking /proc"))?;
    build_scratch(&groundwork.limits).map_err(failed(wall, "mounting the scratch file systems"))?;
    let shared = build_view(groundwork, sources.view, sources.ancestors)?;
    build_caches(&groundwork.limits, sources.caches)
        .map_err(failed(wall, "mounting the language caches"))?;
    mask(MASKED_CONFIGURATION_FILES, MASKED_CONFIGURATION)
        .map_err(failed(wall, "masking configuration"))?;
    let [denials, asked, told] = build_run().map_err(failed(wall, "building /run"))?;
    for place in PLACES {
        directory(Path::new(place)).map_err(failed(wall, "making places for grants"))?;
    }
    let audited = groundwork.audited;
    Ok(Entered { view, shared, devices, denials, asked, told, audited })
}

/// Puts one session's own into the root and closes it.
pub(super) fn furnish(
    entered: Entered,
    own: &Own,
    workspace: WorkspaceSources,
    cgroup_namespace: bool,
) -> Built<Footing> {
    let wall = Some(WallName::PrivateRoot);
    build_workspace(own, workspace).map_err(failed(None, "mounting the workspace"))?;
    let decoys = build_decoys(own).map_err(failed(wall, "laying out decoys"))?;
    let Entered { view, shared, devices, denials, asked, told, audited } = entered;
    // A read-only mount answers before Landlock, which alone tells.
    if audited {
        close_places().map_err(failed(wall, "closing the places for grants"))?;
    } else {
        close_skeleton().map_err(failed(wall, "making the skeleton read-only"))?;
    }
    let reach = reach(view, own.workspace_path.to_path(), audited);
    let mut walls = namespaces(cgroup_namespace);
    walls.extend([private_root(&shared, audited), devices]);
    Ok(Footing { reach, denials, asked, told, decoys, walls })
}

fn reach(view: Vec<PathBuf>, workspace: PathBuf, audited: bool) -> Reach {
    let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
    let mut read = view;
    read.extend(paths(&["/etc", "/run"]));
    let mut write = paths(SCRATCH);
    write.push(workspace);
    Reach {
        boundary: Boundary::Native,
        audited,
        // Names of what is there may be listed anywhere; there is nothing but what was put there.
        list: paths(&["/"]),
        read,
        in_place: paths(&["/proc"]),
        devices: paths(&["/dev"]),
        write,
        lent: paths(&PLACES[..1]),
        lent_to_write: paths(&PLACES[1..]),
        asked: paths(&[ASKED]),
        init_reads: Vec::new(),
    }
}

/// Names in a wall's detail.
const NAMED_MAX: usize = 8;
/// How the root is held.
const ROOT: &str = "a read-only skeleton";
/// The same where Landlock's audit tells.
const TOLD_ROOT: &str = "a skeleton of the session's own that Landlock keeps from being changed, so \
                         that attempts are told";
fn private_root(shared: &[Shared], audited: bool) -> Wall {
    let root = if audited { TOLD_ROOT } else { ROOT };
    let detail =
        format!("{root}, with an allow-list of read-only, nosuid, nodev layers over the host's");
    if shared.is_empty() {
        return wall(WallName::PrivateRoot, WallStatus::Enforced, &detail);
    }
    let names = shared.iter().take(NAMED_MAX).map(|(it, why)| format!("{} ({why})", it.display()));
    let more = shared.len().saturating_sub(NAMED_MAX);
    let more = (more > 0).then(|| format!("and {more} more"));
    let names: Vec<_> = names.chain(more).collect();
    let detail = format!(
        "{detail}; not layers but binds, so that watches and locks of files are shared with the \
         host: {}",
        names.join(", ")
    );
    wall(WallName::PrivateRoot, WallStatus::Degraded, &detail)
}

/// What is true of every session that got as far as a private root.
fn namespaces(cgroup: bool) -> Vec<Wall> {
    use WallName::{
        CgroupNamespace, CleanEnvironment, ClosedDescriptors, IpcNamespace, MountNamespace,
        NetworkNamespace, PidNamespace, UserNamespace, UtsNamespace,
    };
    let enforced = |(name, detail): (WallName, &str)| wall(name, WallStatus::Enforced, detail);
    let mut walls: Vec<Wall> = [
        (UserNamespace, "one user and one group are mapped"),
        (MountNamespace, "nothing of the host's mounts is left in it"),
        (PidNamespace, "process 1 is the session's init; its end is the end of all"),
        (NetworkNamespace, "loopback only"),
        (IpcNamespace, "own System V and POSIX IPC"),
        (UtsNamespace, "own host name"),
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

pub(super) fn directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// A place to put a mount on.
pub(super) fn place(path: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        return directory(path);
    }
    parent_of(path)?;
    if fs::symlink_metadata(path).is_err() {
        fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
    }
    Ok(())
}

fn is_out_of_reach(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
}

/// Attaches it as a layer, or as it is where it cannot be one, and then says why. A directory of the
/// session's user's is a layer in any case, or else a socket file of that user's in it could be
/// connected to.
fn attach_view(bound: &Bound, stage: &mut Stage) -> io::Result<Option<io::Error>> {
    let (mounted, why) = match stage.layered(bound) {
        Ok(layered) => (layered, None),
        Err(why) => {
            let plain = stage.plain(bound)?;
            let owner = rustix::fs::fstat(&plain)?.st_uid;
            if bound.is_directory && owner == rustix::process::getuid().as_raw() {
                return Err(why);
            }
            (plain, Some(why))
        }
    };
    place(&bound.target, bound.is_directory)?;
    mount::attach(mounted, &bound.target)?;
    Ok(why)
}

/// Returns what could not be layered.
fn build_view(
    groundwork: &Groundwork,
    view: Vec<Bound>,
    ancestors: Vec<OwnedFd>,
) -> Built<Vec<Shared>> {
    let at = |path: &Path| {
        let action = format!("building {} of the toolchain view", path.display());
        move |error| failed(Some(WallName::PrivateRoot), &action)(error)
    };
    let mut stage = Stage::set(ancestors).map_err(at(Path::new("/")))?;
    let mut shared = Vec::new();
    for bound in view {
        match attach_view(&bound, &mut stage) {
            Ok(None) => {}
            Ok(Some(why)) => shared.push((bound.target, why)),
            // A place that the session's user cannot get to.
            Err(error) if bound.is_beneath && is_out_of_reach(&error) => {}
            Err(error) => return Err(at(&bound.target)(error)),
        }
    }
    stage.strike().map_err(at(Path::new("/")))?;
    for (path, content) in &groundwork.files {
        let path = path.as_path();
        parent_of(path).and_then(|()| fs::write(path, &content.0)).map_err(at(path))?;
    }
    for (path, target) in &groundwork.links {
        let path = path.as_path();
        let made = parent_of(path).and_then(|()| symlink(target.as_path(), path));
        made.map_err(at(path))?;
    }
    Ok(shared)
}

/// What the host has downloaded, beneath a layer in memory that goes with the session. Not a bind:
/// a lock that is taken through one is the host's own, and its tools would wait for it.
fn build_caches(limits: &Limits, caches: Vec<(PathBuf, OwnedFd)>) -> io::Result<()> {
    let (size, inodes) = (limits.disk_bytes.to_string(), limits.inodes.max(16).to_string());
    let options = [("size", Some(size.as_str())), ("nr_inodes", Some(&inodes))];
    let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV;
    for (target, lower) in caches {
        let scratch = mount::create("tmpfs", &options, attributes)?;
        let [upper, work] = ["upper", "work"].map(str::to_owned);
        for name in [&upper, &work] {
            rustix::fs::mkdirat(&scratch, name.as_str(), Mode::from_raw_mode(0o755))?;
        }
        directory(&target)?;
        mount::attach(
            mounted(Layers::Overlay { lowers: vec![lower], scratch, upper, work })?,
            &target,
        )?;
    }
    Ok(())
}

fn parent_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), directory)
}

fn build_proc(proc: &OwnedFd) -> io::Result<()> {
    directory(Path::new("/proc"))?;
    mount::attach(proc, Path::new("/proc"))?;
    bound_watches()
}

/// Watchers of files are counted for the user on the host as well (`max_inotify_*` of
/// `Documentation/admin-guide/sysctl/user.rst`): a session gets a part of what the user has.
fn bound_watches() -> io::Result<()> {
    for (name, host, part) in [
        ("max_inotify_instances", "max_user_instances", 4),
        ("max_inotify_watches", "max_user_watches", 2),
    ] {
        let host = Path::new("/proc/sys/fs/inotify").join(host);
        let Ok(most) = fs::read_to_string(host) else { continue };
        let most: u64 = most.trim().parse().map_err(io::Error::other)?;
        match fs::write(Path::new("/proc/sys/user").join(name), (most / part).max(1).to_string()) {
            // A kernel that counts for the user alone.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

pub(super) const READ_ONLY_FILES: Attributes = Attributes::MOUNT_ATTR_RDONLY
    .union(Attributes::MOUNT_ATTR_NOSUID)
    .union(Attributes::MOUNT_ATTR_NODEV)
    .union(Attributes::MOUNT_ATTR_NOEXEC);

/// A link is left alone: it leads to where the private root has something of its own, or nothing.
fn exists(path: &&&str) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| !it.is_symlink())
}

fn mask_proc() -> io::Result<()> {
    mask(MASKED_FILES, MASKED_DIRECTORIES)?;
    for path in READ_ONLY.iter().filter(exists) {
        let same = mount::clone_tree(Path::new(path))?;
        mount::restrict(same.as_fd(), READ_ONLY_FILES)?;
        mount::attach(&same, Path::new(path))?;
    }
    Ok(())
}

/// Puts nothing over each of these that is there.
fn mask(files: &[&str], directories: &[&str]) -> io::Result<()> {
    for path in files.iter().filter(exists) {
        let nothing = mount::clone_tree(Path::new("/dev/null"))?;
        mount::attach(&nothing, Path::new(path))?;
    }
    let mut nothing: Option<&str> = None;
    for path in directories.iter().filter(exists) {
        let mount = match nothing {
            Some(same) => mount::clone_tree(Path::new(same))?,
            None => {
                let options =
                    [("size", Some("4k")), ("nr_inodes", Some("1")), ("mode", Some("0555"))];
                mount::create("tmpfs", &options, READ_ONLY_FILES)?
            }
        };
        mount::attach(&mount, Path::new(path))?;
        nothing = Some(path);
    }
    Ok(())
}

fn build_scratch(limits: &Limits) -> io::Result<()> {
    let (size, inodes) = (limits.disk_bytes.to_string(), limits.inodes.max(16).to_string());
    let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV;
    for path in SCRATCH {
        let mode = if *path == HOME { "0700" } else { "1777" };
        let options =
            [("size", Some(size.as_str())), ("nr_inodes", Some(&inodes)), ("mode", Some(mode))];
        let scratch = mount::create("tmpfs", &options, attributes)?;
        directory(Path::new(path))?;
        mount::attach(&scratch, Path::new(path))?;
    }
    Ok(())
}

fn build_workspace(own: &Own, sources: WorkspaceSources) -> io::Result<()> {
    let target = own.workspace_path.as_path();
    directory(target)?;
    mount::attach(mounted(sources.workspace)?, target)?;
    for (path, layers) in sources.carries {
        // What is there was not made by us: no link of it may lead elsewhere.
        let place = rustix::fs::openat2(
            rustix::fs::open(target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
            path.as_bytes(),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )?;
        mount::attach_over(mounted(layers)?, place)?;
    }
    Ok(())
}

/// Canaries lie on a file system of their own, so that no mount tells where they came from.
fn build_decoys(own: &Own) -> io::Result<Vec<OwnedFd>> {
    if own.decoys.is_empty() {
        return Ok(Vec::new());
    }
    let attributes = Attributes::MOUNT_ATTR_NOSUID
        | Attributes::MOUNT_ATTR_NODEV
        | Attributes::MOUNT_ATTR_NOEXEC;
    let hold = Path::new("/.canaries");
    let options = [("size", Some("1m")), ("nr_inodes", Some("256")), ("mode", Some("0755"))];
    directory(hold)?;
    mount::attach(&mount::create("tmpfs", &options, attributes)?, hold)?;
    let mut opened = Vec::new();
    for (at, (target, content)) in own.decoys.iter().enumerate() {
        opened.push(lay_out(&hold.join(at.to_string()), target, content)?);
    }
    mount::detach(hold)?;
    fs::remove_dir(hold)?;
    Ok(opened)
}

fn lay_out(file: &Path, target: &Bytes, content: &Bytes) -> io::Result<OwnedFd> {
    fs::write(file, &content.0)?;
    let canary = mount::clone_tree(file)?;
    mount::restrict(canary.as_fd(), Attributes::MOUNT_ATTR_RDONLY)?;
    place(target.as_path(), false)?;
    mount::attach(&canary, target.as_path())?;
    Ok(fs::File::open(file)?.into())
}

/// The session reads what it is told through a read-only mount; only the descriptors can write. What
/// it asks goes through a pipe, which can be written on such a mount.
fn build_run() -> io::Result<[OwnedFd; 3]> {
    directory(Path::new(RUN))?;
    let options = [("size", Some("1m")), ("nr_inodes", Some("64")), ("mode", Some("0755"))];
    let attributes = Attributes::MOUNT_ATTR_NOSUID
        | Attributes::MOUNT_ATTR_NODEV
        | Attributes::MOUNT_ATTR_NOEXEC;
    mount::attach(&mount::create("tmpfs", &options, attributes)?, Path::new(RUN))?;
    let file = |path| fs::OpenOptions::new().append(true).create_new(true).mode(0o444).open(path);
    let (denials, told) = (file(DENIALS)?, file(TOLD)?);
    let mode = Mode::from_raw_mode(0o222);
    rustix::fs::mknodat(rustix::fs::CWD, ASKED, rustix::fs::FileType::Fifo, mode, 0)?;
    // Open for writing too, so that it has no end when the last writer goes.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let asked = rustix::fs::open(ASKED, flags, Mode::empty())?;
    let read_only = mount::clone_tree(Path::new(RUN))?;
    mount::restrict(read_only.as_fd(), Attributes::MOUNT_ATTR_RDONLY)?;
    mount::detach(Path::new(RUN))?;
    mount::attach(&read_only, Path::new(RUN))?;
    Ok([denials.into(), asked, told.into()])
}

/// Where the skeleton stays open, Landlock would let a session write beside what is granted there.
fn close_places() -> io::Result<()> {
    let places = Path::new("/grants");
    let closed = mount::clone_tree(places)?;
    mount::restrict(closed.as_fd(), READ_ONLY_FILES)?;
    mount::attach(&closed, places)
}

/// The skeleton's own files cannot change; what is mounted on it is as it was.
fn close_skeleton() -> io::Result<()> {
    use rustix::mount::{MountFlags, mount_remount};
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount_remount("/", flags, "")?)
}
