//! Goes through a directory that someone else may have prepared against us.
//!
//! Every step is relative to an open directory and refuses links, so that no name leads out of the
//! root; files are opened without waiting, so that a FIFO is seen and left. Must never know what
//! is looked for.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, openat, renameat, unlinkat};

use super::ignored::{IGNORE_FILE_BYTES_MAX, Ignored};

/// Deepest directory that is entered; each level holds a descriptor.
pub(crate) const DEPTH_MAX: usize = 128;
/// What a rewritten file is called until it takes the old one's place.
const UNFINISHED: &str = ".cofferdam-rewrite";

/// Takes what the walk finds, in the order of names.
pub(crate) trait Visit {
    /// A regular file.
    fn file(&mut self, place: &Place<'_>);

    /// A path that the walk had to leave.
    fn left_alone(&mut self, path: &Path, cause: &str);
}

/// A name in an open directory.
pub(crate) struct Place<'a> {
    directory: BorrowedFd<'a>,
    name: &'a OsStr,
    path: &'a Path,
}

/// A file as it was read.
pub(crate) struct Content {
    /// All of it.
    pub(crate) bytes: Vec<u8>,
    /// Its permission bits.
    pub(crate) mode: Mode,
}

impl Place<'_> {
    /// Where it is, relative to the root.
    pub(crate) fn path(&self) -> &Path {
        self.path
    }

    /// Reads the file, if it is a regular one of at most `bytes_max`.
    pub(crate) fn read(&self, bytes_max: u64) -> Result<Content, String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(self.directory, self.name, flags, Mode::empty())
            .map_err(|error| format!("cannot be opened: {error}"))?;
        let stat = fstat(&file).map_err(|error| format!("cannot be looked at: {error}"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err("not a regular file".to_owned());
        }
        let mut bytes = Vec::new();
        File::from(file)
            .take(bytes_max + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot be read: {error}"))?;
        if bytes.len() as u64 > bytes_max {
            return Err(format!("larger than {bytes_max} bytes"));
        }
        Ok(Content { bytes, mode: Mode::from_raw_mode(stat.st_mode & 0o7777) })
    }

    /// Puts a new file with these bytes in its place, all at once. The mode is given as it is made:
    /// where nobody may look into this process, nobody can change a mode for it either.
    pub(crate) fn replace(&self, bytes: &[u8], mode: Mode) -> Result<(), String> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let new =
            openat(self.directory, UNFINISHED, flags, mode).map_err(|error| error.to_string())?;
        let written = self.fill(File::from(new), bytes, mode);
        if written.is_err() {
            let _ = unlinkat(self.directory, UNFINISHED, AtFlags::empty());
        }
        written.map_err(|error| error.to_string())
    }

    fn fill(&self, mut new: File, bytes: &[u8], mode: Mode) -> io::Result<()> {
        new.write_all(bytes)?;
        if Mode::from_raw_mode(fstat(&new)?.st_mode & 0o7777) != mode {
            fchmod(&new, mode)?;
        }
        renameat(self.directory, UNFINISHED, self.directory, self.name)?;
        Ok(())
    }
}

/// Visits every regular file beneath `root`, except `.git` and what is ignored there.
///
/// # Errors
/// `root` cannot be opened as a directory. Anything beneath it that fails is told to the visitor.
pub(crate) fn walk(root: &Path, visit: &mut dyn Visit) -> io::Result<()> {
    let directory = rustix::fs::open(root, DIRECTORY, Mode::empty())?;
    let place = Directory { directory, path: Path::new(""), depth: 0 };
    place.enter(&Ignored::default(), visit);
    Ok(())
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Directory<'a> {
    directory: OwnedFd,
    path: &'a Path,
    depth: usize,
}

impl Directory<'_> {
    fn enter(&self, above: &Ignored, visit: &mut dyn Visit) {
        let names = match self.names() {
            Ok(names) => names,
            Err(error) => {
                return visit.left_alone(self.path, &format!("cannot be listed: {error}"));
            }
        };
        let ignored = self.ignored(above);
        for (name, kind) in &names {
            let name = OsStr::from_bytes(name);
            let path = self.path.join(name);
            if name == ".git" || ignored.covers(&path, *kind == FileType::Directory) {
                continue;
            }
            match kind {
                FileType::Directory => self.descend(name, &path, &ignored, visit),
                FileType::RegularFile => {
                    visit.file(&Place { directory: self.directory.as_fd(), name, path: &path });
                }
                _ => {}
            }
        }
    }

    fn descend(&self, name: &OsStr, path: &Path, ignored: &Ignored, visit: &mut dyn Visit) {
        if self.depth == DEPTH_MAX {
            return visit.left_alone(path, "nested too deeply");
        }
        match openat(&self.directory, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => {
                Directory { directory, path, depth: self.depth + 1 }.enter(ignored, visit);
            }
            Err(error) => visit.left_alone(path, &format!("cannot be opened: {error}")),
        }
    }

    /// The names in it and what they are, sorted by their bytes.
    fn names(&self) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not say in the listing.
                FileType::Unknown => {
                    let stat =
                        rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            names.push((name.to_bytes().to_vec(), kind));
        }
        names.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(names)
    }

    fn ignored(&self, above: &Ignored) -> Ignored {
        let name = OsStr::new(".gitignore");
        let place = Place { directory: self.directory.as_fd(), name, path: self.path };
        match place.read(IGNORE_FILE_BYTES_MAX) {
            Ok(content) => above.within(self.path, &content.bytes),
            Err(_) => above.clone(),
        }
    }
}

/// Reads a name in a directory, whatever it is by now: what the walk does after its listing.
#[cfg(test)]
pub(crate) fn read_at(directory: &Path, name: &str) -> Result<Content, String> {
    let directory = rustix::fs::open(directory, DIRECTORY, Mode::empty()).unwrap();
    let place =
        Place { directory: directory.as_fd(), name: OsStr::new(name), path: Path::new(name) };
    place.read(1 << 20)
}
