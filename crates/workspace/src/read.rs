//! Reading one put of a scan: exactly the bytes it had when it was opened, or an error.

use std::fs::File;
use std::io::{self, Cursor, Read};

use cofferdam_contract::change::FileKind;
use cofferdam_contract::path::RepoPath;
use rustix::fs::{Stat, fstat};

use crate::beneath::{Nature, Tree};
use crate::error::WorkspaceError;

/// Kind, size in bytes and content of a file that a session left.
pub(crate) type Opened = (FileKind, u64, Box<dyn Read + Send>);

/// Opens `path` in what the session wrote.
pub(crate) fn read(layer: &Tree, path: &RepoPath) -> Result<Opened, WorkspaceError> {
    let io = |errno| WorkspaceError::io("read", path.as_bytes())(errno);
    let refused = || WorkspaceError::NotReadable { path: path.clone() };
    let found = layer.find(path.as_bytes()).map_err(io)?.ok_or_else(refused)?;
    let Nature::Leaf { kind, .. } = found.nature() else { return Err(refused()) };
    if kind == FileKind::Symlink {
        let target = found.target().map_err(io)?;
        return Ok((kind, target.len() as u64, Box::new(Cursor::new(target))));
    }
    let file = found.open_file().map_err(io)?;
    let opened = fstat(&file).map_err(io)?;
    let size_bytes = u64::try_from(opened.st_size).unwrap_or(0);
    Ok((kind, size_bytes, Box::new(Steady { file, opened, left: size_bytes })))
}

/// A file that may not change while it is read.
struct Steady {
    file: File,
    opened: Stat,
    left: u64,
}

impl Read for Steady {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let part = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..part])?;
        self.left -= read as u64;
        if read == 0 && (self.left > 0 || !self.is_unchanged()?) {
            return Err(io::Error::other("the file changed while it was read"));
        }
        Ok(read)
    }
}

impl Steady {
    /// The change time moves with every write and cannot be set back.
    fn is_unchanged(&self) -> io::Result<bool> {
        let now = fstat(&self.file)?;
        let mark = |stat: &Stat| {
            (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
        };
        Ok(mark(&now) == mark(&self.opened))
    }
}
