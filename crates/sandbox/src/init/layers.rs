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

use super::root::{READ_ONLY_FILES, directory};
use super::sources::{Bound, Layers};
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
    /// Layered directories of which only files are shown, by what they are.
    parents: HashMap<(u64, u64), PathBuf>,
}

impl Stage {
    pub(super) fn set() -> io::Result<Self> {
        let layers = Path::new(LAYERS);
        directory(layers)?;
        let room = [("size", Some("1m")), ("nr_inodes", Some("4096")), ("mode", Some("0755"))];
        let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV;
        mount::attach(mount::create("tmpfs", &room, attributes)?, layers)?;
        let size = [("size", Some("4k")), ("nr_inodes", Some("1"))];
        put_layer(mount::create("tmpfs", &size, READ_ONLY_FILES)?, &layers.join(NOTHING))?;
        Ok(Self { layers: 0, parents: HashMap::new() })
    }

    /// The same as a layer.
    pub(super) fn layered(&mut self, bound: &Bound) -> io::Result<OwnedFd> {
        match &bound.parent {
            None => self.overlay(&bound.mount),
            Some((parent, name)) => self.file_of(parent, name),
        }
    }

    /// A file out of a layered directory that is shown nowhere.
    fn file_of(&mut self, parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
        let stat = rustix::fs::fstat(parent)?;
        let id = (stat.st_dev, stat.st_ino);
        let place = match self.parents.get(&id) {
            Some(place) => place.clone(),
            None => {
                let overlay = self.overlay(parent)?;
                let place = self.place();
                put_layer(overlay, &place)?;
                self.parents.insert(id, place.clone());
                place
            }
        };
        mount::clone_tree(&place.join(name))
    }

    fn overlay(&mut self, lower: &OwnedFd) -> io::Result<OwnedFd> {
        let place = self.place();
        put_layer(lower, &place)?;
        rustix::process::chdir(LAYERS)?;
        let lowers = format!("{}:{NOTHING}", self.layers);
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
