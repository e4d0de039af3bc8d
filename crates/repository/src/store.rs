//! The broker's own repositories: one per object format, for results and checkpoints.
//!
//! They are bare, written by us alone, and read the user's objects beside their own, so that the
//! user's configuration is not read when objects are. What `keep` names stays until `release`.
//! Must never be put behind a session: it holds what other runs made.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cofferdam_contract::digest::{Digest, ObjectId};

use crate::error::RepositoryError;
use crate::git::{Git, Place};
use crate::locate::Repository;
use crate::process::GitCommand;

/// Called with the name of a point just before and just after each write: to a user's repository,
/// to a mirror, of what the store keeps, of a base.
pub type CrashPoint = Arc<dyn Fn(&'static str) + Send + Sync>;

/// What a broker needs to know.
#[derive(Clone)]
pub struct BrokerOptions {
    /// Directory of the broker's repositories; made if absent.
    pub store: PathBuf,
    /// Directory of prepared bases; made if absent. May be deleted at any time when no run is on.
    pub cache: PathBuf,
    /// Which git.
    pub git: Git,
    /// For the simulator; [`no_crash`] otherwise.
    pub crash_point: CrashPoint,
    /// Added to the environment of fetches: proxies, certificates, the socket of an ssh agent.
    pub fetch_environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// How long a fetch may take: [`FETCH_TIMEOUT_MS`](crate::FETCH_TIMEOUT_MS).
    pub fetch_timeout_ms: u64,
}

/// A crash point that does nothing.
pub fn no_crash() -> CrashPoint {
    Arc::new(|_| ())
}

/// How a repository names its objects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ObjectFormat {
    /// 40 hexadecimal digits.
    Sha1,
    /// 64 hexadecimal digits.
    Sha256,
}

impl ObjectFormat {
    /// As git spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256].into_iter().find(|format| format.as_str() == text)
    }

    /// The id that stands for nothing.
    pub(crate) fn zero(self) -> &'static str {
        match self {
            Self::Sha1 => "0000000000000000000000000000000000000000",
            Self::Sha256 => "0000000000000000000000000000000000000000000000000000000000000000",
        }
    }
}

/// Writes results, prepares bases and carries out effects. Cheap to clone; safe to share.
#[derive(Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: BrokerOptions,
}

/// Git must not convert content by attributes of a tree, only read and write it.
pub(crate) const EXACT_ATTRIBUTES: &str =
    "* -text !eol !crlf !ident !filter !working-tree-encoding !diff !merge !delta !whitespace\n";

impl Broker {
    /// Opens the store, and makes it if it is not there.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] if a directory cannot be made.
    pub fn open(options: BrokerOptions) -> Result<Self, RepositoryError> {
        for dir in [&options.store, &options.cache] {
            make_dir(dir)?;
        }
        let inner = Inner { options };
        for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
            let dir = inner.store_dir(format);
            if !dir.join("HEAD").exists() {
                inner.publish_bare(&dir, format)?;
            }
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Which git is used.
    pub fn git(&self) -> &Git {
        &self.inner.options.git
    }

    /// Keeps `object` (a tree or a commit) and all that it needs until `release`. Keeping again
    /// under the same label replaces what was kept.
    ///
    /// # Errors
    /// [`RepositoryError::InputRefused`] for a label that git takes for no name.
    pub fn keep(
        &self,
        repository: &Repository,
        object: &ObjectId,
        label: &str,
    ) -> Result<(), RepositoryError> {
        let name = kept_name(label)?;
        self.inner.crash_point("repository.keep.before");
        repository
            .objects_git("update-ref")
            .arg("--no-deref")
            .args([&name, object.as_str()])
            .bytes()?;
        self.inner.crash_point("repository.keep.after");
        Ok(())
    }

    /// What is kept under `label`.
    ///
    /// # Errors
    /// As for [`Broker::keep`].
    pub fn kept(
        &self,
        repository: &Repository,
        label: &str,
    ) -> Result<Option<ObjectId>, RepositoryError> {
        let name = kept_name(label)?;
        let output = repository
            .objects_git("rev-parse")
            .args(["--verify", "--quiet", "--end-of-options"])
            .arg(name)
            .run(b"")?;
        (output.code == Some(0)).then(|| parse_id(&output.stdout, "rev-parse")).transpose()
    }
}

pub(crate) fn kept_name(label: &str) -> Result<String, RepositoryError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let fits = |part: &str| !part.is_empty() && part.bytes().all(plain);
    if label.len() > 200 || !label.split('/').all(fits) {
        let text = "a label is letters, digits, dashes and underscores, with slashes between";
        return Err(RepositoryError::InputRefused(text.to_owned()));
    }
    Ok(format!("refs/cofferdam/keep/{label}"))
}

impl Inner {
    pub(crate) fn crash_point(&self, name: &'static str) {
        (self.options.crash_point)(name);
    }

    pub(crate) fn store_dir(&self, format: ObjectFormat) -> PathBuf {
        self.options.store.join(format!("{}.git", format.as_str()))
    }

    pub(crate) fn mirror_dir(&self, url: &str) -> PathBuf {
        let name = Digest::of(url.as_bytes()).hex();
        self.mirrors_dir().join(format!("{}.git", &name[..32]))
    }

    pub(crate) fn mirrors_dir(&self) -> PathBuf {
        self.options.store.join("mirrors")
    }

    /// Shared by who writes into the store; alone with who removes from it.
    pub(crate) fn writers_lock(&self) -> PathBuf {
        self.options.store.join("writers.lock")
    }

    pub(crate) fn bases_dir(&self) -> PathBuf {
        self.options.cache.join("bases")
    }

    /// A command in a repository of ours without any other objects.
    pub(crate) fn own_git(&self, git_dir: &Path, subcommand: &'static str) -> GitCommand {
        let place = Place::Objects { git_dir, alternates: &[], shallow: None };
        self.options.git.command(&place, subcommand)
    }

    /// A name that no other process or call uses, for something that is renamed when complete.
    pub(crate) fn scratch_name(&self) -> String {
        // Of the process, not of the broker: one process may open several on the same store.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        format!("tmp-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a bare repository beside `dir` and renames it there; another that was faster wins.
    pub(crate) fn publish_bare(
        &self,
        dir: &Path,
        format: ObjectFormat,
    ) -> Result<(), RepositoryError> {
        let failed = || format!("{} could not be made", dir.display());
        let parent = dir.parent().unwrap_or(dir);
        make_dir(parent)?;
        let scratch = parent.join(self.scratch_name());
        let _ = fs::remove_dir_all(&scratch);
        write_bare(&scratch, format).map_err(RepositoryError::io(failed()))?;
        match fs::rename(&scratch, dir) {
            Ok(()) => Ok(()),
            Err(_) if dir.join("HEAD").exists() => {
                fs::remove_dir_all(&scratch).map_err(RepositoryError::io(failed()))
            }
            Err(source) => Err(RepositoryError::Io { what: failed(), source }),
        }
    }
}

/// A bare repository as git makes it, without templates.
pub(crate) fn write_bare(dir: &Path, format: ObjectFormat) -> std::io::Result<()> {
    for sub in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "info"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    let config = match format {
        ObjectFormat::Sha1 => "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
        ObjectFormat::Sha256 => {
            "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = sha256\n"
        }
    };
    fs::write(dir.join("config"), config)?;
    fs::write(dir.join("info/attributes"), EXACT_ATTRIBUTES)?;
    fs::write(dir.join("HEAD"), "ref: refs/heads/none\n")
}

pub(crate) fn make_dir(dir: &Path) -> Result<(), RepositoryError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(RepositoryError::io(format!("{} could not be made", dir.display())))
}

/// An object id that git answered with, alone on its line.
pub(crate) fn parse_id(answer: &[u8], command: &'static str) -> Result<ObjectId, RepositoryError> {
    let text = std::str::from_utf8(answer).map_err(|_| RepositoryError::Malformed(command))?;
    text.trim_end_matches('\n').parse().map_err(|_| RepositoryError::Malformed(command))
}
