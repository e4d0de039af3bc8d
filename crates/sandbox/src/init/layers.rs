//! Overlay mounts out of detached layers.
//!
//! The kernel wants a layer as a path and shows it as it was given, so layers get places of their
//! own for the moment of the mount; the overlay holds on to them without. Must never know what the
//! layers are for.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::root::{READ_ONLY_FILES, directory};
use super::sources::{Bound, Layers, Origin, part};
use crate::sys::mount::{self, Attributes};

/// Where layers are for the moment of a mount.
const LAYERS: &str = "/.layers";
/// A layer with nothing in it: an overlay has two at least. It is a file system of its own, since a
/// directory that was removed cannot be listed, nor then what lies over it.
const NOTHING: &str = "nothing";

/// Makes layers of what the host has, one after the other.
///
/// Through a layer nobody shares a file with the host, nor with another session: a watch of it
/// (inotify(7)) tells of this session alone, a lock of it (flock(2), fcntl(2)) is this session's, and
/// a socket file has nobody who listens, whoever may write it. What is read is the host's own page
/// cache all the same.
pub(super) struct Stage {
    layers: usize,
    /// Directories of which parts are shown, where each is once it was needed, and where layered.
    ancestors: Vec<OwnedFd>,
    placed: HashMap<usize, (PathBuf, Result<PathBuf, Errno>)>,
}

impl Stage {
    pub(super) fn set(ancestors: Vec<OwnedFd>) -> io::Result<Self> {
        let layers = Path::new(LAYERS);
        directory(layers)?;
        let room = [("size", Some("1m")), ("nr_inodes", Some("4096")), ("mode", Some("0755"))];
        let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV;
        mount::attach(mount::create("tmpfs", &room, attributes)?, layers)?;
        let size = [("size", Some("4k")), ("nr_inodes", Some("1"))];
        put_layer(mount::create("tmpfs", &size, READ_ONLY_FILES)?, &layers.join(NOTHING))?;
        Ok(Self { layers: 0, ancestors, placed: HashMap::new() })
    }

    /// A part of the view as a layer, or as a part of one: one for each would take twice the time to
    /// open a session and to end one.
    pub(super) fn layered(&mut self, bound: &Bound) -> io::Result<OwnedFd> {
        match &bound.origin {
            Origin::Ancestor(ancestor, path) => {
                let (_, layered) = self.ancestor(*ancestor)?;
                clone_part(&layered?, path, bound.is_directory)
            }
            Origin::Mount(mount) if bound.is_directory => {
                let place = self.place();
                put_layer(mount, &place)?;
                overlay(&place)
            }
            Origin::Mount(_) => Err(io::Error::other("its directory cannot be had alone")),
        }
    }

    /// A part of the view as it is.
    pub(super) fn plain(&mut self, bound: &Bound) -> io::Result<OwnedFd> {
        match &bound.origin {
            Origin::Ancestor(ancestor, path) => {
                let (plain, _) = self.ancestor(*ancestor)?;
                clone_part(&plain, path, bound.is_directory)
            }
            Origin::Mount(mount) => mount.try_clone(),
        }
    }

    /// Where an ancestor is, and where it is layered.
    fn ancestor(&mut self, ancestor: usize) -> io::Result<(PathBuf, Result<PathBuf, Errno>)> {
        if let Some(placed) = self.placed.get(&ancestor) {
            return Ok(placed.clone());
        }
        let (plain, over) = (self.place(), self.place());
        put_layer(self.ancestors.get(ancestor).ok_or(io::ErrorKind::NotFound)?, &plain)?;
        let layered = overlay(&plain).and_then(|layered| put_layer(layered, &over)).map(|()| over);
        let layered = layered.map_err(|why| Errno::from_io_error(&why).unwrap_or(Errno::IO));
        self.placed.insert(ancestor, (plain.clone(), layered.clone()));
        Ok((plain, layered))
    }

    fn place(&mut self) -> PathBuf {
        self.layers += 1;
        Path::new(LAYERS).join(self.layers.to_string())
    }

    /// Takes all places away at once: each time mounts are detached, the kernel waits for all who
    /// may still be looking.
    pub(super) fn strike(self) -> io::Result<()> {
        mount::detach(Path::new(LAYERS))?;
        fs::remove_dir(LAYERS)
    }
}

/// A mount of what lies at `path` beneath a place, if it is what it was when it was looked at.
fn clone_part(place: &Path, path: &Path, is_directory: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(place, flags, Mode::empty())?;
    let part = part(directory.as_fd(), path)?;
    match FileType::from_raw_mode(rustix::fs::fstat(&part)?.st_mode) {
        FileType::RegularFile if !is_directory => mount::clone_one(part.as_fd()),
        FileType::Directory if is_directory => mount::clone_one(part.as_fd()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// An overlay that only shows what lies at a place of the stage.
fn overlay(lower: &Path) -> io::Result<OwnedFd> {
    let name = lower.file_name().and_then(OsStr::to_str).unwrap_or_default();
    rustix::process::chdir(LAYERS)?;
    let lowers = format!("{name}:{NOTHING}");
    let options = [
        ("lowerdir", Some(lowers.as_str())),
        ("userxattr", None),
        ("redirect_dir", Some("nofollow")),
    ];
    let attributes = Attributes::MOUNT_ATTR_RDONLY
        | Attributes::MOUNT_ATTR_NOSUID
        | Attributes::MOUNT_ATTR_NODEV;
    let mounted = mount::create("overlay", &options, attributes);
    rustix::process::chdir("/")?;
    mounted
}

/// What a workspace or a cache is mounted from, as one mount.
pub(super) fn mounted(layers: Layers) -> io::Result<OwnedFd> {
    let (lowers, scratch, upper, work) = match layers {
        Layers::Directory(mount) => return Ok(mount),
        Layers::Overlay { lowers, scratch, upper, work } => (lowers, scratch, upper, work),
    };
    let layers = Path::new(LAYERS);
    let mut places = Vec::new();
    for (at, lower) in lowers.iter().enumerate() {
        let place = at.to_string();
        put_layer(lower, &layers.join(&place))?;
        places.push(place);
    }
    put_layer(&scratch, &layers.join("session"))?;
    rustix::process::chdir(layers)?;
    let mounted = mount::create(
        "overlay",
        &[
            ("lowerdir", Some(&places.join(":"))),
            ("upperdir", Some(&format!("session/{upper}"))),
            ("workdir", Some(&format!("session/{work}"))),
            ("userxattr", None),
            ("metacopy", Some("off")),
            ("index", Some("off")),
            ("redirect_dir", Some("nofollow")),
        ],
        Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV,
    );
    rustix::process::chdir("/")?;
    for place in places.iter().map(String::as_str).chain(["session"]) {
        mount::detach(&layers.join(place))?;
        fs::remove_dir(layers.join(place))?;
    }
    fs::remove_dir(layers)?;
    mounted
}

fn put_layer(layer: impl AsFd, place: &Path) -> io::Result<()> {
    directory(place)?;
    mount::attach(layer, place)
}
