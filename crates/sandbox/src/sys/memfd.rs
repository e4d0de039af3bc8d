//! Files in memory that cannot change any more.
//!
//! Must never know what is in one.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, memfd_create};
use rustix::io::Errno;

/// A file of what `fill` writes, read from its beginning, that nobody can write, shorten, lengthen
/// or unseal.
///
/// The seal is against writes to come, which are all that there can be: nobody has mapped it.
/// `F_SEAL_WRITE` would also wait for whoever holds a page for a moment, and fail on a busy machine
/// (EBUSY, fcntl(2)).
pub(crate) fn sealed(
    name: &str,
    executable: bool,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let wanted = if executable { flags | MemfdFlags::EXEC } else { flags };
    let made = match memfd_create(name, wanted) {
        // Before Linux 6.3 every memfd is executable.
        Err(Errno::INVAL) => memfd_create(name, flags),
        other => other,
    };
    let mut file = File::from(made?);
    fill(&mut file)?;
    file.rewind()?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code)]

    use std::io::Write as _;
    use std::os::fd::{AsFd as _, AsRawFd as _};

    use super::*;

    /// What whoever got hold of it could try (CVE-2019-5736).
    fn tries(file: &File) -> [bool; 4] {
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let reopened = File::options().write(true).open(again).unwrap();
        // SAFETY: a mapping that is not there before cannot be in use.
        let mapped = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let fd = file.as_raw_fd();
            libc::mmap(std::ptr::null_mut(), 1, protection, libc::MAP_SHARED, fd, 0)
        };
        [
            (&*file).write_all(b"x").is_ok(),
            (&reopened).write_all(b"x").is_ok(),
            file.set_len(1).is_ok() || file.set_len(9).is_ok(),
            mapped != libc::MAP_FAILED,
        ]
    }

    #[test]
    fn what_is_sealed_stays_as_it_is() {
        for executable in [false, true] {
            let file = sealed("test", executable, |file| file.write_all(b"content")).unwrap();
            let file = File::from(file);
            assert_eq!(tries(&file), [false; 4]);
            assert!(rustix::fs::fcntl_add_seals(file.as_fd(), SealFlags::EXEC).is_err());
            assert_eq!(io::read_to_string(&file).unwrap(), "content");
        }
        // Control: without a seal each of them is possible.
        let open = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        (&open).write_all(b"content").unwrap();
        assert_eq!(tries(&open), [true; 4]);
    }
}
