//! Finds a repository and says what kind it is, before anything is asked of it.
//!
//! Reads the user's refs with plumbing, never the working tree or the index. Must never write.

use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::events::BaseCommit;
use cofferdam_contract::request::RepositorySource;
use cofferdam_contract::text::escape_bytes;

use crate::error::RepositoryError;
use crate::git::Place;
use crate::lock::Lock;
use crate::process::GitCommand;
use crate::store::{Broker, Inner, ObjectFormat, parse_id};
use crate::waits::{refuse_before_discovery, refuse_before_use};

/// What is special about a repository. All of these are supported as far as they are explained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traits {
    /// It has no working tree.
    pub bare: bool,
    /// Its history is cut; a session sees it cut at the same commits.
    pub shallow: bool,
    /// It may lack objects that a remote promised; nothing is ever fetched to fill the gaps.
    pub partial: bool,
    /// The source named a linked worktree of it.
    pub linked: bool,
    /// It is our mirror of a URL: effects are written to the mirror.
    pub mirror: bool,
}

/// A user's repository, or our mirror of one. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
    pub(crate) git_dir: PathBuf,
    pub(crate) common_dir: PathBuf,
    pub(crate) work_tree: Option<PathBuf>,
    pub(crate) format: ObjectFormat,
    pub(crate) traits: Traits,
    /// Of a mirror: keeps it from being collected.
    pub(crate) _used: Option<Arc<Lock>>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository")
            .field("git_dir", &self.git_dir)
            .field("format", &self.format)
            .field("traits", &self.traits)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// Finds the repository that `source` names. A path may lie inside of it. A URL is mirrored in
    /// the store, or the mirror is brought up to date.
    ///
    /// # Errors
    /// [`RepositoryError::NotARepository`], [`RepositoryError::Unsupported`], and for a source that
    /// is refused unseen [`RepositoryError::InputRefused`].
    pub fn locate(&self, source: &RepositorySource) -> Result<Repository, RepositoryError> {
        match source {
            RepositorySource::Path(path) => self.locate_path(Path::new(path)),
            RepositorySource::Url(url) => {
                let (dir, used) = self.mirror(url)?;
                let mut repository = self.locate_path(&dir)?;
                repository._used = Some(Arc::new(used));
                repository.traits.mirror = true;
                Ok(repository)
            }
        }
    }

    /// As [`Broker::locate`], for a path of any bytes.
    ///
    /// # Errors
    /// As for [`Broker::locate`].
    pub fn locate_path(&self, path: &Path) -> Result<Repository, RepositoryError> {
        if !path.is_absolute() {
            return Err(RepositoryError::InputRefused("a repository path is absolute".to_owned()));
        }
        if !path.is_dir() {
            return Err(RepositoryError::NotARepository(path.to_owned()));
        }
        refuse_before_discovery(&self.inner.options.git, path)?;
        let found = self.discover(path)?;
        let common_dir = common_dir(&found.git_dir)?;
        refuse_before_use(&found.git_dir, &common_dir)?;
        let traits = Traits {
            bare: found.bare,
            shallow: found.shallow,
            partial: is_partial(&common_dir),
            linked: common_dir != found.git_dir,
            mirror: false,
        };
        let mut repository = Repository {
            inner: Arc::clone(&self.inner),
            git_dir: found.git_dir,
            common_dir,
            work_tree: None,
            format: found.format,
            traits,
            _used: None,
        };
        if !found.bare {
            repository.work_tree = self.work_tree(path)?;
        }
        Ok(repository)
    }

    fn discover(&self, path: &Path) -> Result<Found, RepositoryError> {
        let git = &self.inner.options.git;
        let output = git
            .command(&Place::Discover(path), "rev-parse")
            .args(["--path-format=absolute", "--show-object-format"])
            .args(["--is-bare-repository", "--is-shallow-repository", "--git-dir"])
            .run(b"")?;
        if output.code != Some(0) {
            return Err(not_found(path, &output.message));
        }
        // The path comes last, since it may hold newlines itself.
        let mut lines = output.stdout.splitn(4, |b| *b == b'\n');
        let mut next = || lines.next().ok_or(RepositoryError::Malformed("rev-parse"));
        let format = std::str::from_utf8(next()?).ok().and_then(ObjectFormat::parse);
        let (bare, shallow) = (next()? == b"true", next()? == b"true");
        let git_dir = path_of(next()?);
        let format = format.ok_or_else(|| RepositoryError::Unsupported {
            reason: "the repository uses an unknown object format".to_owned(),
            remedy: "use a repository with sha1 or sha256 objects".to_owned(),
        })?;
        Ok(Found { git_dir, format, bare, shallow })
    }

    fn work_tree(&self, path: &Path) -> Result<Option<PathBuf>, RepositoryError> {
        let git = &self.inner.options.git;
        let output = git
            .command(&Place::Discover(path), "rev-parse")
            .args(["--path-format=absolute", "--show-toplevel"])
            .run(b"")?;
        Ok((output.code == Some(0)).then(|| path_of(&output.stdout)))
    }
}

struct Found {
    git_dir: PathBuf,
    format: ObjectFormat,
    bare: bool,
    shallow: bool,
}

pub(crate) fn path_of(line: &[u8]) -> PathBuf {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    PathBuf::from(std::ffi::OsString::from_vec(line.to_vec()))
}

fn not_found(path: &Path, message: &str) -> RepositoryError {
    if message.contains("not a git repository") {
        return RepositoryError::NotARepository(path.to_owned());
    }
    RepositoryError::Unsupported {
        reason: format!("git cannot open the repository: {message}"),
        remedy: "make git status work there first".to_owned(),
    }
}

/// The directory that a linked worktree shares with its repository (gitrepository-layout(5)).
pub(crate) fn common_dir(git_dir: &Path) -> Result<PathBuf, RepositoryError> {
    let failed = || RepositoryError::io("the repository's commondir file could not be read");
    let named = match read_small(&git_dir.join("commondir")) {
        Ok(Some(text)) => git_dir.join(path_of(&text)),
        Ok(None) => git_dir.to_owned(),
        Err(source) => return Err(failed()(source)),
    };
    fs::canonicalize(named).map_err(failed())
}

/// A regular file of at most 64 KiB; `None` if there is none. Never waits, whatever is there.
pub(crate) fn read_small(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(64 << 10).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// A pack that came from a promisor remote has a `.promisor` file beside it (partial-clone(7)).
fn is_partial(common_dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(common_dir.join("objects/pack")) else { return false };
    entries.flatten().any(|it| it.path().extension().is_some_and(|ext| ext == "promisor"))
}

impl Repository {
    /// Its git directory; of a linked worktree, that worktree's.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The working tree that the source lies in; `None` if there is none.
    pub fn work_tree(&self) -> Option<&Path> {
        self.work_tree.as_deref()
    }

    /// How it names objects.
    pub fn format(&self) -> ObjectFormat {
        self.format
    }

    /// What is special about it.
    pub fn traits(&self) -> Traits {
        self.traits
    }

    /// The commit that `revision` names.
    ///
    /// # Errors
    /// [`RepositoryError::InputRefused`], [`RepositoryError::UnbornBranch`] or
    /// [`RepositoryError::RevisionUnknown`].
    pub fn resolve(&self, revision: &str) -> Result<BaseCommit, RepositoryError> {
        let dashed = revision.starts_with('-');
        if revision.is_empty() || dashed || revision.chars().any(char::is_control) {
            let text = "a revision does not begin with a dash and has no control characters";
            return Err(RepositoryError::InputRefused(text.to_owned()));
        }
        let Some(commit) = self.parse_revision(&format!("{revision}^{{commit}}"))? else {
            return Err(self.unknown(revision)?);
        };
        let tree = self
            .parse_revision(&format!("{commit}^{{tree}}"))?
            .ok_or_else(|| self.missing(&commit))?;
        let branch = self.branch_named(revision)?;
        Ok(BaseCommit { commit, tree, branch })
    }

    /// Where a branch, in full, is; `None` if it is not there.
    ///
    /// # Errors
    /// [`RepositoryError::Git`] if the refs cannot be read.
    pub fn branch(&self, full_name: &str) -> Result<Option<ObjectId>, RepositoryError> {
        let output =
            self.refs_git("show-ref").args(["--verify", "--hash", "--"]).arg(full_name).run(b"")?;
        match output.code {
            Some(0) => parse_id(&output.stdout, "show-ref").map(Some),
            _ if output.message.contains("not a valid ref") => Ok(None),
            _ => Err(RepositoryError::Git {
                command: "show-ref".to_owned(),
                message: output.message,
            }),
        }
    }

    fn parse_revision(&self, revision: &str) -> Result<Option<ObjectId>, RepositoryError> {
        let output = self
            .refs_git("rev-parse")
            .args(["--verify", "--quiet", "--end-of-options", revision])
            .run(b"")?;
        match output.code {
            Some(0) => parse_id(&output.stdout, "rev-parse").map(Some),
            _ => Ok(None),
        }
    }

    fn branch_named(&self, revision: &str) -> Result<Option<String>, RepositoryError> {
        let output = self
            .refs_git("rev-parse")
            .args(["--verify", "--quiet", "--symbolic-full-name", "--end-of-options", revision])
            .run(b"")?;
        let name = String::from_utf8(output.stdout).unwrap_or_default();
        let name = name.trim_end_matches('\n');
        Ok((output.code == Some(0) && name.starts_with("refs/heads/")).then(|| name.to_owned()))
    }

    /// Which error it is when a revision cannot be resolved.
    fn unknown(&self, revision: &str) -> Result<RepositoryError, RepositoryError> {
        let head = self.refs_git("symbolic-ref").args(["--quiet", "HEAD"]).run(b"")?;
        let head = String::from_utf8_lossy(&head.stdout).trim_end().to_owned();
        let short = head.strip_prefix("refs/heads/").unwrap_or(&head);
        let of_head = revision == "HEAD" || revision == head || revision == short;
        if of_head && !head.is_empty() && self.branch(&head)?.is_none() {
            return Ok(RepositoryError::UnbornBranch(escape_bytes(short.as_bytes())));
        }
        let why = match self.traits {
            Traits { shallow: true, .. } => {
                "; the history is cut: git fetch --unshallow brings the rest"
            }
            Traits { partial: true, .. } => {
                "; the repository is partial: git fetch --refetch --no-filter brings the rest"
            }
            _ => "",
        };
        let revision = escape_bytes(revision.as_bytes());
        Ok(RepositoryError::RevisionUnknown { revision, why: why.to_owned() })
    }

    /// An object is needed and is not there.
    pub(crate) fn missing(&self, object: &ObjectId) -> RepositoryError {
        let remedy = if self.traits.partial {
            "fetch what is missing: git fetch --refetch --no-filter"
        } else {
            "the repository is damaged: see git fsck"
        };
        let kind = if self.traits.partial { "partial and lacks" } else { "without" };
        RepositoryError::Unsupported {
            reason: format!("the repository is {kind} an object that is needed: {object}"),
            remedy: remedy.to_owned(),
        }
    }

    /// A command on the user's refs.
    pub(crate) fn refs_git(&self, subcommand: &'static str) -> GitCommand {
        self.inner.options.git.command(&Place::Refs(&self.git_dir), subcommand)
    }

    /// A command in our store that also sees the user's objects.
    pub(crate) fn objects_git(&self, subcommand: &'static str) -> GitCommand {
        let store = self.inner.store_dir(self.format);
        self.objects_git_in(&store, &[&self.objects_dir()], subcommand)
    }

    /// A command in a repository of ours that also sees other objects, with the user's history cut
    /// where the user's is.
    pub(crate) fn objects_git_in(
        &self,
        git_dir: &Path,
        alternates: &[&Path],
        subcommand: &'static str,
    ) -> GitCommand {
        let shallow = self.common_dir.join("shallow");
        let shallow = self.traits.shallow.then_some(shallow.as_path());
        let place = Place::Objects { git_dir, alternates, shallow };
        self.inner.options.git.command(&place, subcommand)
    }

    pub(crate) fn objects_dir(&self) -> PathBuf {
        self.common_dir.join("objects")
    }
}
