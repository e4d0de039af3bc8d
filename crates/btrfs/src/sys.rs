//! The requests themselves: shapes of `linux/btrfs.h`, handed to the kernel. The only `unsafe` of
//! this crate is here.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::ioctl::{Direction, Getter, Opcode, Setter, Updater, ioctl, opcode};

const GROUP: u8 = 0x94;
const SNAP_CREATE_V2: Opcode = opcode::write::<VolumeArgs>(GROUP, 23);
const SUBVOL_CREATE_V2: Opcode = opcode::write::<VolumeArgs>(GROUP, 24);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(GROUP, 26);
const SNAP_DESTROY_V2: Opcode = opcode::write::<VolumeArgs>(GROUP, 63);
const GET_SUBVOL_INFO: Opcode = opcode::read::<Subvolume>(GROUP, 60);
const QUOTA_CTL: Opcode = opcode::read_write::<QuotaArgs>(GROUP, 40);
/// Written, though the header says read.
const QGROUP_LIMIT: Opcode = opcode::read::<LimitArgs>(GROUP, 43);
/// The size in it is that of the request without the room for the answer.
const TREE_SEARCH_V2: Opcode =
    opcode::from_components(Direction::ReadWrite, GROUP, 17, size_of::<SearchKey>() + 8);

/// Longest name of a subvolume, in bytes, without the zero at its end.
const NAME_BYTES_MAX: usize = 255;
const ENABLE_SIMPLE_QUOTA: u64 = 4;
/// The bound is on everything that a group refers to.
const LIMIT_MAX_RFER: u64 = 1;
/// Room for what one search finds, in bytes; the largest node of a tree has 64 KiB.
pub(crate) const FOUND_BYTES_MAX: usize = 64 << 10;

#[repr(C)]
struct VolumeArgs {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

impl VolumeArgs {
    fn new(name: &str, fd: i64, flags: u64) -> Result<Self> {
        if name.len() > NAME_BYTES_MAX || name.bytes().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Errno::INVAL);
        }
        let mut args = Self { fd, transid: 0, flags, unused: [0; 4], name: [0; 4040] };
        args.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(args)
    }
}

#[repr(C)]
struct Time {
    sec: u64,
    nsec: u32,
}

#[repr(C)]
pub(crate) struct Subvolume {
    treeid: u64,
    name: [u8; NAME_BYTES_MAX + 1],
    parent_id: u64,
    dirid: u64,
    generation: u64,
    flags: u64,
    uuids: [[u8; 16]; 3],
    ctransid: u64,
    pub(crate) otransid: u64,
    stransid: u64,
    rtransid: u64,
    times: [Time; 4],
    reserved: [u64; 8],
}

#[repr(C)]
struct QuotaArgs {
    command: u64,
    status: u64,
}

#[repr(C)]
struct LimitArgs {
    qgroupid: u64,
    flags: u64,
    max_rfer: u64,
    max_excl: u64,
    rsv_rfer: u64,
    rsv_excl: u64,
}

/// What is looked for: every item between two keys, in nodes that were written since.
#[repr(C)]
#[derive(Clone, Default)]
pub(crate) struct SearchKey {
    /// 0: the tree of the subvolume that the descriptor is in.
    pub(crate) tree_id: u64,
    pub(crate) min_objectid: u64,
    pub(crate) max_objectid: u64,
    pub(crate) min_offset: u64,
    pub(crate) max_offset: u64,
    pub(crate) min_transid: u64,
    pub(crate) max_transid: u64,
    pub(crate) min_type: u32,
    pub(crate) max_type: u32,
    /// In: the most that are wanted. Out: how many were found.
    pub(crate) nr_items: u32,
    pub(crate) unused: u32,
    pub(crate) unused_more: [u64; 4],
}

#[repr(C)]
pub(crate) struct Search {
    pub(crate) key: SearchKey,
    buf_size: u64,
    pub(crate) found: [u8; FOUND_BYTES_MAX],
}

impl Search {
    pub(crate) fn boxed(key: SearchKey) -> Box<Self> {
        Box::new(Self { key, buf_size: FOUND_BYTES_MAX as u64, found: [0; FOUND_BYTES_MAX] })
    }
}

pub(crate) fn subvol_create(parent: BorrowedFd<'_>, name: &str) -> Result<()> {
    let args = VolumeArgs::new(name, 0, 0)?;
    // SAFETY: the request reads the structure whose size is in its number.
    unsafe { ioctl(parent, Setter::<SUBVOL_CREATE_V2, _>::new(args)) }
}

pub(crate) fn snap_create(
    parent: BorrowedFd<'_>,
    name: &str,
    source: BorrowedFd<'_>,
    flags: u64,
) -> Result<()> {
    let args = VolumeArgs::new(name, i64::from(source.as_raw_fd()), flags)?;
    // SAFETY: as above; `source` is open for as long as the request takes.
    unsafe { ioctl(parent, Setter::<SNAP_CREATE_V2, _>::new(args)) }
}

pub(crate) fn snap_destroy(parent: BorrowedFd<'_>, name: &str) -> Result<()> {
    let args = VolumeArgs::new(name, 0, 0)?;
    // SAFETY: as above.
    unsafe { ioctl(parent, Setter::<SNAP_DESTROY_V2, _>::new(args)) }
}

pub(crate) fn set_flags(subvolume: BorrowedFd<'_>, flags: u64) -> Result<()> {
    // SAFETY: as above.
    unsafe { ioctl(subvolume, Setter::<SUBVOL_SETFLAGS, _>::new(flags)) }
}

pub(crate) fn subvolume(subvolume: BorrowedFd<'_>) -> Result<Subvolume> {
    // SAFETY: the request fills the structure whose size is in its number; every pattern of bits
    // is one of its values.
    unsafe { ioctl(subvolume, Getter::<GET_SUBVOL_INFO, Subvolume>::new()) }
}

pub(crate) fn enable_simple_quota(top: BorrowedFd<'_>) -> Result<()> {
    let mut args = QuotaArgs { command: ENABLE_SIMPLE_QUOTA, status: 0 };
    // SAFETY: the request reads and writes the structure whose size is in its number.
    unsafe { ioctl(top, Updater::<QUOTA_CTL, _>::new(&mut args)) }
}

pub(crate) fn limit(subvolume: BorrowedFd<'_>, bytes_max: u64) -> Result<()> {
    // A group of 0 is that of the subvolume itself.
    let args = LimitArgs {
        qgroupid: 0,
        flags: LIMIT_MAX_RFER,
        max_rfer: bytes_max,
        max_excl: 0,
        rsv_rfer: 0,
        rsv_excl: 0,
    };
    // SAFETY: the request reads the structure whose size is in its number.
    unsafe { ioctl(subvolume, Setter::<QGROUP_LIMIT, _>::new(args)) }
}

pub(crate) fn tree_search(tree: BorrowedFd<'_>, search: &mut Search) -> Result<()> {
    // SAFETY: the request reads and writes the structure, and at most `buf_size` bytes behind it,
    // which are `found`.
    unsafe { ioctl(tree, Updater::<TREE_SEARCH_V2, _>::new(search)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers as the kernel's header computes them on x86-64.
    #[test]
    fn requests_have_the_numbers_of_the_header() {
        for (ours, theirs) in [
            (SNAP_CREATE_V2, 0x5000_9417_u64),
            (SUBVOL_CREATE_V2, 0x5000_9418),
            (SUBVOL_SETFLAGS, 0x4008_941a),
            (SNAP_DESTROY_V2, 0x5000_943f),
            (GET_SUBVOL_INFO, 0x81f8_943c),
            (QUOTA_CTL, 0xc010_9428),
            (QGROUP_LIMIT, 0x8030_942b),
            (TREE_SEARCH_V2, 0xc070_9411),
        ] {
            assert_eq!(u64::from(ours), theirs, "{theirs:#x}");
        }
    }

    #[test]
    fn a_name_that_is_a_path_is_refused() {
        for name in ["a/b", "a\0b", &"n".repeat(256)] {
            assert_eq!(VolumeArgs::new(name, 0, 0).err(), Some(Errno::INVAL), "{name:?}");
        }
    }
}
