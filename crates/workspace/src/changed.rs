//! Which inodes of a snapshot were written since it was made, from the file system's own books.
//!
//! A session cannot forge this: a time it can set, the transaction that last wrote an inode it
//! cannot. Must never know what a change means; that is `scan`.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use cofferdam_btrfs::{Errno, Item, ItemKind, search};

/// The number of the top directory.
pub(crate) use cofferdam_btrfs::TOP_INODE;

/// What was written, and the way there.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    written: HashSet<u64>,
    /// The directories above, whether written or not.
    above: HashSet<u64>,
}

impl Changed {
    /// Reads a snapshot that nobody writes, for what transaction `since` and later ones wrote. More
    /// than `max` inodes are `EOVERFLOW`.
    pub(crate) fn since(snapshot: &OwnedFd, since: u64, max: u64) -> Result<Self, Errno> {
        let mut written = HashSet::new();
        let mut made = HashSet::new();
        let mut names = HashMap::<u64, Vec<u64>>::new();
        search(snapshot, (TOP_INODE, u64::MAX), since, &mut |item| {
            match item.kind {
                ItemKind::Inode => {
                    let (made_in, changed_in, _) = item.inode().ok_or(Errno::IO)?;
                    if changed_in >= since {
                        written.insert(item.inode);
                    }
                    if made_in >= since {
                        made.insert(item.inode);
                    }
                }
                ItemKind::Name | ItemKind::MoreNames => add_names(&mut names, item)?,
            }
            let is_too_much = written.len() as u64 > max;
            if is_too_much { Err(Errno::OVERFLOW) } else { Ok(()) }
        })?;
        // Every name of an inode that is new was written since as well; of an older one, only some.
        names.retain(|inode, _| made.contains(inode));
        let above = above(snapshot, &written, names)?;
        Ok(Self { written, above })
    }

    /// Whether the inode itself was written.
    pub(crate) fn has(&self, inode: u64) -> bool {
        self.written.contains(&inode)
    }

    /// Whether it, or something beneath it, was written.
    pub(crate) fn leads_to(&self, inode: u64) -> bool {
        self.written.contains(&inode) || self.above.contains(&inode)
    }
}

/// Every directory above what was written, by each of its names.
fn above(
    snapshot: &OwnedFd,
    written: &HashSet<u64>,
    mut known: HashMap<u64, Vec<u64>>,
) -> Result<HashSet<u64>, Errno> {
    let mut above = HashSet::new();
    let mut open: Vec<u64> = written.iter().copied().collect();
    while let Some(inode) = open.pop() {
        let directories = match known.remove(&inode) {
            Some(directories) => directories,
            None => directories_of(snapshot, inode)?,
        };
        open.extend(directories.into_iter().filter(|it| above.insert(*it)));
    }
    Ok(above)
}

fn directories_of(snapshot: &OwnedFd, inode: u64) -> Result<Vec<u64>, Errno> {
    if inode == TOP_INODE {
        return Ok(Vec::new());
    }
    let mut names = HashMap::new();
    search(snapshot, (inode, inode), 0, &mut |item| match item.kind {
        ItemKind::Inode => Ok(()),
        ItemKind::Name | ItemKind::MoreNames => add_names(&mut names, item),
    })?;
    Ok(names.remove(&inode).unwrap_or_default())
}

fn add_names(names: &mut HashMap<u64, Vec<u64>>, item: Item<'_>) -> Result<(), Errno> {
    let directories = item.directories().ok_or(Errno::IO)?;
    names.entry(item.inode).or_default().extend(directories);
    Ok(())
}
