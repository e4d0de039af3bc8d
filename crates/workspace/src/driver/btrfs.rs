//! A snapshot of a base in a pool: everything costs what it costs in a plain directory, and opening,
//! closing and reading what changed do not depend on the number of files.

use std::os::fd::OwnedFd;

use cofferdam_btrfs as btrfs;
use cofferdam_contract::mount::WorkspaceMount;
use rustix::io::Errno;

use super::{Driver, Site, carries};
use crate::beneath::Tree;
use crate::changed::Changed;
use crate::error::WorkspaceError;
use crate::fill::Filler;
use crate::open_own as open;
use crate::usage::Usage;

/// The session's own subvolume.
const TREE: &str = "tree";
/// A snapshot of that, for as long as it is read.
const FROZEN: &str = "frozen";

pub(super) struct Btrfs;

impl Driver for Btrfs {
    fn create(&self, site: &Site<'_>) -> Result<(), WorkspaceError> {
        let [base] = site.base_layers else {
            return Err(failed("snapshot", Errno::INVAL));
        };
        let made = open(base).and_then(|base| btrfs::snapshot(base, open(site.dir)?, TREE, true));
        made.map_err(|errno| failed("snapshot", errno))?;
        let tree = crate::open_dir(&site.dir.join(TREE))?;
        carries::create(site, &Filler { layer: &tree, lower: None })
    }

    fn layer(&self) -> &'static str {
        TREE
    }

    fn hides_base(&self) -> bool {
        true
    }

    fn mount(&self, site: &Site<'_>) -> WorkspaceMount {
        WorkspaceMount::Directory { path: site.dir.join(TREE), carries: carries::mounts(site) }
    }

    fn usage(&self, site: &Site<'_>, _layer: &Tree) -> Result<Usage, WorkspaceError> {
        let written = written(site).map_err(|errno| failed("count what was written in", errno))?;
        carries::usage_and(site, written)
    }

    fn changed(&self, site: &Site<'_>, max: u64) -> Result<Option<Changed>, WorkspaceError> {
        match changed(site, max) {
            Err(Errno::OVERFLOW) => {
                Err(WorkspaceError::TooMuch { max, unit: "files and directories" })
            }
            other => other.map(Some).map_err(|errno| failed("find what was written in", errno)),
        }
    }

    fn bound(&self, site: &Site<'_>, bytes_max: u64) -> bool {
        open(&site.dir.join(TREE)).and_then(|tree| btrfs::bound(tree, bytes_max)).is_ok()
    }
}

fn failed(action: &'static str, errno: Errno) -> WorkspaceError {
    WorkspaceError::io(action, b"")(errno)
}

/// The first transaction that can have written to the session's subvolume.
fn first(tree: &OwnedFd) -> Result<u64, Errno> {
    Ok(btrfs::made_in(tree)?.saturating_add(1))
}

/// A snapshot has everything in it that the kernel still holds in memory for the original; and
/// taking it waits for this subvolume alone, not for what all sessions are writing.
fn changed(site: &Site<'_>, max: u64) -> Result<Changed, Errno> {
    let (dir, tree) = (open(site.dir)?, open(&site.dir.join(TREE))?);
    discard_frozen(&dir)?;
    btrfs::snapshot(&tree, &dir, FROZEN, false)?;
    let frozen = btrfs::open_child(&dir, FROZEN)?;
    let changed = Changed::since(&frozen, first(&tree)?, max);
    drop(frozen);
    discard_frozen(&dir)?;
    changed
}

/// One may be left of a reader that was killed.
fn discard_frozen(dir: &OwnedFd) -> Result<(), Errno> {
    match btrfs::destroy(dir, FROZEN) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// What is on disk of files and directories that were written; what is still in memory is bounded
/// by the memory limit, and by [`Driver::bound`].
fn written(site: &Site<'_>) -> Result<Usage, Errno> {
    let tree = open(&site.dir.join(TREE))?;
    let since = first(&tree)?;
    let mut usage = Usage::NONE;
    btrfs::search(&tree, (btrfs::TOP_INODE, u64::MAX), since, &mut |item| {
        if item.kind == btrfs::ItemKind::Inode {
            let (_, changed_in, bytes) = item.inode().ok_or(Errno::IO)?;
            if changed_in >= since {
                usage.inodes += 1;
                usage.bytes = usage.bytes.saturating_add(bytes);
            }
        }
        Ok(())
    })?;
    Ok(usage)
}
