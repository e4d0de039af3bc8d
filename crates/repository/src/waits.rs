//! Refuses a repository in which git would wait: git opens what it finds, a FIFO or a device too.
//!
//! What lies there is looked at before git is let at it, without opening anything but regular
//! files. What changes after that look is bounded by the time of each command. Must never judge
//! whether a repository is a good one: that is git's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cofferdam_contract::text::escape_bytes;

use crate::error::RepositoryError;
use crate::git::{Git, Place};
use crate::locate::{common_dir, path_of, read_small};

/// Most files of a git directory. Beyond it nobody can say that none of them waits.
const ENTRIES_MAX: usize = 1 << 20;
/// Most object directories that borrow from one another, and files of settings that include others.
const CHAIN_MAX: usize = 64;
/// How much of a file of ours or git's is read; a longer one is refused.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The socket of git's own watcher of files, which git connects to only where it is asked to.
const WATCHER: &str = "fsmonitor--daemon.ipc";
/// What git reads beside objects (gitrepository-layout(5)).
const READ: [&str; 5] = ["refs", "logs", "reftable", "worktrees", "info"];

/// Looks at what git opens in order to find out what is at `path`. It goes upwards past a directory
/// that is not whole, so every one on the way is looked at.
///
/// # Errors
/// [`RepositoryError::Unsupported`]
pub(crate) fn refuse_before_discovery(git: &Git, path: &Path) -> Result<(), RepositoryError> {
    for git_dir in path.ancestors().filter_map(git_dir_at) {
        let common = common_dir(&git_dir).unwrap_or_else(|_| git_dir.clone());
        for dir in [&git_dir, &common] {
            Look::default().level(dir)?;
            refuse_included(git, dir)?;
        }
    }
    Ok(())
}

/// Looks at everything that git may open in a repository that was found.
///
/// # Errors
/// [`RepositoryError::Unsupported`]
pub(crate) fn refuse_before_use(git_dir: &Path, common: &Path) -> Result<(), RepositoryError> {
    let mut look = Look::default();
    for dir in [common, git_dir] {
        for name in READ {
            look.below(dir.join(name), true)?;
        }
    }
    let mut borrowed = vec![common.join("objects")];
    let mut known = BTreeSet::new();
    while let Some(objects) = borrowed.pop() {
        if !known.insert(fs::canonicalize(&objects).unwrap_or_else(|_| objects.clone())) {
            continue;
        }
        if known.len() > CHAIN_MAX {
            return Err(unsupported(&objects, "is one of too many object directories"));
        }
        look.below(objects.clone(), false)?;
        borrowed.extend(alternates(&objects)?);
    }
    Ok(())
}

/// One look through directories.
#[derive(Default)]
struct Look {
    entries: usize,
    /// Directories that were seen, since a link may lead to one of them.
    dirs: BTreeSet<(u64, u64)>,
}

impl Look {
    /// Everything below `dir`. Objects are never links; where `links` may be, they are followed.
    fn below(&mut self, dir: PathBuf, links: bool) -> Result<(), RepositoryError> {
        let mut dirs = vec![dir];
        while let Some(dir) = dirs.pop() {
            let Ok(metadata) = fs::metadata(&dir) else { continue };
            if !self.dirs.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let Ok(mut kind) = entry.file_type() else { continue };
                if kind.is_symlink() && !links {
                    return Err(unsupported(&entry.path(), "is a link in place of an object"));
                }
                if kind.is_symlink() {
                    let Ok(target) = fs::metadata(entry.path()) else { continue };
                    kind = target.file_type();
                }
                self.count(&entry.path(), kind)?;
                if kind.is_dir() {
                    dirs.push(entry.path());
                }
            }
        }
        Ok(())
    }

    /// What is directly in `dir`, and the one file deeper that git reads so early.
    fn level(&mut self, dir: &Path) -> Result<(), RepositoryError> {
        let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|it| it.path());
        let early = [dir.join("objects/info/alternates"), dir.join("info/grafts")];
        for path in names.chain(early) {
            let ours = path.file_name().is_some_and(|name| name == WATCHER);
            match fs::metadata(&path) {
                Ok(it) if !(ours && it.file_type().is_socket()) => {
                    self.count(&path, it.file_type())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn count(&mut self, path: &Path, kind: fs::FileType) -> Result<(), RepositoryError> {
        refuse_if(path, waits(kind))?;
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(RepositoryError::Unsupported {
                reason: "the git directory holds more than a million files".to_owned(),
                remedy: "pack what lies there loose: git gc".to_owned(),
            });
        }
        Ok(())
    }
}

/// The files that the settings of a git directory include, and those that these include.
fn refuse_included(git: &Git, dir: &Path) -> Result<(), RepositoryError> {
    let mut files = vec![dir.join("config"), dir.join("config.worktree")];
    let mut known = BTreeSet::new();
    while let Some(file) = files.pop() {
        let Some(text) = read_whole(&file)? else { continue };
        let mentions = text.windows(7).any(|word| word.eq_ignore_ascii_case(b"include"));
        if !mentions || !known.insert(file.clone()) {
            continue;
        }
        if known.len() > CHAIN_MAX {
            return Err(unsupported(&file, "is one of too many files of settings"));
        }
        for path in included(git, &file)? {
            // A name before the slash is another user's home, which only git can find.
            if path.starts_with(b"~") && !path.starts_with(b"~/") {
                return Err(unsupported(&file, "includes settings from another user's home"));
            }
            let path = file.parent().unwrap_or(dir).join(path_of(&path));
            refuse_if(&path, fs::metadata(&path).is_ok_and(|it| waits(it.file_type())))?;
            files.push(path);
        }
    }
    Ok(())
}

/// What a file of settings includes. One that git cannot read includes nothing.
fn included(git: &Git, file: &Path) -> Result<Vec<Vec<u8>>, RepositoryError> {
    let output = git
        .command(&Place::Nowhere, "config")
        .args(["--no-includes", "-z", "--file"])
        .arg(file)
        .args(["--get-regexp", r"^include(if\..*)?\.path$"])
        .run(b"")?;
    let pairs = output.stdout.split(|byte| *byte == 0);
    let value = |pair: &[u8]| {
        let at = pair.iter().position(|byte| *byte == b'\n')?;
        Some(pair[at + 1..].to_vec())
    };
    Ok(pairs.filter_map(value).collect())
}

/// The object directories that one borrows from.
fn alternates(objects: &Path) -> Result<Vec<PathBuf>, RepositoryError> {
    let file = objects.join("info/alternates");
    let text = read_whole(&file)?.unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(|line| match line.strip_prefix(b"\"") {
            None => Ok(objects.join(path_of(line))),
            Some(_) => Err(unsupported(&file, "quotes a path")),
        })
        .collect()
}

/// A regular file of at most 64 KiB, or nothing.
fn read_whole(file: &Path) -> Result<Option<Vec<u8>>, RepositoryError> {
    // One that cannot be read is git's to complain about.
    let text = read_small(file).ok().flatten();
    match text {
        Some(text) if text.len() >= TEXT_BYTES_MAX => {
            Err(unsupported(file, "has more than 64 KiB"))
        }
        text => Ok(text),
    }
}

fn waits(kind: fs::FileType) -> bool {
    kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket()
}

fn refuse_if(file: &Path, refused: bool) -> Result<(), RepositoryError> {
    match refused {
        false => Ok(()),
        true => Err(unsupported(file, "is a pipe, a socket or a device")),
    }
}

fn unsupported(file: &Path, what: &str) -> RepositoryError {
    let file = escape_bytes(file.as_os_str().as_bytes());
    RepositoryError::Unsupported {
        reason: format!("{file} {what}"),
        remedy: "this is no repository that git made: clone it anew from its source".to_owned(),
    }
}

/// The git directory of what is in `dir`, as git finds it: `.git`, what a file `.git` names, or
/// `dir` itself.
fn git_dir_at(dir: &Path) -> Option<PathBuf> {
    let dot_git = dir.join(".git");
    if dot_git.is_dir() {
        return Some(dot_git);
    }
    if let Ok(Some(text)) = read_small(&dot_git) {
        return Some(dir.join(path_of(text.strip_prefix(b"gitdir: ")?)));
    }
    (dir.join("objects").is_dir() && dir.join("refs").is_dir()).then(|| dir.to_owned())
}
