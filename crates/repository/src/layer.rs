//! A base as the difference to another one: what changed since a commit that is prepared already.
//!
//! The layer lies over the other's: files that differ are in it, what is gone is a whiteout, as
//! overlayfs reads it. It stands only on a commit of its own history and on the same branch, so
//! that a session sees no object that a base made from scratch would not have. Must never write to
//! what it stands on.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cofferdam_contract::change::{FileChange, FileKind, FileVersion};
use cofferdam_contract::digest::ObjectId;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, mkdirat, mknodat, openat, utimensat,
};
use rustix::io::Errno;

use crate::base::{Build, Place, Ready, Survey, touch};
use crate::changes;
use crate::error::RepositoryError;

/// Most layers of one base: each is one more place to look at every name.
const LAYERS_MAX: usize = 8;
/// Most paths that a layer differs in; with more, a base of its own is no dearer.
const DIFFERENCE_MAX: usize = 5_000;
/// `PATH_MAX` without its end (path_resolution(7)).
const PATH_BYTES_MAX: usize = 4095;
/// How far back in history a base to stand on is looked for.
const HISTORY_MAX: &str = "1000";

/// What a layer is made on.
pub(crate) struct Below {
    /// The other base, held.
    pub(crate) ready: Ready,
    /// Its name.
    pub(crate) key: String,
    /// Its commit.
    pub(crate) commit: ObjectId,
    /// What differs since.
    files: Vec<FileChange>,
}

impl Below {
    /// What a person should know of it with the difference; none where that has to be looked for.
    pub(crate) fn survey(&self) -> Option<Survey> {
        let tells = |file: &FileChange| {
            is_module(file.before.as_ref())
                || is_module(file.after.as_ref())
                || file.path.file_name() == b".gitattributes"
        };
        if self.files.iter().any(tells) {
            return None;
        }
        let here =
            |of: fn(&FileChange) -> bool| self.files.iter().filter(|it| of(it)).count() as u64;
        let (gone, there) = (here(|it| it.before.is_some()), here(|it| it.after.is_some()));
        let survey = self.ready.survey.clone();
        Some(Survey { files: (survey.files + there).checked_sub(gone)?, ..survey })
    }

    /// The files that the index is to look at again. Where a new file stands in the way of a path, that
    /// is left out: adding the file removes it.
    fn paths_of_index(&self) -> Vec<u8> {
        let written = self.files.iter().filter(|file| is_written(file));
        let written: BTreeSet<_> = written.map(|file| file.path.as_bytes()).collect();
        let mut paths = Vec::new();
        for file in self.files.iter().filter(|file| has_file(file)) {
            let path = file.path.as_bytes();
            let directory = [path, b"/"].concat();
            let mut within = written.range(&directory[..]..);
            let is_directory = within.next().is_some_and(|it| it.starts_with(&directory));
            if !is_directory && !above(path).any(|it| written.contains(it)) {
                paths.extend_from_slice(path);
                paths.push(0);
            }
        }
        paths
    }
}

impl Build<'_> {
    /// The nearest commit of this one's history that is prepared, if standing on it pays.
    pub(crate) fn below(&self, place: &Place) -> Result<Option<Below>, RepositoryError> {
        let traits = self.repository.traits;
        // Which objects of a cut history a session would see is known of the whole alone.
        if traits.shallow || traits.partial {
            return Ok(None);
        }
        let candidates = place.siblings();
        if candidates.is_empty() {
            return Ok(None);
        }
        let reached = self
            .repository
            .objects_git("rev-list")
            .args(["--max-count", HISTORY_MAX, self.base.commit.as_str()])
            .text()?;
        for commit in reached.lines().skip(1) {
            let Some(below) = candidates.get(commit) else { continue };
            let Some(ready) = below.try_ready()? else { continue };
            if ready.layers.len() >= LAYERS_MAX {
                return Ok(None);
            }
            let commit: ObjectId =
                commit.parse().map_err(|_| RepositoryError::Malformed("rev-list"))?;
            let files = changes::records(self.repository, &commit, &self.base.tree)?;
            if files.len() > DIFFERENCE_MAX || !files.iter().all(|file| self.can_lie_over(file)) {
                return Ok(None);
            }
            return Ok(Some(Below { ready, key: below.key.clone(), commit, files }));
        }
        Ok(None)
    }

    /// A submodule in the place of a directory would show what was in that. And what is too long for
    /// one whole name, which git writes all the same from the root on, no reader of layers is tried with.
    fn can_lie_over(&self, file: &FileChange) -> bool {
        let is_new_module = is_module(file.after.as_ref()) && !is_module(file.before.as_ref());
        let bytes = self.root.as_os_str().len() + 1 + file.path.as_bytes().len();
        !is_new_module && bytes <= PATH_BYTES_MAX
    }

    /// Writes the difference and an index of the whole. Fails for trees that an index cannot have as
    /// they are, such as one with a name twice: they can be checked out whole alone.
    pub(crate) fn check_out_difference(&self, below: &Below) -> Result<(), RepositoryError> {
        self.write_files(below)?;
        let index = self.git_dir.join("index");
        let lower = below.ready.layers[0].join(".git/index");
        fs::copy(&lower, &index).map_err(unwritten)?;
        let date = self.date_files(below, &lower).map_err(unwritten)?;
        let modules = index_records(below.files.iter().filter(|file| !has_file(file)));
        if !modules.is_empty() {
            self.git("update-index").args(["-z", "--index-info"]).bytes_of(&modules)?;
        }
        // What the index says of all other files stays as it is. Size and date of a file may be as
        // they were; it is another inode than the one below, which is still there.
        self.git("update-index")
            .config("core.checkStat=default")
            .args(["--add", "--remove", "--replace", "--info-only", "-z", "--stdin"])
            .work_tree(&self.root)
            .bytes_of(&below.paths_of_index())?;
        self.git("diff-index").args(["--cached", "--quiet", self.base.tree.as_str()]).bytes()?;
        self.hide(below)?;
        touch(&index, date)
    }

    /// Writes the files that differ, from an index that has no others.
    fn write_files(&self, below: &Below) -> Result<(), RepositoryError> {
        let index = self.git_dir.join("difference");
        let git = |subcommand| self.git(subcommand).env("GIT_INDEX_FILE", &index);
        let files = index_records(below.files.iter().filter(|file| is_written(file)));
        git("update-index").args(["-z", "--index-info"]).bytes_of(&files)?;
        git("checkout-index")
            .config("checkout.workers=0")
            .args(["--all", "--quiet"])
            .work_tree(&self.root)
            .bytes()
            .map_err(|error| self.missing(error))?;
        match fs::remove_file(&index) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unwritten(error)),
            _ => Ok(()),
        }
    }

    /// Puts a whiteout where something is gone: for a directory of which nothing is left, one. What is
    /// left, the index says: it has no name that git would have refused to write.
    fn hide(&self, below: &Below) -> Result<(), RepositoryError> {
        let gone = below.files.iter().filter(|file| file.after.is_none());
        let mut gone = gone.map(|file| file.path.as_bytes()).peekable();
        if gone.peek().is_none() {
            return Ok(());
        }
        let list = self.git("ls-files").arg("-z").bytes()?;
        // In the order of their bytes, as the index has them.
        let left: Vec<&[u8]> = list.split(|byte| *byte == 0).filter(|it| !it.is_empty()).collect();
        let hidden = gone.try_for_each(|path| match left.binary_search(&path) {
            Ok(_) => Ok(()),
            Err(at) => {
                let beside = [at.checked_sub(1).and_then(|it| left.get(it)), left.get(at)];
                self.hide_one(highest_gone(path, beside.into_iter().flatten().copied()))
            }
        });
        hidden.map_err(unwritten)
    }

    fn hide_one(&self, path: &[u8]) -> std::io::Result<()> {
        let (directory, name) = self.place_of(path, true)?;
        match mknodat(&directory, name, FileType::CharacterDevice, Mode::empty(), 0) {
            // What is in its place hides it, and so does the whiteout of its directory.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory in the layer that a path is in, and its name there. No link is followed, whatever
    /// a tree says.
    fn place_of<'a>(&self, path: &'a [u8], make: bool) -> std::io::Result<(OwnedFd, &'a OsStr)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = rustix::fs::open(&self.root, flags, Mode::empty())?;
        let mut rest = path;
        while let Some(at) = rest.iter().position(|byte| *byte == b'/') {
            let name = OsStr::from_bytes(&rest[..at]);
            if make {
                match mkdirat(&directory, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            directory = openat(&directory, name, flags, Mode::empty())?;
            rest = &rest[at + 1..];
        }
        Ok((directory, OsStr::from_bytes(rest)))
    }

    /// Dates the files so far back that an index dated now needs no second look at them, and tells
    /// that date. What a session writes from now on is newer than both.
    fn date_files(&self, below: &Below, lower: &Path) -> std::io::Result<SystemTime> {
        let lower = u64::try_from(fs::metadata(lower)?.mtime()).unwrap_or(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let index = lower.max(now.as_secs().saturating_sub(1));
        let written = i64::try_from(index.saturating_sub(1)).unwrap_or(0);
        let time = Timespec { tv_sec: written, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        for file in below.files.iter().filter(|file| is_written(file)) {
            let (directory, name) = self.place_of(file.path.as_bytes(), false)?;
            utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(index))
    }
}

fn unwritten(error: std::io::Error) -> RepositoryError {
    RepositoryError::io("the base's difference could not be written")(error)
}

/// What is above a path, the highest first.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// The highest of a path that is gone and of what is above it that nothing is left of, given what is
/// left next to it in the order of bytes: nothing else has as much in common with it.
fn highest_gone<'a, 'b>(path: &'a [u8], beside: impl Iterator<Item = &'b [u8]>) -> &'a [u8] {
    let common = |other: &[u8]| path.iter().zip(other).take_while(|(a, b)| a == b).count();
    let most = beside.map(common).max().unwrap_or(0);
    let kept = path[..most].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let next = path[kept..].iter().position(|byte| *byte == b'/');
    next.map_or(path, |at| &path[..kept + at])
}

/// What there is afterwards, as `update-index --index-info` reads it.
fn index_records<'a>(files: impl Iterator<Item = &'a FileChange>) -> Vec<u8> {
    let mut records = Vec::new();
    for file in files {
        let (mode, side) = match (&file.after, &file.before) {
            (Some(after), _) => (after.kind.git_mode(), after),
            (None, Some(before)) => ("0", before),
            (None, None) => continue,
        };
        records.extend_from_slice(format!("{mode} {}\t", side.blob).as_bytes());
        records.extend_from_slice(file.path.as_bytes());
        records.push(0);
    }
    records
}

/// Whether it was or is a file or link, and not a submodule alone, which the layer has nothing of.
fn has_file(file: &FileChange) -> bool {
    is_written(file) || (file.after.is_none() && !is_module(file.before.as_ref()))
}

/// Whether the layer has a file or link for it.
fn is_written(file: &FileChange) -> bool {
    file.after.is_some() && !is_module(file.after.as_ref())
}

fn is_module(side: Option<&FileVersion>) -> bool {
    side.is_some_and(|it| it.kind == FileKind::Submodule)
}

/// Longest chain of layers that is followed; far fewer are made.
pub(crate) const CHAIN_MAX: usize = 64;
/// Where a base says what it stands on.
const STANDS_ON: &str = "stands-on";

/// Notes that the base in `dir` stands on the one named `key`.
pub(crate) fn write_stands_on(dir: &Path, key: &str) -> std::io::Result<()> {
    fs::write(dir.join(STANDS_ON), key)
}

/// The name of what the base in `dir` stands on; an unreadable note is `Err`.
pub(crate) fn stands_on(dir: &Path) -> Result<Option<String>, ()> {
    match crate::locate::read_small(&dir.join(STANDS_ON)) {
        Ok(None) => Ok(None),
        Ok(Some(key))
            if !key.is_empty() && key.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-') =>
        {
            String::from_utf8(key).map(Some).map_err(|_| ())
        }
        _ => Err(()),
    }
}

/// The names of everything that the base `key` stands on, as far as it is there.
pub(crate) fn chain(bases: &Path, key: &str) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    let mut at = key.to_owned();
    while let Ok(Some(below)) = stands_on(&bases.join(&at)) {
        if chain.len() > CHAIN_MAX || !bases.join(&below).is_dir() {
            break;
        }
        chain.push(below.clone());
        at = below;
    }
    chain
}
