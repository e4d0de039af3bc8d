//! What a session's root is made of, as detached mounts.
//!
//! Opened where the host can be seen: in the launcher when it is root, else in init before its
//! root is private. Every mount is already as it will be inside; only places are missing.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::WallName;
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::path::RepoPath;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat};

use super::devices::Devices;
use super::{Built, failed};
use crate::sys::mount::{self, Attributes};
use crate::wire::{Groundwork, MountShape, Mounts, Refusal};

const WRITABLE: Attributes = Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV);
const READ_ONLY: Attributes = WRITABLE.union(Attributes::MOUNT_ATTR_RDONLY);

/// A part of the view, and where it goes.
pub(crate) struct Bound {
    pub(super) target: PathBuf,
    pub(super) is_directory: bool,
    pub(super) origin: Origin,
    /// It is mounted beneath a directory of the view, where perhaps nobody can get.
    pub(super) is_beneath: bool,
}

/// Where a part of the view is. A mount of its own is dear: to let go of it takes longer than to
/// make it.
pub(super) enum Origin {
    /// At a path beneath one of the ancestors.
    Ancestor(usize, PathBuf),
    Mount(OwnedFd),
}

/// What the workspace is mounted from.
pub(crate) enum Layers {
    Overlay {
        /// The uppermost first.
        lowers: Vec<OwnedFd>,
        /// Holds the two directories named below.
        scratch: OwnedFd,
        upper: String,
        work: String,
    },
    Directory(OwnedFd),
}

/// What of the host every session sees.
pub(crate) struct ViewSources {
    pub(super) view: Vec<Bound>,
    /// Directories of which the view has parts, which share a layer.
    pub(super) ancestors: Vec<OwnedFd>,
    pub(super) devices: Devices,
    /// Language caches, and where they go.
    pub(super) caches: Vec<(PathBuf, OwnedFd)>,
}

impl ViewSources {
    /// Opens everything. With a mapping, what is the supervisor's in a cache is the session's.
    pub(crate) fn open(groundwork: &Groundwork, mapping: Option<&OwnedFd>) -> Built<Self> {
        let points = mount::points()
            .map_err(failed(Some(WallName::PrivateRoot), "reading the host's mounts"))?;
        let (mut view, mut ancestors) = (Vec::new(), Ancestors::default());
        for (source, target) in &groundwork.binds {
            let (source, target) = (source.as_path(), target.as_path());
            let Some(bound) = ancestors.bound(source, target, false)? else { continue };
            view.push(bound);
            // A layer shows one file system.
            for point in points.iter().filter(|it| *it != source) {
                if let Ok(rest) = point.strip_prefix(source) {
                    view.extend(ancestors.bound(point, &target.join(rest), true)?);
                }
            }
        }
        let caches = groundwork.caches.iter().filter(|(source, _)| source.as_path().is_dir());
        let caches = caches.map(|(source, target)| {
            // Where a home's file system cannot map owners, what all may read can be read.
            let opened = layer(source.as_path(), READ_ONLY, mapping.map(AsFd::as_fd))
                .or_else(|_| layer(source.as_path(), READ_ONLY, None));
            Ok((target.to_path(), opened?))
        });
        let caches = caches.collect::<Built<_>>()?;
        Ok(Self { view, ancestors: ancestors.opened, devices: Devices::open()?, caches })
    }

    /// The descriptors that a child must keep.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let mounts = self.view.iter().filter_map(|bound| match &bound.origin {
            Origin::Mount(mount) => Some(mount),
            Origin::Ancestor(..) => None,
        });
        let mounts = mounts.chain(&self.ancestors);
        let mounts = mounts.chain(self.caches.iter().map(|(_, cache)| cache));
        mounts.map(AsRawFd::as_raw_fd).chain(self.devices.descriptors())
    }
}

/// What a session's workspace is made of.
pub(crate) struct WorkspaceSources {
    pub(super) workspace: Layers,
    /// Mounted after the workspace, at directories in it.
    pub(super) carries: Vec<(RepoPath, Layers)>,
}

impl WorkspaceSources {
    /// Opens everything. With a mapping, what is the supervisor's on disk is the session's.
    pub(crate) fn open(workspace: &WorkspaceMount, mapping: Option<&OwnedFd>) -> Built<Self> {
        let mapping = mapping.map(AsFd::as_fd);
        let (workspace, carries) = match workspace {
            WorkspaceMount::Directory { path, carries } => {
                (Layers::Directory(layer(path, WRITABLE, mapping)?), carries)
            }
            WorkspaceMount::Overlay { lowers, upper, work, carries } => {
                (overlay(lowers, upper, work, mapping)?, carries)
            }
        };
        let carries = carries.iter().map(|it| {
            let lowers = std::slice::from_ref(&it.lower);
            Ok((it.path.clone(), overlay(lowers, &it.upper, &it.work, mapping)?))
        });
        Ok(Self { workspace, carries: carries.collect::<Built<_>>()? })
    }

    /// Takes it apart for another process: what the mounts are, and the mounts.
    pub(crate) fn into_parts(self) -> (Mounts, Vec<OwnedFd>) {
        let mut descriptors = Vec::new();
        let workspace = self.workspace.into_parts(&mut descriptors);
        let carries = self.carries.into_iter();
        let carries = carries.map(|(path, it)| (path, it.into_parts(&mut descriptors))).collect();
        (Mounts { workspace, carries }, descriptors)
    }

    /// Puts it together again. None: there are fewer mounts than were named.
    pub(crate) fn from_parts(mounts: Mounts, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        let workspace = Layers::from_parts(mounts.workspace, &mut descriptors)?;
        let carries = mounts.carries.into_iter();
        let carries = carries
            .map(|(path, shape)| Some((path, Layers::from_parts(shape, &mut descriptors)?)))
            .collect::<Option<_>>()?;
        Some(Self { workspace, carries })
    }
}

impl Layers {
    fn into_parts(self, descriptors: &mut Vec<OwnedFd>) -> MountShape {
        match self {
            Self::Directory(mount) => {
                descriptors.push(mount);
                MountShape::Directory
            }
            Self::Overlay { lowers, scratch, upper, work } => {
                let shape = MountShape::Overlay { lowers: lowers.len(), upper, work };
                descriptors.extend(lowers);
                descriptors.push(scratch);
                shape
            }
        }
    }

    fn from_parts(
        shape: MountShape,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> Option<Self> {
        Some(match shape {
            MountShape::Directory => Self::Directory(descriptors.next()?),
            MountShape::Overlay { lowers, upper, work } => {
                let lowers =
                    (0..lowers).map(|_| descriptors.next()).collect::<Option<Vec<OwnedFd>>>()?;
                Self::Overlay { lowers, scratch: descriptors.next()?, upper, work }
            }
        })
    }
}

/// A detached mount of a path. `None` where the host has no such path: what is absent cannot be
/// reached.
pub(super) fn bind(source: &Path, target: &Path, attributes: Attributes) -> Built<Option<OwnedFd>> {
    let opened = mount::clone_tree(source).and_then(|mount| {
        mount::make_private(mount.as_fd())?;
        mount::restrict(mount.as_fd(), attributes)?;
        Ok(mount)
    });
    match opened {
        Ok(mount) => Ok(Some(mount)),
        Err(error) if is_out_of_reach(&error) => Ok(None),
        Err(error) => {
            let action = format!("binding {}", target.display());
            Err(failed(Some(WallName::PrivateRoot), &action)(error))
        }
    }
}

/// Directories that parts of the view are beneath, each opened once.
#[derive(Default)]
struct Ancestors {
    opened: Vec<OwnedFd>,
    by_path: HashMap<PathBuf, Option<usize>>,
}

impl Ancestors {
    fn bound(&mut self, source: &Path, target: &Path, is_beneath: bool) -> Built<Option<Bound>> {
        let Ok(found) = rustix::fs::stat(source) else {
            return Ok(None);
        };
        let is_directory = FileType::from_raw_mode(found.st_mode).is_dir();
        let origin = match self.find(source, target, &found) {
            Some((ancestor, path)) => Some(Origin::Ancestor(ancestor, path)),
            None => bind(source, target, READ_ONLY)?.map(Origin::Mount),
        };
        let target = target.to_owned();
        Ok(origin.map(|origin| Bound { target, is_directory, origin, is_beneath }))
    }

    /// The uppermost directory through which the session's user can get to a part of the view, and
    /// the part's place beneath it. None where none can be had alone: without privilege nothing is
    /// taken apart that is mounted beneath it (mount_namespaces(7), locked mounts).
    fn find(&mut self, source: &Path, target: &Path, found: &Stat) -> Option<(usize, PathBuf)> {
        let is_directory = FileType::from_raw_mode(found.st_mode).is_dir();
        candidates(source, target, is_directory).into_iter().rev().find_map(|path| {
            let at = self.open(path)?;
            let rest = source.strip_prefix(path).ok()?;
            let same = part(self.opened.get(at)?.as_fd(), rest).and_then(|it| Ok(fstat(&it)?));
            // Another is there where something is mounted, or a link is on the way.
            let is_same =
                same.is_ok_and(|it| (it.st_dev, it.st_ino) == (found.st_dev, found.st_ino));
            is_same.then(|| (at, rest.to_owned()))
        })
    }

    fn open(&mut self, path: &Path) -> Option<usize> {
        *self.by_path.entry(path.to_owned()).or_insert_with(|| {
            self.opened.push(alone(path).ok()?);
            Some(self.opened.len() - 1)
        })
    }
}

/// Directories that `source` is beneath, the innermost first, as far as all may pass through them.
/// As far, too, as the session has the same names: a mount tells of its place beneath the ancestor
/// (`/proc/self/mountinfo`). Of a file its directory is one in any case: it is no layer by itself.
fn candidates<'a>(source: &'a Path, target: &Path, is_directory: bool) -> Vec<&'a Path> {
    let is_passable = |path: &Path| {
        let mode = rustix::fs::stat(path).map(|it| Mode::from_raw_mode(it.st_mode));
        mode.is_ok_and(|mode| mode.contains(Mode::XOTH))
    };
    let above = source.ancestors().zip(target.ancestors());
    let above = above.take_while(|(one, other)| one.file_name() == other.file_name());
    let above = above.filter_map(|(one, _)| one.parent());
    let found: Vec<_> = above.take_while(|path| is_passable(path)).collect();
    match source.parent() {
        Some(parent) if found.is_empty() && !is_directory => vec![parent],
        _ => found,
    }
}

/// What lies at `path` beneath a directory, reached through no link.
pub(super) fn part(directory: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)?)
}

/// A directory without what is mounted beneath it.
fn alone(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty())?;
    let mount = mount::clone_one(opened.as_fd())?;
    mount::make_private(mount.as_fd())?;
    mount::restrict(mount.as_fd(), READ_ONLY)?;
    Ok(mount)
}

/// EPERM says that mounts cannot be cloned at all; EACCES that this path cannot be reached.
fn is_out_of_reach(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
    kinds.contains(&error.kind()) && error.raw_os_error() != Some(libc::EPERM)
}

fn overlay(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    mapping: Option<BorrowedFd<'_>>,
) -> Built<Layers> {
    let (scratch, upper, work) = siblings(upper, work)?;
    let lowers = lowers.iter().map(|path| layer(path, READ_ONLY, mapping));
    Ok(Layers::Overlay {
        lowers: lowers.collect::<Built<_>>()?,
        scratch: layer(scratch, WRITABLE, mapping)?,
        upper,
        work,
    })
}

/// Overlay wants both beneath one mount.
fn siblings<'a>(upper: &'a Path, work: &'a Path) -> Built<(&'a Path, String, String)> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    match (upper.parent(), work.parent(), name(upper), name(work)) {
        (Some(one), Some(other), Some(upper), Some(work)) if one == other => Ok((one, upper, work)),
        _ => Err(Refusal {
            wall: None,
            detail: "the workspace's upper and work directories are not in one directory"
                .to_owned(),
        }),
    }
}

fn layer(path: &Path, attributes: Attributes, mapping: Option<BorrowedFd<'_>>) -> Built<OwnedFd> {
    let opened =
        mount::clone_tree(path).map_err(failed(None, "opening a layer of the workspace"))?;
    if let Some(mapping) = mapping {
        // A file system without id mapping is root's alone: no session may have it as its own.
        let action = "giving a layer of the workspace to the session's user (keep the state and \
                      cache directories on ext4, xfs, btrfs or tmpfs)";
        mount::map_ids(opened.as_fd(), mapping)
            .map_err(failed(Some(WallName::UserNamespace), action))?;
    }
    let restricted = Ok(opened).and_then(|mount| {
        mount::make_private(mount.as_fd())?;
        mount::restrict(mount.as_fd(), attributes)?;
        Ok(mount)
    });
    restricted.map_err(failed(None, "opening a layer"))
}
