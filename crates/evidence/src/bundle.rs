//! Reading a bundle that somebody sent: bounded, following nothing, taking nothing unknown.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use cofferdam_contract::text::escape_bytes;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use crate::error::EvidenceError;
use crate::parts::{self, Files};

/// Most files in a bundle.
const FILES_MAX: usize = 1_000;
/// Most bytes in a bundle.
const BYTES_MAX: u64 = 512 << 20;

/// Everything in a bundle, and what has no place there.
pub(crate) struct Bundle {
    pub(crate) files: Files,
    /// In words, escaped; none for a bundle that is as it should be.
    pub(crate) refused: Vec<String>,
    bytes_left: u64,
}

impl Bundle {
    /// Reads the bundle at `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self, EvidenceError> {
        use std::os::unix::ffi::OsStrExt as _;
        let at = escape_bytes(dir.as_os_str().as_bytes());
        let io = |errno: rustix::io::Errno| EvidenceError::Io {
            action: "read the bundle at",
            at: at.clone(),
            source: errno.into(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = openat(CWD, dir, flags, Mode::empty()).map_err(io)?;
        let mut bundle = Self { files: Files::new(), refused: Vec::new(), bytes_left: BYTES_MAX };
        bundle.take_all(&top, "").map_err(io)?;
        if let Ok(checks) = open(&top, parts::CHECKS, OFlags::DIRECTORY) {
            bundle.take_all(&checks, "checks/").map_err(io)?;
        }
        Ok(bundle)
    }

    fn take_all(&mut self, directory: &OwnedFd, prefix: &str) -> Result<(), rustix::io::Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if matches!(name.as_slice(), b"." | b"..") {
                continue;
            }
            if names.len() + self.files.len() >= FILES_MAX {
                self.refused.push(format!("there are more than {FILES_MAX} files"));
                return Ok(());
            }
            names.push(name);
        }
        names.sort_unstable();
        for name in names {
            let shown = format!("{prefix}{}", escape_bytes(&name));
            match std::str::from_utf8(&name) {
                Ok(parts::CHECKS) if prefix.is_empty() => {}
                Ok(name) if is_known(&format!("{prefix}{name}")) => {
                    if let Err(why) = self.take(directory, name, prefix) {
                        self.refused.push(format!("{shown} {why}"));
                    }
                }
                _ => self.refused.push(format!("{shown} has no place in a bundle")),
            }
        }
        Ok(())
    }

    fn take(&mut self, directory: &OwnedFd, name: &str, prefix: &str) -> Result<(), String> {
        let opened = open(directory, name, OFlags::empty())
            .map_err(|errno| format!("cannot be opened: {}", std::io::Error::from(errno)))?;
        let stat = fstat(&opened).map_err(|errno| std::io::Error::from(errno).to_string())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err("is not a regular file".to_owned());
        }
        let size_bytes = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size_bytes > self.bytes_left {
            return Err("makes the bundle larger than 512 MiB".to_owned());
        }
        let mut bytes = Vec::new();
        let read = File::from(opened).take(size_bytes).read_to_end(&mut bytes);
        read.map_err(|error| format!("cannot be read: {error}"))?;
        self.bytes_left -= size_bytes;
        self.files.insert(format!("{prefix}{name}"), bytes);
        Ok(())
    }

    pub(crate) fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }
}

/// Opens an entry without following a link or waiting for a writer.
fn open(directory: &OwnedFd, name: &str, kind: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | kind;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(directory, name, flags, Mode::empty(), resolve)
}

fn is_known(name: &str) -> bool {
    let is_output = |name: &str| {
        let digest = name.strip_prefix("checks/output-").and_then(|rest| rest.strip_suffix(".txt"));
        digest.is_some_and(|hex| {
            format!("sha256:{hex}").parse::<cofferdam_contract::digest::Digest>().is_ok()
        })
    };
    parts::FIXED.contains(&name) || is_output(name)
}
