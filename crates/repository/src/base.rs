//! Prepares a base: a plain checkout of a commit, byte for byte, shared read-only by every session
//! that starts there.
//!
//! Made once per commit in a directory that nothing else looks at, then renamed, so that what has
//! the final name is complete. The checkout holds a private `.git`: one pack of the commit's own
//! history, an index that is fresh, no remotes, no alternates. Must never be written after that.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cofferdam_contract::change::FileKind;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::BaseCommit;
use cofferdam_contract::path::RepoPath;
use serde::{Deserialize, Serialize};

use crate::error::RepositoryError;
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
    /// The checkout. Read-only by agreement: whoever writes here harms every session on it.
    pub root: PathBuf,
    /// What is in it.
    pub survey: Survey,
    _lock: Lock,
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
        let key = key(repository, base)?;
        let place =
            Place { dir: bases.join(&key), lock: bases.join(format!("{key}.lock")), bases, key };
        loop {
            let lock = Lock::take(&place.lock, Mode::Shared, || progress(Progress::Waiting))?;
            if let Some(survey) = place.complete() {
                touch(&place.lock, SystemTime::now())?;
                progress(Progress::Ready);
                return Ok(PreparedBase { root: place.dir.join("root"), survey, _lock: lock });
            }
            drop(lock);
            let lock = Lock::take(&place.lock, Mode::Exclusive, || progress(Progress::Waiting))?;
            if place.complete().is_none() {
                place.sweep();
                let scratch =
                    place.bases.join(format!("{}.{}", place.key, self.inner.scratch_name()));
                let built = build(repository, base, &scratch, progress)
                    .and_then(|()| rename(&scratch, &place.dir));
                if built.is_err() {
                    // What remains is swept by the next preparation.
                    let _ = fs::remove_dir_all(&scratch);
                }
                built?;
                // A cache that cannot be tidied is no reason against a base that is there.
                let _untidy = self.bound_bases();
            }
            drop(lock);
        }
    }
}

/// Where one base lies.
struct Place {
    bases: PathBuf,
    key: String,
    dir: PathBuf,
    lock: PathBuf,
}

impl Place {
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

fn touch(path: &Path, time: SystemTime) -> Result<(), RepositoryError> {
    fs::File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_modified(time))
        .map_err(RepositoryError::io(format!("{} could not be dated", path.display())))
}

fn build(
    repository: &Repository,
    base: &BaseCommit,
    scratch: &Path,
    progress: &dyn Fn(Progress),
) -> Result<(), RepositoryError> {
    let failed = || RepositoryError::io("the base could not be written");
    let build =
        Build { repository, base, root: scratch.join("root"), git_dir: scratch.join("root/.git") };
    make_dir(scratch)?;
    build.write_git_dir().map_err(failed())?;
    progress(Progress::Checkout);
    build.check_out()?;
    let survey = build.survey()?;
    let last_write = SystemTime::now();
    progress(Progress::History);
    build.pack_history()?;
    build.write_head()?;
    build.freshen_index(last_write)?;
    let survey = serde_json::to_vec(&survey).map_err(|it| failed()(it.into()))?;
    fs::write(scratch.join("survey.json"), survey).map_err(failed())?;
    fs::write(scratch.join("boot"), boot_id()).map_err(failed())
}

/// One base in the making.
struct Build<'a> {
    repository: &'a Repository,
    base: &'a BaseCommit,
    root: PathBuf,
    git_dir: PathBuf,
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

    fn git(&self, subcommand: &'static str) -> GitCommand {
        let store = self.repository.inner.store_dir(self.repository.format).join("objects");
        let theirs = self.repository.objects_dir();
        self.repository.objects_git_in(&self.git_dir, &[&theirs, &store], subcommand).long()
    }

    fn check_out(&self) -> Result<(), RepositoryError> {
        self.git("read-tree").arg(self.base.tree.as_str()).bytes()?;
        // While git writes the index it hashes every file that is not older than the index it read.
        let future = SystemTime::now() + Duration::from_secs(86_400);
        touch(&self.git_dir.join("index"), future)?;
        let done = self
            .git("checkout-index")
            .config("checkout.workers=0")
            .args(["--all", "--index", "--quiet"])
            .work_tree(&self.root)
            .bytes();
        match done {
            Err(RepositoryError::Git { message, .. })
                if message.contains("cannot read object") || message.contains("unable to read") =>
            {
                Err(self.repository.missing(&self.base.tree))
            }
            other => other.map(|_| ()),
        }
    }

    /// What the commit reaches, and nothing else that the repository holds. Where objects of the
    /// past may be missing, only the commit itself.
    fn pack_history(&self) -> Result<(), RepositoryError> {
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
        command.bytes_of(format!("{commit}\n").as_bytes()).map(|_| ())
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
