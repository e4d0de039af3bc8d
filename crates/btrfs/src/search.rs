//! Items of a subvolume's tree, found without reading what was not written since.
//!
//! A node of the tree carries the transaction that wrote it last, and writing one writes every node
//! above it: a search that starts at a transaction skips whole branches, so it costs what changed.

use std::os::fd::AsFd;

use rustix::io::{Errno, Result};

use crate::sys::{FOUND_BYTES_MAX, Search, SearchKey, tree_search};

/// Bytes before each item: transaction, object, offset (8 each), type, length (4 each).
const HEADER_BYTES: usize = 32;

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemKind {
    /// What `stat` tells of an inode (`INODE_ITEM`).
    Inode,
    /// A name of an inode; [`Item::offset`] is the directory that has it (`INODE_REF`).
    Name,
    /// More names, when there are too many for one item (`INODE_EXTREF`).
    MoreNames,
}

impl ItemKind {
    /// The key's type (`linux/btrfs_tree.h`).
    const fn key(self) -> u32 {
        match self {
            Self::Inode => 1,
            Self::Name => 12,
            Self::MoreNames => 13,
        }
    }

    fn of(key: u32) -> Option<Self> {
        [Self::Inode, Self::Name, Self::MoreNames].into_iter().find(|kind| kind.key() == key)
    }
}

/// One item of the tree.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The inode.
    pub inode: u64,
    /// Of what kind.
    pub kind: ItemKind,
    /// The last part of its key; what it says depends on the kind.
    pub offset: u64,
    /// What it holds, as it is on disk.
    pub bytes: &'a [u8],
}

impl Item<'_> {
    /// Of [`ItemKind::Inode`]: the transactions that made it and that changed it last, and the
    /// bytes that are allocated. `None` for an item that is too short.
    #[must_use]
    pub fn inode(&self) -> Option<(u64, u64, u64)> {
        Some((number(self.bytes, 0)?, number(self.bytes, 8)?, number(self.bytes, 24)?))
    }

    /// The directories in which a name of the inode is, for the two kinds of names. `None` for an
    /// item that does not end where it should.
    #[must_use]
    pub fn directories(&self) -> Option<Vec<u64>> {
        if self.kind != ItemKind::MoreNames {
            return Some(vec![self.offset]);
        }
        // Each: directory, index (8 bytes each), length of the name (2), the name.
        let (mut rest, mut directories) = (self.bytes, Vec::new());
        while !rest.is_empty() {
            directories.push(number(rest, 0)?);
            let length = usize::from(u16::from_le_bytes(rest.get(16..18)?.try_into().ok()?));
            rest = rest.get(18 + length..)?;
        }
        Some(directories)
    }
}

/// Calls `each` for every item of the inodes from `inodes.0` to `inodes.1` in the subvolume's tree,
/// in nodes that were written in transaction `since` or later. What is in memory only is not
/// found: search a snapshot.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `EIO` if the kernel's answer cannot be read, and what `each`
/// says.
pub fn search(
    subvolume: impl AsFd,
    inodes: (u64, u64),
    since: u64,
    each: &mut dyn FnMut(Item<'_>) -> Result<()>,
) -> Result<()> {
    let mut search = Search::boxed(SearchKey {
        min_objectid: inodes.0,
        max_objectid: inodes.1,
        max_offset: u64::MAX,
        min_transid: since,
        max_transid: u64::MAX,
        min_type: ItemKind::Inode.key(),
        max_type: ItemKind::MoreNames.key(),
        ..SearchKey::default()
    });
    loop {
        search.key.nr_items = u32::MAX;
        tree_search(subvolume.as_fd(), &mut search)?;
        let Some(last) = items(&search, each)? else { return Ok(()) };
        let Some(next) = after(last) else { return Ok(()) };
        (search.key.min_objectid, search.key.min_type, search.key.min_offset) = next;
        if next.0 > inodes.1 {
            return Ok(());
        }
    }
}

type Key = (u64, u32, u64);

/// Goes through what was found; the key of the last, or none if there is nothing more.
fn items(search: &Search, each: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<Option<Key>> {
    let (mut at, mut last) = (0, None);
    for _ in 0..search.key.nr_items {
        let header = search.found.get(at..at + HEADER_BYTES).ok_or(Errno::IO)?;
        let word = |from| number(header, from).ok_or(Errno::IO);
        let (object, offset) = (word(8)?, word(16)?);
        let both = word(24)?;
        let (kind, length) = ((both & 0xFFFF_FFFF) as u32, (both >> 32) as usize);
        let from = at + HEADER_BYTES;
        if length > FOUND_BYTES_MAX {
            return Err(Errno::IO);
        }
        let bytes = search.found.get(from..from + length).ok_or(Errno::IO)?;
        if let Some(kind) = ItemKind::of(kind) {
            each(Item { inode: object, kind, offset, bytes })?;
        }
        (at, last) = (from + length, Some((object, kind, offset)));
    }
    Ok(last)
}

/// The next key there can be.
fn after((object, kind, offset): Key) -> Option<Key> {
    if let Some(offset) = offset.checked_add(1) {
        return Some((object, kind, offset));
    }
    match kind.checked_add(1) {
        Some(kind) => Some((object, kind, 0)),
        None => Some((object.checked_add(1)?, 0, 0)),
    }
}

fn number(bytes: &[u8], from: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(from..from + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bytes: &[u8]) -> Option<Vec<u64>> {
        Item { inode: 300, kind: ItemKind::MoreNames, offset: 0, bytes }.directories()
    }

    #[test]
    fn more_names_are_read_to_their_end_or_not_at_all() {
        let one = |directory: u64, name: &[u8]| {
            let mut bytes = [directory.to_le_bytes(), 7_u64.to_le_bytes()].concat();
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend(name);
            bytes
        };
        let both = [one(256, b"a"), one(400, b"longer")].concat();
        assert_eq!(names(&both), Some(vec![256, 400]));
        assert_eq!(names(&[]), Some(vec![]));
        for cut in 1..both.len() {
            let ends = cut == one(256, b"a").len();
            assert_eq!(names(&both[..cut]).is_some(), ends, "{cut}");
        }
    }

    #[test]
    fn keys_are_followed_by_the_next_there_can_be() {
        assert_eq!(after((1, 2, 3)), Some((1, 2, 4)));
        assert_eq!(after((1, 2, u64::MAX)), Some((1, 3, 0)));
        assert_eq!(after((1, u32::MAX, u64::MAX)), Some((2, 0, 0)));
        assert_eq!(after((u64::MAX, u32::MAX, u64::MAX)), None);
    }
}
