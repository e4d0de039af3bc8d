//! What a session's root is made of, as detached mounts.
//!
//! Opened where the host can be seen: in the launcher when it is root, else in init before its
//! root is private. Every mount is already as it will be inside; only places are missing.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::WallName;
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::path::RepoPath;
use rustix::fs::{Mode, OFlags};

use super::paths::DEVICES;
use super::{Built, failed};
use crate::sys::mount::{self, Attributes};
use crate::wire::{Groundwork, MountShape, Mounts, Refusal};

const WRITABLE: Attributes = Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV);
const READ_ONLY: Attributes = WRITABLE.union(Attributes::MOUNT_ATTR_RDONLY);

/// A detached mount and where it goes.
pub(crate) struct Bound {
    pub(super) target: PathBuf,
    pub(super) mount: OwnedFd,
    pub(super) is_directory: bool,
    /// Of a file of the view: which of the parents it is in, and its name there.
    pub(super) parent: Option<(usize, OsString)>,
    /// It is mounted beneath a directory of the view, where perhaps nobody can get.
    pub(super) is_beneath: bool,
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
    /// Directories of which the view has files: only a directory can be a layer.
    pub(super) parents: Vec<OwnedFd>,
    pub(super) devices: Vec<Bound>,
    /// Language caches, and where they go.
    pub(super) caches: Vec<(PathBuf, OwnedFd)>,
}

impl ViewSources {
    /// Opens everything. With a mapping, what is the supervisor's in a cache is the session's.
    pub(crate) fn open(groundwork: &Groundwork, mapping: Option<&OwnedFd>) -> Built<Self> {
        let points = mount::points()
            .map_err(failed(Some(WallName::PrivateRoot), "reading the host's mounts"))?;
        let (mut view, mut parents) = (Vec::new(), Parents::default());
        for (source, target) in &groundwork.binds {
            let (source, target) = (source.as_path(), target.as_path());
            let Some(mut bound) = bind(source, target, READ_ONLY)? else { continue };
            // What is mounted on a file is not in its directory.
            if !bound.is_directory && !points.iter().any(|point| point == source) {
                bound.parent = parents.find(source);
            }
            view.push(bound);
            // A layer shows one file system.
            for point in points.iter().filter(|it| *it != source) {
                if let Ok(rest) = point.strip_prefix(source) {
                    let bound = bind(point, &target.join(rest), READ_ONLY)?;
                    view.extend(bound.map(|bound| Bound { is_beneath: true, ..bound }));
                }
            }
        }
        let no_programs = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC;
        let mut devices = Vec::new();
        for device in DEVICES {
            devices.extend(bind(Path::new(device), Path::new(device), no_programs)?);
        }
        let caches = groundwork.caches.iter().filter(|(source, _)| source.as_path().is_dir());
        let caches = caches.map(|(source, target)| {
            // Where a home's file system cannot map owners, what all may read can be read.
            let opened = layer(source.as_path(), READ_ONLY, mapping.map(AsFd::as_fd))
                .or_else(|_| layer(source.as_path(), READ_ONLY, None));
            Ok((target.to_path(), opened?))
        });
        let caches = caches.collect::<Built<_>>()?;
        Ok(Self { view, parents: parents.opened, devices, caches })
    }

    /// The descriptors that a child must keep.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let bound = self.view.iter().chain(&self.devices).map(|bound| &bound.mount);
        let bound = bound.chain(&self.parents);
        bound.chain(self.caches.iter().map(|(_, cache)| cache)).map(AsRawFd::as_raw_fd)
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

/// `None` where the host has no such path: what is absent cannot be reached.
fn bind(source: &Path, target: &Path, attributes: Attributes) -> Built<Option<Bound>> {
    let opened = mount::clone_tree(source).and_then(|mount| {
        mount::make_private(mount.as_fd())?;
        mount::restrict(mount.as_fd(), attributes)?;
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&mount)?.st_mode);
        let is_directory = kind.is_dir();
        let target = target.to_owned();
        Ok(Bound { target, mount, is_directory, parent: None, is_beneath: false })
    });
    match opened {
        Ok(bound) => Ok(Some(bound)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) && !is_missing_right(&error) =>
        {
            Ok(None)
        }
        Err(error) => {
            let action = format!("binding {}", target.display());
            Err(failed(Some(WallName::PrivateRoot), &action)(error))
        }
    }
}

/// The directories of files, each opened once.
#[derive(Default)]
struct Parents {
    opened: Vec<OwnedFd>,
    by_path: HashMap<PathBuf, Option<usize>>,
}

impl Parents {
    /// Where the directory of a file is among them, and the file's name there. None where it cannot
    /// be had alone: without privilege nothing is taken apart that is mounted beneath it
    /// (mount_namespaces(7), locked mounts).
    fn find(&mut self, source: &Path) -> Option<(usize, OsString)> {
        let (path, name) = (source.parent()?, source.file_name()?);
        let at = *self.by_path.entry(path.to_owned()).or_insert_with(|| {
            self.opened.push(alone(path).ok()?);
            Some(self.opened.len() - 1)
        });
        Some((at?, name.to_owned()))
    }
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
fn is_missing_right(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
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
