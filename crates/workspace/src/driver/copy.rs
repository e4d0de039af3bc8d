//! A full copy of the base: where an overlay cannot be had. Blocks are shared where the file
//! system can (`FICLONE`), else the kernel copies them.

use std::fs::File;
use std::os::fd::OwnedFd;

use cofferdam_contract::change::FileKind;
use cofferdam_contract::mount::WorkspaceMount;
use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, ioctl_ficlone, openat,
    symlinkat, utimensat,
};

use super::{Driver, Site};
use crate::beneath::{Found, Nature, Tree, join};
use crate::error::WorkspaceError;
use crate::fill::Filler;
use crate::layers::Layers;
use crate::make_dir;
use crate::remove::remove_entry;
use crate::usage::{Usage, usage};

/// Most files and directories that are copied.
const FILES_MAX: u64 = 1_000_000;
/// Most bytes that are copied.
const BYTES_MAX: u64 = 64 << 30;
/// Holds what the copy took when it was made, in bytes and inodes.
const TAKEN: &str = "copied";

pub(super) struct Copy;

impl Driver for Copy {
    fn create(&self, site: &Site<'_>) -> Result<(), WorkspaceError> {
        let path = site.dir.join(self.layer());
        make_dir(&path, 0o755)?;
        let tree = crate::open_dir(&path)?;
        let mut copying = Copying::into(&tree);
        copying.tree(site.base, b"")?;
        for carry in site.carry {
            let source = Layers::of(crate::open_dir(&carry.source)?);
            copying.tree(&source, carry.path.as_bytes())?;
        }
        let taken = usage(&tree);
        let taken = format!("{} {}\n", taken.bytes, taken.inodes);
        std::fs::write(site.dir.join(TAKEN), taken)
            .map_err(WorkspaceError::std_io("write", TAKEN.as_bytes()))
    }

    fn layer(&self) -> &'static str {
        "tree"
    }

    fn hides_base(&self) -> bool {
        true
    }

    fn mount(&self, site: &Site<'_>) -> WorkspaceMount {
        WorkspaceMount::directory(site.dir.join(self.layer()))
    }

    fn usage(&self, site: &Site<'_>, layer: &Tree) -> Result<Usage, WorkspaceError> {
        let taken = std::fs::read_to_string(site.dir.join(TAKEN))
            .map_err(WorkspaceError::std_io("read", TAKEN.as_bytes()))?;
        let mut taken = taken.split_whitespace().map(|number| number.parse().unwrap_or(0_u64));
        let mut less = |from: u64| from.saturating_sub(taken.next().unwrap_or(0));
        let now = usage(layer);
        Ok(Usage { bytes: less(now.bytes), inodes: less(now.inodes), ..now })
    }
}

/// A copy under way, and how much it is already.
pub(crate) struct Copying<'a> {
    filler: Filler<'a>,
    files: u64,
    bytes: u64,
}

impl<'a> Copying<'a> {
    /// Begins with what `layer` has.
    pub(crate) fn into(layer: &'a Tree) -> Self {
        Self { filler: Filler { layer, lower: None }, files: 0, bytes: 0 }
    }

    /// Copies everything beneath the top of `from` to `to`, over what is there. Only directories,
    /// files and links are copied; there is nothing else in a checkout. What a single layer says is
    /// gone goes.
    pub(crate) fn tree(&mut self, from: &Layers, to: &[u8]) -> Result<(), WorkspaceError> {
        let mut places = vec![Vec::new()];
        while let Some(place) = places.pop() {
            let io = |errno| WorkspaceError::io("copy", &place)(errno);
            let names = from.names(&place, FILES_MAX).map_err(io)?;
            let into = self.filler.directory(&beneath(to, &place))?;
            for name in names.unwrap_or_default() {
                let path = join(&place, &name);
                let io = |errno| WorkspaceError::io("copy", &path)(errno);
                let Some(found) = from.find(&path).map_err(io)? else {
                    remove_entry(&into, &name).map_err(io)?;
                    continue;
                };
                self.count(&found)?;
                match found.nature() {
                    Nature::Directory => places.push(path),
                    Nature::Leaf { kind, .. } => {
                        copy_over(&found, kind, &into, &name)
                            .map_err(WorkspaceError::std_io("copy", &path))?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, found: &Found) -> Result<(), WorkspaceError> {
        self.files += 1;
        if let Nature::Leaf { size_bytes, .. } = found.nature() {
            self.bytes = self.bytes.saturating_add(size_bytes);
        }
        if self.files > FILES_MAX {
            return Err(WorkspaceError::BaseTooLarge { max: FILES_MAX, unit: "files" });
        }
        if self.bytes > BYTES_MAX {
            return Err(WorkspaceError::BaseTooLarge { max: BYTES_MAX, unit: "bytes" });
        }
        Ok(())
    }
}

/// Copies one leaf to where something may be, which is rare: it is not looked for first.
fn copy_over(found: &Found, kind: FileKind, into: &OwnedFd, name: &[u8]) -> std::io::Result<()> {
    match copy(found, kind, into, name) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            remove_entry(into, name)?;
            copy(found, kind, into, name)
        }
        copied => copied,
    }
}

/// Copies one leaf with its time, which builds and git's index go by.
fn copy(found: &Found, kind: FileKind, into: &OwnedFd, name: &[u8]) -> std::io::Result<()> {
    let stat = found.stat();
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::from(stat.st_mtime_nsec as u32) };
    let times = Timestamps { last_access: time, last_modification: time };
    if kind == FileKind::Symlink {
        symlinkat(found.target()?, into, name)?;
        return Ok(utimensat(into, name, &times, AtFlags::SYMLINK_NOFOLLOW)?);
    }
    let mode = Mode::from_raw_mode(stat.st_mode & 0o777 | 0o600);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let made = openat(into, name, flags, mode)?;
    fchmod(&made, mode)?;
    let mut source = found.open_file()?;
    let mut made = File::from(made);
    if ioctl_ficlone(&made, &source).is_err() {
        std::io::copy(&mut source, &mut made)?;
    }
    Ok(futimens(&made, &times)?)
}

fn beneath(top: &[u8], path: &[u8]) -> Vec<u8> {
    if path.is_empty() { top.to_vec() } else { join(top, path) }
}
