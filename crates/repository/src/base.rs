//! Prepares a base: a plain checkout of a commit, byte for byte, shared read-only by every session
//! that starts there.
//!
//! Made once per commit in a directory that nothing else looks at, then renamed, so that what has
//! the final name is complete. The checkout holds a private `.git`: one pack of the commit's own
//! history, an index that is fresh, no remotes, no alternates. Where an earlier commit is prepared,
//! a base is the difference to that one (`layer`). Must never be written after that.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cofferdam_contract::change::FileKind;
use cofferdam_contract::digest::{Digest, ObjectId};
use cofferdam_contract::events::BaseCommit;
use cofferdam_contract::path::RepoPath;
use serde::{Deserialize, Serialize};

use crate::error::RepositoryError;
use crate::layer;
use crate::locate::{Repository, read_small};
use crate::lock::{Lock, Mode};
use crate::process::GitCommand;
use crate::store::{Broker, ObjectFormat, make_dir};

/// Largest `.gitattributes` that is looked at, as git has it (attr.h).
const ATTRIBUTES_BYTES_MAX: u64 = 100 << 20;

/// How far the preparation of a base is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Another run prepares the same base.
    Waiting,
    /// Files are being written.
    Checkout,
    /// The history is being packed.
    History,
    /// It is there.
    Ready,
}

/// What is in a base that a person should know of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    /// Files and symbolic links.
    pub files: u64,
    /// Submodules: kept as they are, present as empty directories.
    pub submodules: Vec<RepoPath>,
    /// Some files are kept in Git LFS: their pointers are there, their content is not.
    pub lfs: bool,
    /// The history is cut, at the repository's own cuts or at the base itself.
    pub cut: bool,
}

/// A base that is there and stays there while this value lives.
#[derive(Debug)]
pub struct PreparedBase {
    /// The checkout as layers, the uppermost first: one, unless it stands on an earlier base.
    /// Read-only by agreement: whoever writes here harms every session on it.
    pub layers: Vec<PathBuf>,
    /// What is in it.
    pub survey: Survey,
    _locks: Vec<Lock>,
}

impl Broker {
    /// Makes sure that the base is there. Whoever comes second waits for the first, processes and
    /// threads alike.
    ///
    /// # Errors
    /// [`RepositoryError::Unsupported`] if an object is missing, and failures of git.
    pub fn prepare(
        &self,
        repository: &Repository,
        base: &BaseCommit,
        progress: &dyn Fn(Progress),
    ) -> Result<PreparedBase, RepositoryError> {
        let bases = self.inner.bases_dir();
        make_dir(&bases)?;
        let place = Place::new(&bases, key(repository, base)?);
        let waits = || progress(Progress::Waiting);
        loop {
            let lock = Lock::take(&place.lock, Mode::Shared, waits)?;
            if let Some(mut ready) = place.ready(&waits)? {
                ready.locks.push(lock);
                progress(Progress::Ready);
                let Ready { layers, survey, locks } = ready;
                return Ok(PreparedBase { layers, survey, _locks: locks });
            }
            drop(lock);
            let lock = Lock::take(&place.lock, Mode::Exclusive, waits)?;
            if place.ready(&waits)?.is_none() {
                self.inner.crash_point("repository.base.before");
                place.sweep();
                let scratch =
                    place.bases.join(format!("{}.{}", place.key, self.inner.scratch_name()));
                let built = build(repository, base, &place, &scratch, progress)
                    .and_then(|()| rename(&scratch, &place.dir));
                if built.is_err() {
                    // What remains is swept by the next preparation.
                    let _ = fs::remove_dir_all(&scratch);
                }
                built?;
                self.inner.crash_point("repository.base.after");
                // A cache that cannot be tidied is no reason against a base that is there.
                let _untidy = self.bound_bases();
            }
            drop(lock);
        }
    }
}

/// Where one base lies.
pub(crate) struct Place {
    bases: PathBuf,
    pub(crate) key: String,
    pub(crate) dir: PathBuf,
    lock: PathBuf,
}

/// A base that is complete, with all that it stands on.
pub(crate) struct Ready {
    /// The uppermost first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) survey: Survey,
    /// Of what it stands on.
    locks: Vec<Lock>,
}

impl Place {
    pub(crate) fn new(bases: &Path, key: String) -> Self {
        let (dir, lock) = (bases.join(&key), bases.join(format!("{key}.lock")));
        Self { bases: bases.to_owned(), key, dir, lock }
    }

    /// The base, if it is complete; whoever asks holds its own lock.
    fn ready(&self, waits: &dyn Fn()) -> Result<Option<Ready>, RepositoryError> {
        self.ready_with(&|lock| Lock::take(lock, Mode::Shared, waits).map(Some))
    }

    /// The base with its lock, if it is complete and nobody is about to change it.
    pub(crate) fn try_ready(&self) -> Result<Option<Ready>, RepositoryError> {
        let take = |lock: &Path| Lock::try_take(lock, Mode::Shared);
        let Some(lock) = self.complete().map(|_| take(&self.lock)).transpose()?.flatten() else {
            return Ok(None);
        };
        let ready = self.ready_with(&take)?;
        Ok(ready.map(|mut ready| {
            ready.locks.push(lock);
            ready
        }))
    }

    fn ready_with(
        &self,
        take: &dyn Fn(&Path) -> Result<Option<Lock>, RepositoryError>,
    ) -> Result<Option<Ready>, RepositoryError> {
        let Some(survey) = self.complete() else { return Ok(None) };
        let mut ready = Ready { layers: vec![self.dir.join("root")], survey, locks: Vec::new() };
        let mut dir = self.dir.clone();
        touch(&self.lock, SystemTime::now())?;
        while let Ok(Some(key)) = layer::stands_on(&dir) {
            let below = Self::new(&self.bases, key);
            // What is not there gets no lock file either.
            if below.complete().is_none() || ready.layers.len() > layer::CHAIN_MAX {
                return Ok(None);
            }
            let Some(lock) = take(&below.lock)? else { return Ok(None) };
            if below.complete().is_none() {
                return Ok(None);
            }
            touch(&below.lock, SystemTime::now())?;
            ready.layers.push(below.dir.join("root"));
            ready.locks.push(lock);
            dir = below.dir;
        }
        Ok(layer::stands_on(&dir).is_ok().then_some(ready))
    }

    /// Bases of other commits that look the same inside otherwise, by commit.
    pub(crate) fn siblings(&self) -> HashMap<String, Self> {
        let Some((_, alike)) = self.key.split_once('-') else { return HashMap::new() };
        let entries = fs::read_dir(&self.bases).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter_map(|name| {
                let commit = name.split_once('-').filter(|(_, rest)| *rest == alike)?.0.to_owned();
                Some((commit, Self::new(&self.bases, name)))
            })
            .filter(|(_, place)| place.key != self.key)
            .collect()
    }

    /// The survey of a base that is complete. What was made before the last boot does not count:
    /// the machine may have stopped before the files reached the disk.
    fn complete(&self) -> Option<Survey> {
        let boot = read_small(&self.dir.join("boot")).ok().flatten()?;
        if boot != boot_id() {
            return None;
        }
        let survey = fs::read(self.dir.join("survey.json")).ok()?;
        serde_json::from_slice(&survey).ok()
    }

    /// Removes what a preparer that died left, and what is from before the last boot. Only with
    /// the exclusive lock.
    fn sweep(&self) {
        let scratch = format!("{}.tmp-", self.key);
        let Ok(entries) = fs::read_dir(&self.bases) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(&scratch) || *name == *self.key {
                // A git process that outlived its parent may still write there: it has no way into
                // what is made now.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// The same commit with another branch name or other cuts of history looks different inside. Which
/// objects are there is known of each partial repository only by itself.
fn key(repository: &Repository, base: &BaseCommit) -> Result<String, RepositoryError> {
    let branch = base.branch.as_deref().unwrap_or_default();
    let cuts = match repository.traits.shallow {
        true => fs::read(repository.common_dir.join("shallow"))
            .map_err(RepositoryError::io("the cuts of the history could not be read"))?,
        false => Vec::new(),
    };
    let partial = match repository.traits.partial {
        true => repository.common_dir.as_os_str().as_bytes(),
        false => b"",
    };
    let digest = Digest::of_parts(&[branch.as_bytes(), &cuts, partial]).hex();
    Ok(format!("{}-{}", base.commit, &digest[..12]))
}

pub(crate) fn boot_id() -> Vec<u8> {
    read_small(Path::new("/proc/sys/kernel/random/boot_id")).ok().flatten().unwrap_or_default()
}

fn rename(from: &Path, to: &Path) -> Result<(), RepositoryError> {
    fs::rename(from, to).map_err(RepositoryError::io("the base could not be put into place"))
}

pub(crate) fn touch(path: &Path, time: SystemTime) -> Result<(), RepositoryError> {
    fs::File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_modified(time))
        .map_err(RepositoryError::io(format!("{} could not be dated", path.display())))
}

fn build(
    repository: &Repository,
    base: &BaseCommit,
    place: &Place,
    scratch: &Path,
    progress: &dyn Fn(Progress),
) -> Result<(), RepositoryError> {
    let failed = || RepositoryError::io("the base could not be written");
    let build =
        Build { repository, base, root: scratch.join("root"), git_dir: scratch.join("root/.git") };
    make_dir(scratch)?;
    build.write_git_dir().map_err(failed())?;
    progress(Progress::Checkout);
    let below = match build.below(place)? {
        Some(below) if build.check_out_difference(&below).is_ok() => {
            layer::write_stands_on(scratch, &below.key).map_err(failed())?;
            Some(below)
        }
        began => {
            if began.is_some() {
                fs::remove_dir_all(&build.root).map_err(failed())?;
                build.write_git_dir().map_err(failed())?;
            }
            build.check_out()?;
            None
        }
    };
    let survey = match below.as_ref().and_then(layer::Below::survey) {
        Some(survey) => survey,
        None => build.survey()?,
    };
    let last_write = SystemTime::now();
    progress(Progress::History);
    build.pack_history(below.as_ref().map(|below| &below.commit))?;
    build.write_head()?;
    if below.is_none() {
        build.freshen_index(last_write)?;
    }
    let survey = serde_json::to_vec(&survey).map_err(|it| failed()(it.into()))?;
    fs::write(scratch.join("survey.json"), survey).map_err(failed())?;
    fs::write(scratch.join("boot"), boot_id()).map_err(failed())
}

/// One base in the making.
pub(crate) struct Build<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) base: &'a BaseCommit,
    pub(crate) root: PathBuf,
    pub(crate) git_dir: PathBuf,
}

impl Build<'_> {
    /// A git directory as a session sees it. Attributes of the tree may not convert content: a
    /// result is taken byte for byte, so the session's own git must see it that way too.
    fn write_git_dir(&self) -> std::io::Result<()> {
        for sub in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "info"] {
            fs::create_dir_all(self.git_dir.join(sub))?;
        }
        let (version, extension) = match self.repository.format {
            ObjectFormat::Sha1 => (0, ""),
            ObjectFormat::Sha256 => (1, "[extensions]\n\tobjectFormat = sha256\n"),
        };
        // Of stat data only size and whole seconds count: the rest differs in every session.
        let config = format!(
            "[core]\n\trepositoryformatversion = {version}\n\tbare = false\n\tfilemode = true\n\
             \tsymlinks = true\n\tlogAllRefUpdates = true\n\tcheckStat = minimal\n\
             \ttrustctime = false\n[user]\n\tname = Cofferdam session\n\
             \temail = session@localhost\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n{extension}"
        );
        fs::write(self.git_dir.join("config"), config)?;
        fs::write(
            self.git_dir.join("info/attributes"),
            "* -text !eol !crlf !ident !filter !working-tree-encoding\n",
        )?;
        fs::write(self.git_dir.join("HEAD"), "ref: refs/heads/none\n")
    }

    pub(crate) fn git(&self, subcommand: &'static str) -> GitCommand {
        let store = self.repository.inner.store_dir(self.repository.format).join("objects");
        let theirs = self.repository.objects_dir();
        self.repository.objects_git_in(&self.git_dir, &[&theirs, &store], subcommand).long()
    }

    fn check_out(&self) -> Result<(), RepositoryError> {
        self.git("read-tree").arg(self.base.tree.as_str()).bytes()?;
        // While git writes the index it hashes every file that is not older than the index it read.
        let future = SystemTime::now() + Duration::from_secs(86_400);
        touch(&self.git_dir.join("index"), future)?;
        self.git("checkout-index")
            .config("checkout.workers=0")
            .args(["--all", "--index", "--quiet"])
            .work_tree(&self.root)
            .bytes()
            .map(|_| ())
            .map_err(|error| self.missing(error))
    }

    /// Says of a checkout that failed for want of an object that it did.
    pub(crate) fn missing(&self, error: RepositoryError) -> RepositoryError {
        match error {
            RepositoryError::Git { message, .. }
                if message.contains("cannot read object") || message.contains("unable to read") =>
            {
                self.repository.missing(&self.base.tree)
            }
            other => other,
        }
    }

    /// What the commit reaches, and nothing else that the repository holds; nothing that `known`
    /// reaches either, which the layers below have. Where objects of the past may be missing, only
    /// the commit itself.
    fn pack_history(&self, known: Option<&ObjectId>) -> Result<(), RepositoryError> {
        let failed = || RepositoryError::io("the base's history could not be written");
        let cuts = self.git_dir.join("shallow");
        let commit = self.base.commit.as_str();
        if self.repository.traits.partial {
            fs::write(&cuts, format!("{commit}\n")).map_err(failed())?;
        } else if self.repository.traits.shallow {
            fs::write(&cuts, self.reached_cuts()?).map_err(failed())?;
        }
        let mut command = self
            .git("pack-objects")
            .args(["--revs", "--quiet", "--delta-base-offset"])
            .arg(self.git_dir.join("objects/pack/pack"));
        if cuts.exists() {
            command = command.env("GIT_SHALLOW_FILE", &cuts);
        }
        let known = known.map(|known| format!("^{known}\n")).unwrap_or_default();
        command.bytes_of(format!("{commit}\n{known}").as_bytes()).map(|_| ())
    }

    /// The repository's cuts that the commit's history runs into.
    fn reached_cuts(&self) -> Result<String, RepositoryError> {
        let cuts = fs::read_to_string(self.repository.common_dir.join("shallow"))
            .map_err(RepositoryError::io("the cuts of the history could not be read"))?;
        let reached = self.git("rev-list").arg(self.base.commit.as_str()).text()?;
        let reached: std::collections::HashSet<&str> = reached.lines().collect();
        let kept = cuts.lines().filter(|cut| reached.contains(cut));
        Ok(kept.flat_map(|cut| [cut, "\n"]).collect())
    }

    fn write_head(&self) -> Result<(), RepositoryError> {
        let commit = self.base.commit.as_str();
        match &self.base.branch {
            Some(branch) => {
                self.git("update-ref").args([branch, commit]).bytes()?;
                self.git("symbolic-ref").args(["HEAD", branch]).bytes()?;
            }
            None => {
                self.git("update-ref").args(["--no-deref", "HEAD", commit]).bytes()?;
            }
        }
        Ok(())
    }

    /// Dates the index one second after the last file, and waits until that is past. Then a
    /// session's git need not hash anything, and a session's first write still shows (racy git).
    fn freshen_index(&self, last_write: SystemTime) -> Result<(), RepositoryError> {
        let failed = || RepositoryError::io("the base's index could not be dated");
        let index = self.git_dir.join("index");
        let written = fs::metadata(&index).map_err(failed())?.mtime();
        let last = last_write.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let next = u64::try_from(written).unwrap_or(0).max(last.as_secs()) + 1;
        let next = SystemTime::UNIX_EPOCH + Duration::from_secs(next);
        if let Ok(left) = next.duration_since(SystemTime::now()) {
            std::thread::sleep(left);
        }
        touch(&index, next)
    }

    fn survey(&self) -> Result<Survey, RepositoryError> {
        let list = self.git("ls-files").args(["--stage", "-z"]).bytes()?;
        let traits = self.repository.traits;
        let cut = traits.shallow || traits.partial;
        let mut survey = Survey { cut, ..Survey::default() };
        for entry in list.split(|b| *b == 0).filter(|it| !it.is_empty()) {
            let malformed = || RepositoryError::Malformed("ls-files");
            let tab = entry.iter().position(|b| *b == b'\t').ok_or_else(malformed)?;
            let path = RepoPath::new(&entry[tab + 1..]).map_err(|_| malformed())?;
            let head = std::str::from_utf8(&entry[..tab]).map_err(|_| malformed())?;
            let mut words = head.split(' ');
            if words.next().and_then(FileKind::from_git_mode) == Some(FileKind::Submodule) {
                survey.submodules.push(path);
                continue;
            }
            survey.files += 1;
            if !survey.lfs && path.file_name() == b".gitattributes" {
                let blob = words.next().and_then(|id| id.parse().ok()).ok_or_else(malformed)?;
                let broker = Broker { inner: self.repository.inner.clone() };
                let text = broker.read_blob(self.repository, &blob, ATTRIBUTES_BYTES_MAX)?;
                survey.lfs = text.windows(10).any(|window| window == b"filter=lfs");
            }
        }
        Ok(survey)
    }
}
