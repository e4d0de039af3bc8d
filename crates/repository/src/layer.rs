//! A base as the difference to another one: what changed since a commit that is prepared already.
//!
//! The layer lies over the other's: files that differ are in it, what is gone is a whiteout, as
//! overlayfs reads it. It stands only on a commit of its own history and on the same branch, so
//! that a session sees no object that a base made from scratch would not have. Must never write to
//! what it stands on.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cofferdam_contract::change::{FileChange, FileKind, FileVersion};
use cofferdam_contract::digest::ObjectId;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

use crate::base::{Build, Place, Ready, Survey, touch};
use crate::changes;
use crate::error::RepositoryError;

/// Most layers of one base: each is one more place to look at every name.
const LAYERS_MAX: usize = 8;
/// Most paths that a layer differs in; with more, a base of its own is no dearer.
const DIFFERENCE_MAX: usize = 5_000;
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
            // A submodule in the place of a directory would show what was in that.
            let is_new_module = |file: &FileChange| {
                is_module(file.after.as_ref()) && !is_module(file.before.as_ref())
            };
            if files.len() > DIFFERENCE_MAX || files.iter().any(is_new_module) {
                return Ok(None);
            }
            return Ok(Some(Below { ready, key: below.key.clone(), commit, files }));
        }
        Ok(None)
    }

    /// Writes the difference and an index of the whole.
    pub(crate) fn check_out_difference(&self, below: &Below) -> Result<(), RepositoryError> {
        let failed = || RepositoryError::io("the base's difference could not be written");
        let index = self.git_dir.join("index");
        let lower = below.ready.layers[0].join(".git/index");
        fs::copy(&lower, &index).map_err(failed())?;
        // Entries that stay the same keep what is known of their files.
        self.git("read-tree").args(["-i", "-m", self.base.tree.as_str()]).bytes()?;
        let mut paths = Vec::new();
        for file in below.files.iter().filter(|file| is_written(file)) {
            paths.extend_from_slice(file.path.as_bytes());
            paths.push(0);
        }
        self.git("checkout-index")
            .config("checkout.workers=0")
            .args(["--quiet", "-z", "--stdin"])
            .work_tree(&self.root)
            .bytes_of(&paths)
            .map_err(|error| self.missing(error))?;
        self.hide(below).map_err(failed())?;
        let date = self.date_files(below, &lower).map_err(failed())?;
        // Of these alone: the others are not here, and what is known of them stays.
        self.git("update-index").args(["-z", "--stdin"]).work_tree(&self.root).bytes_of(&paths)?;
        self.git("diff-index").args(["--cached", "--quiet", self.base.tree.as_str()]).bytes()?;
        touch(&index, date)
    }

    /// Puts a whiteout where something is gone: for a directory of which nothing is left, one.
    fn hide(&self, below: &Below) -> std::io::Result<()> {
        let gone: Vec<_> = below.files.iter().filter(|file| file.after.is_none()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let directories = self.directories().map_err(std::io::Error::other)?;
        let there: HashSet<&[u8]> = below
            .files
            .iter()
            .filter(|file| file.after.is_some())
            .map(|file| file.path.as_bytes())
            .collect();
        let mut hidden = BTreeSet::new();
        for file in gone {
            let path = file.path.as_bytes();
            let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            let mut above = slashes.map(|(at, _)| &path[..at]);
            let top = above.find(|directory| !directories.contains(*directory)).unwrap_or(path);
            // A file in the directory's place hides it, a directory in the file's place too.
            if !there.contains(top) && !directories.contains(top) {
                hidden.insert(top);
            }
        }
        for path in hidden {
            let at = self.root.join(Path::new(std::ffi::OsStr::from_bytes(path)));
            fs::create_dir_all(at.parent().unwrap_or(&self.root))?;
            mknodat(CWD, &at, FileType::CharacterDevice, Mode::empty(), 0)?;
        }
        Ok(())
    }

    fn directories(&self) -> Result<HashSet<Vec<u8>>, RepositoryError> {
        let list = self
            .git("ls-tree")
            .args(["-r", "-d", "-z", "--format=%(objecttype) %(path)", self.base.tree.as_str()])
            .bytes()?;
        let entries = list.split(|byte| *byte == 0).filter(|it| !it.is_empty());
        Ok(entries.filter_map(|it| it.strip_prefix(b"tree ")).map(<[u8]>::to_vec).collect())
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
            let at = self.root.join(std::ffi::OsStr::from_bytes(file.path.as_bytes()));
            utimensat(CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(index))
    }
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
