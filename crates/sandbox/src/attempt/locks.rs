//! Text that is said by locking ranges of a file: whoever may open it can read them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::check;

fn range(bit: usize) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: bit as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

/// Locks a byte of the file for each bit that is set in `text`, for as long as what is returned
/// lives.
///
/// # Errors
/// The kernel's.
pub fn lock_ranges(path: &Path, text: &[u8]) -> io::Result<File> {
    let file = File::options().read(true).write(true).open(path)?;
    for bit in (0..text.len() * 8).filter(|bit| text[bit / 8] >> (bit % 8) & 1 == 1) {
        let lock = range(bit);
        // SAFETY: the structure outlives the call.
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) }.into())?;
    }
    Ok(file)
}

/// The text of so many bytes that others said by locking the file.
///
/// # Errors
/// The kernel's.
pub fn locked_ranges(path: &Path, length_bytes: usize) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut text = vec![0; length_bytes];
    for bit in 0..length_bytes * 8 {
        let mut lock = range(bit);
        // SAFETY: the structure outlives the call, which may write to it.
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) }.into())?;
        if lock.l_type != libc::F_UNLCK as libc::c_short {
            text[bit / 8] |= 1 << (bit % 8);
        }
    }
    Ok(text)
}
