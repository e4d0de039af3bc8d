//! Puts one path of the host into a session, or takes it away: what must be done in the session's
//! mounts and cannot be done by its init, which has given up every right to.
//!
//! A child of the launcher does one such thing and ends, so that a file system that does not answer
//! keeps no other session waiting. It enters the user and mount namespaces, not the process
//! namespace: nothing in the session can see or signal it. Must never resolve a path of the session
//! outside the skeleton, which the session cannot write.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::identity::Identity;
use crate::grant::source::{identity, resolve};
use crate::sys::mount::{self, Attributes};
use crate::sys::process;
use crate::sys::socket::Channel;
use crate::wire::{Widened, Widening};

const READ_WRITE: Attributes = Attributes::MOUNT_ATTR_NOSUID
    .union(Attributes::MOUNT_ATTR_NODEV)
    .union(Attributes::MOUNT_ATTR_NOEXEC);
const READ_ONLY: Attributes = READ_WRITE.union(Attributes::MOUNT_ATTR_RDONLY);

/// What failed and how.
type Failed = (&'static str, io::Error);

fn at(action: &'static str) -> impl FnOnce(io::Error) -> Failed {
    move |error| (action, error)
}

/// Forks the child and says its number. With the order came: where to answer, the session's mounts,
/// the path's file.
pub(super) fn start(
    order: &Widening,
    descriptors: Vec<OwnedFd>,
    identity: &Identity,
) -> Option<i32> {
    let forked = process::fork();
    if matches!(forked, Ok(None)) {
        let _gone =
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        let mut keep = vec![0, 1, 2];
        keep.extend(descriptors.iter().map(AsRawFd::as_raw_fd));
        if process::close_all_but(&keep).is_err() {
            process::exit(70);
        }
        let mut descriptors = descriptors.into_iter();
        let (Some(answer), Some(mounts)) = (descriptors.next(), descriptors.next()) else {
            process::exit(70)
        };
        let answer = Channel::from(answer);
        let done = match order {
            Widening::Put { .. } => put(order, &mounts, descriptors.next(), identity, &answer),
            Widening::Take { place } => take(place.as_path(), &mounts, identity),
        };
        let widened = match done {
            Ok(()) => Widened::Done,
            Err((_, error)) if error.raw_os_error() == Some(libc::EBUSY) => Widened::Busy,
            Err((action, error)) => Widened::Failed { detail: format!("{action}: {error}") },
        };
        let _supervisor_gone = answer.send(&widened, &[]);
        process::exit(0);
    }
    forked.ok().flatten().map(|child| child.as_raw_nonzero().get())
}

fn put(
    order: &Widening,
    mounts: &OwnedFd,
    source: Option<OwnedFd>,
    identity: &Identity,
    answer: &Channel,
) -> Result<(), Failed> {
    let (Widening::Put { path, place, is_directory, writable }, Some(source)) = (order, source)
    else {
        return Err(at("hearing the order")(io::ErrorKind::InvalidInput.into()));
    };
    let mount = match identity {
        Identity::Own { host, .. } => of_root(&source, *host)?,
        Identity::Single { .. } => of_user(path.as_path(), &source, mounts)?,
    };
    let attributes = if *writable { READ_WRITE } else { READ_ONLY };
    mount::make_private(mount.as_fd()).map_err(at("separating the path"))?;
    mount::restrict(mount.as_fd(), attributes).map_err(at("restricting the path"))?;
    enter(mounts, identity)?;
    let place = place.as_path();
    let skeleton = skeleton()?;
    make_place(&skeleton, place, *is_directory).map_err(at("making a place for it"))?;
    // Nobody waits for it any more: what is put there now nobody would take away.
    let waited_for = !process::is_hung_up(answer.as_fd());
    let attached = match waited_for {
        true => mount::attach(&mount, place),
        false => Err(io::ErrorKind::TimedOut.into()),
    };
    attached.map_err(|error| {
        let _left_empty = remove_place(&skeleton, place);
        ("putting it there", error)
    })
}

/// `nogroup` on Debian and its kin; the kernel's own for what has no group.
const NO_GROUP: u32 = 65534;

/// As root the path is cloned where it is, and its owner becomes the session's user. Its group does
/// not become the session's, which is nobody's there: whoever has the group of a file may have a
/// program lend it (chmod(2)), and one that lends root's must not be a session's to leave. Mapped it
/// must be, or what has it could not be written (`mount_setattr(2)`).
fn of_root(source: &OwnedFd, host: u32) -> Result<OwnedFd, Failed> {
    let mount = mount::clone_one(source.as_fd()).map_err(at("holding the path"))?;
    let stat = rustix::fs::fstat(source).map_err(|it| at("looking at the path")(it.into()))?;
    let own = (NO_GROUP, host);
    let paths = (stat.st_gid, NO_GROUP);
    let groups = if paths.0 == NO_GROUP { &[own][..] } else { &[own, paths] };
    let mapping = super::identity::mapping(stat.st_uid, groups, host)
        .map_err(at("mapping the path's owner"))?;
    mount::map_ids(mount.as_fd(), mapping.as_fd())
        .map_err(at("giving the path an owner inside, which its file system cannot"))?;
    Ok(mount)
}

/// Without privilege a clone is possible only in mounts of one's own: a copy of the host's, made in
/// the session's user namespace. There the path is resolved again, and must be the same.
fn of_user(path: &Path, source: &OwnedFd, mounts: &OwnedFd) -> Result<OwnedFd, Failed> {
    let owner = process::owner_of(mounts.as_fd()).map_err(at("finding the session's user"))?;
    process::enter(owner.as_fd(), libc::CLONE_NEWUSER)
        .map_err(at("becoming the session's user"))?;
    process::leave_mounts().map_err(at("copying the host's mounts"))?;
    let again = resolve(path).map_err(|it| at("resolving the path again")(it.into()))?;
    let mount = mount::clone_one(again.as_fd()).map_err(at("holding the path"))?;
    let same = |one: &OwnedFd, other: &OwnedFd| -> io::Result<bool> {
        Ok(identity(&rustix::fs::fstat(one)?) == identity(&rustix::fs::fstat(other)?))
    };
    match same(&mount, source) {
        Ok(true) => Ok(mount),
        Ok(false) => Err(("comparing the path", io::Error::other("it is another one by now"))),
        Err(error) => Err(("comparing the path", error)),
    }
}

fn take(place: &Path, mounts: &OwnedFd, identity: &Identity) -> Result<(), Failed> {
    enter(mounts, identity)?;
    mount::unmount(place).map_err(at("taking it away"))?;
    skeleton().and_then(|skeleton| remove_place(&skeleton, place).map_err(at("removing its place")))
}

/// Into the session's mounts, as its user, with the rights that init had before it gave them up.
fn enter(mounts: &OwnedFd, identity: &Identity) -> Result<(), Failed> {
    match identity {
        Identity::Own { .. } => {
            let owner = process::owner_of(mounts.as_fd());
            let owner = owner.map_err(at("finding the session's user"))?;
            process::enter(owner.as_fd(), libc::CLONE_NEWUSER)
                .map_err(at("entering the session's user namespace"))?;
            let (uid, gid) = identity.inside();
            process::become_user(uid, gid).map_err(at("becoming the session's user"))?;
        }
        // Whoever put a path there is in it already.
        Identity::Single { .. } => {
            let owner = process::owner_of(mounts.as_fd());
            if let Ok(owner) = owner {
                let _already_there = process::enter(owner.as_fd(), libc::CLONE_NEWUSER);
            }
        }
    }
    process::enter(mounts.as_fd(), libc::CLONE_NEWNS).map_err(at("entering the session's mounts"))
}

/// The skeleton once more, writable and nowhere to be seen.
fn skeleton() -> Result<OwnedFd, Failed> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let root = root.map_err(|it| at("opening the skeleton")(it.into()))?;
    let skeleton = mount::clone_one(root.as_fd()).map_err(at("holding the skeleton"))?;
    mount::let_write(skeleton.as_fd()).map_err(at("writing the skeleton"))?;
    Ok(skeleton)
}

fn relative(place: &Path) -> &Path {
    place.strip_prefix("/").unwrap_or(place)
}

fn make_place(skeleton: &OwnedFd, place: &Path, is_directory: bool) -> io::Result<()> {
    let place = relative(place);
    if is_directory {
        return Ok(rustix::fs::mkdirat(skeleton, place, Mode::from_raw_mode(0o555))?);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(skeleton, place, flags, Mode::from_raw_mode(0o444)).map(drop)?)
}

fn remove_place(skeleton: &OwnedFd, place: &Path) -> io::Result<()> {
    let place = relative(place);
    match rustix::fs::unlinkat(skeleton, place, AtFlags::REMOVEDIR) {
        Err(rustix::io::Errno::NOTDIR) => {
            Ok(rustix::fs::unlinkat(skeleton, place, AtFlags::empty())?)
        }
        other => Ok(other?),
    }
}
