//! `/dev`: the few devices that programs expect, of the session's own where the host lets one make
//! device files.
//!
//! A device file is shared with whoever else has it open: who watches it (inotify(7)) hears of them,
//! and its locks (flock(2)) and times are the same for all. Without privilege no device can be made,
//! nor opened through a layer (`SB_I_NODEV` of a file system that a user namespace mounts), so an
//! ordinary user's sessions have the host's. Must never know what else is in the root.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::{Wall, WallName, WallStatus};
use rustix::fs::{AtFlags, FileType, Mode};

use super::paths::{DEVICE_DIRECTORIES, DEVICE_LINKS, DEVICES, Device};
use super::root::{directory, place};
use super::sources::bind;
use super::{Built, wall};
use crate::sys::mount::{self, Attributes};

const DEV: &str = "/dev";
/// Read-only is a file system whose devices can be written all the same, not their times.
const ATTRIBUTES: Attributes = Attributes::MOUNT_ATTR_NOSUID
    .union(Attributes::MOUNT_ATTR_NOEXEC)
    .union(Attributes::MOUNT_ATTR_RDONLY);

pub(crate) enum Devices {
    /// All that is in `/dev`.
    Own(OwnedFd),
    /// Those that the host has, and where they go.
    Hosts(Vec<(PathBuf, OwnedFd)>),
}

impl Devices {
    /// Opened, or made, where the host can be seen.
    pub(super) fn open() -> Built<Self> {
        if let Ok(own) = make() {
            return Ok(Self::Own(own));
        }
        let paths = DEVICES.iter().map(|device| Path::new(DEV).join(device.name));
        let bound = paths.filter_map(|path| {
            let bound = bind(&path, &path, ATTRIBUTES).transpose()?;
            Some(bound.map(|bound| (path, bound)))
        });
        Ok(Self::Hosts(bound.collect::<Built<_>>()?))
    }

    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Self::Own(directory) => vec![directory.as_raw_fd()],
            Self::Hosts(bound) => bound.iter().map(|(_, device)| device.as_raw_fd()).collect(),
        }
    }

    pub(super) fn wall(&self) -> Wall {
        match self {
            Self::Own(_) => wall(WallName::Devices, WallStatus::Enforced, "made for the session"),
            Self::Hosts(_) => shared(),
        }
    }

    /// Puts them into the root.
    pub(super) fn build(self) -> io::Result<()> {
        directory(Path::new(DEV))?;
        match self {
            Self::Own(own) => mount::attach(&own, Path::new(DEV))?,
            Self::Hosts(bound) => {
                for (path, device) in bound {
                    place(&path, false)?;
                    mount::attach(device, &path)?;
                }
                lay_out(std::fs::File::open(DEV)?)?;
            }
        }
        let no_programs = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC;
        // All instances share the host's number of terminals.
        let modes = [("ptmxmode", Some("0666")), ("mode", Some("0620")), ("max", Some("64"))];
        let terminals = mount::create("devpts", &modes, no_programs)?;
        mount::attach(&terminals, &Path::new(DEV).join("pts"))
    }
}

/// What it means to have the host's.
pub(super) fn shared() -> Wall {
    let detail = "the host's own: who else uses them can be watched, and locks of them are shared";
    wall(WallName::Devices, WallStatus::Degraded, detail)
}

/// Whether a session of this process would have its own.
pub(crate) fn can_be_made() -> io::Result<()> {
    make().map(drop)
}

/// What is beside devices.
fn lay_out(within: impl AsFd) -> io::Result<()> {
    for (name, target) in DEVICE_LINKS {
        rustix::fs::symlinkat(*target, &within, *name)?;
    }
    for name in DEVICE_DIRECTORIES {
        rustix::fs::mkdirat(&within, *name, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}

/// A directory of devices that nobody else has. Refused without CAP_MKNOD on the host (mknod(2)).
fn make() -> io::Result<OwnedFd> {
    let size = [("size", Some("4k")), ("nr_inodes", Some("32")), ("mode", Some("0755"))];
    let writable = ATTRIBUTES.difference(Attributes::MOUNT_ATTR_RDONLY);
    let own = mount::create("tmpfs", &size, writable)?;
    for Device { name, major, minor } in DEVICES {
        let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
        let number = rustix::fs::makedev(*major, *minor);
        rustix::fs::mknodat(&own, *name, kind, mode, number)?;
        // What is made has the mode that the mask leaves.
        rustix::fs::chmodat(&own, *name, mode, AtFlags::empty())?;
    }
    lay_out(&own)?;
    mount::restrict(own.as_fd(), ATTRIBUTES)?;
    Ok(own)
}
