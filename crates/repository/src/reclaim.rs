//! Takes back what the store holds and nobody needs any more: objects that nothing kept leads to,
//! and mirrors of URLs.
//!
//! What somebody is writing and has not kept yet is theirs: writers share a lock that a collection
//! needs alone. Objects that only a user's repository has are not missed here. Must never touch a
//! user's repository.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_contract::digest::ObjectId;

use crate::error::RepositoryError;
use crate::locate::Repository;
use crate::lock::{Lock, Mode};
use crate::store::{Broker, ObjectFormat, kept_name, make_dir};

/// While this lives, what is written into the store stays, kept or not.
#[derive(Debug)]
pub struct Writing(#[expect(dead_code, reason = "held for its lock")] Lock);

impl Broker {
    /// For whoever writes objects and keeps them, or needs them until an effect is done.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] if the lock cannot be taken.
    pub fn writing(&self) -> Result<Writing, RepositoryError> {
        Ok(Writing(Lock::take(&self.inner.writers_lock(), Mode::Shared, || ())?))
    }

    /// Forgets what is kept under `label`, and under every label that goes on with a dash.
    ///
    /// # Errors
    /// [`RepositoryError::InputRefused`] for a label that git takes for no name.
    pub fn release(&self, label: &str) -> Result<(), RepositoryError> {
        let name = kept_name(label)?;
        for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
            let store = self.inner.store_dir(format);
            let listed = self
                .inner
                .own_git(&store, "for-each-ref")
                .args(["--format=delete %(refname)", &name, &format!("{name}-*")])
                .bytes()?;
            if !listed.is_empty() {
                let update = self.inner.own_git(&store, "update-ref");
                self.inner.crash_point("repository.release.before");
                update.args(["--no-deref", "--stdin"]).bytes_of(&listed)?;
                self.inner.crash_point("repository.release.after");
            }
        }
        Ok(())
    }

    /// Whether an object can still be read, from the store or from the repository.
    ///
    /// # Errors
    /// Failures of git.
    pub fn has(&self, repository: &Repository, object: &ObjectId) -> Result<bool, RepositoryError> {
        let asked = repository.objects_git("cat-file").args(["-e", object.as_str()]).run(b"")?;
        Ok(asked.code == Some(0))
    }

    /// Removes objects that nothing kept leads to, and says how many. None while somebody writes:
    /// the next collection finds them.
    ///
    /// # Errors
    /// Failures of git; what could be removed is.
    pub fn reclaim(&self) -> Result<u64, RepositoryError> {
        let Some(_alone) = Lock::try_take(&self.inner.writers_lock(), Mode::Exclusive)? else {
            return Ok(0);
        };
        let mut removed = 0;
        self.inner.crash_point("repository.reclaim.before");
        for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
            removed += Store { broker: self, dir: self.inner.store_dir(format) }.reclaim()?;
        }
        self.inner.crash_point("repository.reclaim.after");
        Ok(removed)
    }

    /// Removes mirrors that nobody uses, that are of none of these URLs and that hold no result.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] if one cannot be removed.
    pub fn collect_mirrors(&self, needed: &BTreeSet<String>) -> Result<u64, RepositoryError> {
        let needed: HashSet<_> = needed.iter().map(|url| self.inner.mirror_dir(url)).collect();
        let mirrors = self.inner.mirrors_dir();
        make_dir(&mirrors)?;
        let entries = fs::read_dir(&mirrors).map_err(failed("the mirrors could not be read"))?;
        let dirs = entries.flatten().map(|entry| entry.path());
        let mut removed = 0;
        for dir in dirs.filter(|dir| dir.extension().is_some_and(|it| it == "git")) {
            let taken = ["lock", "use"].map(|name| {
                Lock::try_take(&dir.with_extension(name), Mode::Exclusive).map(|it| (name, it))
            });
            let [Ok((_, Some(_fetch))), Ok((_, Some(_use)))] = &taken else { continue };
            let ours = self.inner.own_git(&dir, "for-each-ref");
            let ours = ours.args(["--count=1", "refs/heads/cofferdam"]).bytes()?;
            if !needed.contains(&dir) && ours.is_empty() {
                // Renamed first: a removal that stops half-way leaves nothing that looks like one.
                let doomed = mirrors.join(self.inner.scratch_name());
                fs::rename(&dir, &doomed).map_err(failed("a mirror could not be removed"))?;
                self.inner.crash_point("repository.collect.before");
                fs::remove_dir_all(&doomed).map_err(failed("a mirror could not be removed"))?;
                self.inner.crash_point("repository.collect.after");
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// One of the broker's two repositories.
struct Store<'a> {
    broker: &'a Broker,
    dir: PathBuf,
}

impl Store<'_> {
    fn lines(
        &self,
        subcommand: &'static str,
        args: &[&str],
    ) -> Result<Vec<String>, RepositoryError> {
        let git = self.broker.inner.own_git(&self.dir, subcommand).args(args).long();
        Ok(git.text()?.lines().map(str::to_owned).collect())
    }

    fn reclaim(&self) -> Result<u64, RepositoryError> {
        let format = "--batch-check=%(objectname)";
        let all = self.lines("cat-file", &["--batch-all-objects", "--unordered", format])?;
        let all: HashSet<String> = all.into_iter().collect();
        let needed = self.reachable(&all)?;
        let removed = all.len() - needed.len();
        if removed > 0 {
            self.pack_anew(&all, &needed)?;
        }
        Ok(removed as u64)
    }

    /// What kept trees and commits are made of, as far as it is here. Of a commit, the history is
    /// the user's.
    fn reachable(&self, all: &HashSet<String>) -> Result<HashSet<String>, RepositoryError> {
        let kept = self.lines("for-each-ref", &["--format=%(objectname) %(tree)", "refs/"])?;
        let roots: HashSet<&str> = kept.iter().flat_map(|line| line.split(' ')).collect();
        let roots: Vec<&str> = roots.into_iter().filter(|id| all.contains(*id)).collect();
        if roots.is_empty() {
            return Ok(HashSet::new());
        }
        let commits = kept.iter().filter_map(|line| line.split_once(' '));
        let commits: HashSet<&str> =
            commits.filter(|(_, tree)| !tree.is_empty()).map(|(id, _)| id).collect();
        let trees = roots.iter().filter(|id| !commits.contains(*id));
        let input: String = trees.flat_map(|id| [*id, "\n"]).collect();
        let walk = self.broker.inner.own_git(&self.dir, "rev-list").long();
        let walked = walk
            .args(["--objects", "--no-object-names", "--missing=allow-any", "--stdin"])
            .text_of(input.as_bytes())?;
        let found = walked.lines().chain(commits);
        Ok(found.filter(|id| all.contains(*id)).map(str::to_owned).collect())
    }

    /// Writes what is needed as one pack, then removes everything that was there before.
    fn pack_anew(
        &self,
        all: &HashSet<String>,
        needed: &HashSet<String>,
    ) -> Result<(), RepositoryError> {
        let objects = self.dir.join("objects");
        let old = files(&objects.join("pack"))?;
        let mut new = String::new();
        if !needed.is_empty() {
            let input: String = needed.iter().flat_map(|id| [id.as_str(), "\n"]).collect();
            let pack = self.broker.inner.own_git(&self.dir, "pack-objects").long();
            new = pack
                .args(["--quiet", "--delta-base-offset", "objects/pack/pack"])
                .text_of(input.as_bytes())?;
        }
        let is_new = |path: &Path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            !new.is_empty() && name == format!("pack-{new}")
        };
        let loose = all.iter().map(|id| objects.join(&id[..2]).join(&id[2..]));
        for path in old.into_iter().filter(|path| !is_new(path)).chain(loose) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("an object could not be removed")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, RepositoryError> {
    let entries = fs::read_dir(dir).map_err(failed("the packs could not be read"))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn failed(what: &'static str) -> impl FnOnce(std::io::Error) -> RepositoryError {
    RepositoryError::io(what)
}
