//! Takes back disk space: prepared bases that nobody uses, the least recently used first.
//!
//! A base in use is locked and stays, and so does what a base that stays stands on. Must never touch
//! what `keep` names.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::RepositoryError;
use crate::layer;
use crate::lock::{Lock, Mode};
use crate::store::{Broker, ObjectFormat};

/// Bases that stay when another one is made.
const BASES_MAX: usize = 32;

/// How much may stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retain {
    /// At most this many bases.
    pub bases_max: usize,
    /// At most this many bytes of bases, as far as files' sizes tell.
    pub bytes_max: u64,
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// Bases that were removed.
    pub removed: usize,
    /// Bases that are still there.
    pub kept: usize,
    /// Bytes that were freed.
    pub freed_bytes: u64,
}

impl Broker {
    /// Removes prepared bases beyond what may stay, and what dead preparers left. A base that is
    /// in use counts but stays.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] if the cache cannot be read or something cannot be removed.
    pub fn collect_garbage(&self, retain: &Retain) -> Result<Collected, RepositoryError> {
        self.sweep_store()?;
        self.collect_bases(retain)
    }

    /// After each base that is made, so that the cache is bounded without anybody's care. By
    /// number alone: sizes are not worth a walk through every base.
    pub(crate) fn bound_bases(&self) -> Result<(), RepositoryError> {
        self.collect_bases(&Retain { bases_max: BASES_MAX, bytes_max: u64::MAX }).map(|_| ())
    }

    fn collect_bases(&self, retain: &Retain) -> Result<Collected, RepositoryError> {
        let bases = self.inner.bases_dir();
        let mut found = Vec::new();
        for name in names(&bases)? {
            match name.split_once('.') {
                None => found.push((used(&bases, &name), name)),
                Some((key, rest)) if rest.starts_with("tmp-") => {
                    let lock = bases.join(format!("{key}.lock"));
                    if Lock::try_take(&lock, Mode::Exclusive)?.is_some() {
                        remove(&bases.join(&name))?;
                    }
                }
                Some(_) => {}
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        let found: Vec<String> = found.into_iter().map(|(_, name)| name).collect();
        let kept = fitting(&bases, &found, retain);
        let mut doomed: Vec<_> = found.into_iter().filter(|name| !kept.contains(name)).collect();
        // What stands on another goes first: half of a base is never left.
        doomed.sort_by_key(|name| Reverse(layer::chain(&bases, name).len()));
        let mut done = Collected { kept: kept.len(), ..Collected::default() };
        for name in doomed {
            let size = size_bytes(&bases.join(&name));
            if self.remove_base(&bases, &name)? {
                done.removed += 1;
                done.freed_bytes += size;
            } else {
                done.kept += 1;
            }
        }
        Ok(done)
    }

    /// Scratch directories of processes that are gone. They hold no objects that anybody needs.
    fn sweep_store(&self) -> Result<(), RepositoryError> {
        let stores = [ObjectFormat::Sha1, ObjectFormat::Sha256].map(|it| self.inner.store_dir(it));
        for dir in stores.into_iter().chain([self.inner.mirrors_dir()]) {
            for name in names(&dir)? {
                let pid = name.strip_prefix("tmp-").and_then(|rest| rest.split('-').next());
                if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                    remove(&dir.join(name))?;
                }
            }
        }
        Ok(())
    }

    /// Whether the base could be removed: nobody holds it.
    fn remove_base(&self, bases: &Path, key: &str) -> Result<bool, RepositoryError> {
        let path = bases.join(format!("{key}.lock"));
        let Some(lock) = Lock::try_take(&path, Mode::Exclusive)? else { return Ok(false) };
        // Renamed first: a removal that stops half-way leaves nothing that looks complete.
        let doomed = bases.join(format!("{key}.{}", self.inner.scratch_name()));
        fs::rename(bases.join(key), &doomed)
            .map_err(RepositoryError::io("a base could not be removed"))?;
        self.inner.crash_point("repository.collect.before");
        remove(&doomed)?;
        self.inner.crash_point("repository.collect.after");
        lock.retire(&path);
        Ok(true)
    }
}

/// Which of the bases, in the order in which they are to be kept, fit, each with what it stands on.
fn fitting(bases: &Path, found: &[String], retain: &Retain) -> BTreeSet<String> {
    let mut kept = BTreeSet::new();
    let mut bytes = 0_u64;
    for name in found {
        let mut whole = layer::chain(bases, name);
        whole.push(name.clone());
        whole.retain(|name| !kept.contains(name));
        // Looking at every file is for those alone who bound the bytes.
        let sized = |name: &String| match retain.bytes_max {
            u64::MAX => 0,
            _ => size_bytes(&bases.join(name)),
        };
        let size: u64 = whole.iter().map(sized).sum();
        if kept.len() + whole.len() <= retain.bases_max && bytes + size <= retain.bytes_max {
            bytes += size;
            kept.extend(whole);
        }
    }
    kept
}

fn names(dir: &Path) -> Result<Vec<String>, RepositoryError> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            Ok(entries.flatten().filter_map(|it| it.file_name().into_string().ok()).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => {
            Err(RepositoryError::Io { what: "the cache could not be read".to_owned(), source })
        }
    }
}

/// Each use dates the lock file.
fn used(bases: &Path, key: &str) -> SystemTime {
    let dated = fs::metadata(bases.join(format!("{key}.lock"))).and_then(|it| it.modified());
    dated.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn remove(dir: &Path) -> Result<(), RepositoryError> {
    fs::remove_dir_all(dir).map_err(RepositoryError::io("what is not needed could not be removed"))
}

/// Sizes of all files beneath, links not followed.
fn size_bytes(dir: &Path) -> u64 {
    let mut pending: Vec<PathBuf> = vec![dir.to_owned()];
    let mut total = 0;
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => pending.push(entry.path()),
                Ok(data) => total += data.len(),
                Err(_) => {}
            }
        }
    }
    total
}
