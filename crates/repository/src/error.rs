//! What can go wrong between the broker and a repository, and what the user may do about it.
//!
//! Text from git or from a repository appears only escaped. Must never know how an error is
//! presented: it becomes a `Problem` with a stable code, and the edge does the rest.

use std::path::PathBuf;

use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::escape_bytes;

/// A refusal or failure of the broker. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// No git, or one that is too old.
    #[error("{0}")]
    GitUnusable(String),
    /// There is no repository at the path.
    #[error("{} is not a git repository", shown(.0))]
    NotARepository(PathBuf),
    /// A repository of a kind that cannot be worked on.
    #[error("{reason}")]
    Unsupported {
        /// What is the matter.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// A source or revision that is refused before git sees it.
    #[error("{0}")]
    InputRefused(String),
    /// The branch has no commit yet.
    #[error("branch {0} has no commit yet")]
    UnbornBranch(String),
    /// No commit of that name.
    #[error("revision {revision} names no commit here{why}")]
    RevisionUnknown {
        /// What was asked for, escaped.
        revision: String,
        /// Empty, or why it may be missing.
        why: String,
    },
    /// A path that no tree of ours may hold.
    #[error("{path} cannot be in a tree: {reason}")]
    PathRefused {
        /// The path.
        path: RepoPath,
        /// Which rule.
        reason: &'static str,
    },
    /// A content reader gave more or fewer bytes than announced.
    #[error("{path} changed while it was read: it was announced with {announced_bytes} bytes")]
    ContentSize {
        /// The path.
        path: RepoPath,
        /// What was announced.
        announced_bytes: u64,
    },
    /// The source of changes failed.
    #[error("the changes could not be read: {0}")]
    Changes(Problem),
    /// More bytes than the caller takes.
    #[error("{what} is larger than {bytes_max} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        bytes_max: u64,
    },
    /// The branch is not where it must be.
    #[error("branch {branch} is at {}, not at {}", place(.found), place(.expected))]
    BranchMoved {
        /// In full.
        branch: String,
        /// Where it must be; `None` for not there.
        expected: Option<ObjectId>,
        /// Where it is.
        found: Option<ObjectId>,
    },
    /// The branch is checked out, so moving it would pull the rug from under a working tree.
    #[error("branch {branch} is checked out in {}", shown(.worktree))]
    BranchCheckedOut {
        /// In full.
        branch: String,
        /// Where.
        worktree: PathBuf,
        /// The git command to use there instead.
        command: String,
    },
    /// A branch name that this effect may not write.
    #[error("branch {branch} cannot be written: {reason}")]
    BranchRefused {
        /// As given, escaped.
        branch: String,
        /// Why.
        reason: &'static str,
    },
    /// Two changes of the same place.
    #[error("the change conflicts in {}", listed(.0))]
    MergeConflict(Vec<RepoPath>),
    /// Others built upon what is to be taken back, or took it elsewhere: only a revert on top can
    /// do it.
    #[error("the change is in branch {branch} at {tip}, and taking it back there needs a revert")]
    NeedsRevert {
        /// In full.
        branch: String,
        /// Where it is now.
        tip: ObjectId,
    },
    /// Another git process holds a lock in the repository.
    #[error("the repository is locked by another git process: {0}")]
    Locked(String),
    /// A git command failed in a way that has no better name.
    #[error("git {command} failed: {message}")]
    Git {
        /// The subcommand.
        command: String,
        /// The end of its standard error, escaped.
        message: String,
    },
    /// A git command ran out of its time and was killed.
    #[error("git {command} did not finish within {timeout_ms} ms")]
    TimedOut {
        /// The subcommand.
        command: String,
        /// The limit.
        timeout_ms: u64,
    },
    /// Git said something that is not in its format.
    #[error("git {0} answered in an unknown form")]
    Malformed(&'static str),
    /// A file operation of ours failed.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

fn shown(path: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    escape_bytes(path.as_os_str().as_bytes())
}

fn place(tip: &Option<ObjectId>) -> &str {
    tip.as_ref().map_or("no commit", ObjectId::as_str)
}

/// At most ten paths, then how many more.
fn listed(paths: &[RepoPath]) -> String {
    let mut text = paths.iter().take(10).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if paths.len() > 10 {
        text.push_str(&format!(" and {} more", paths.len() - 10));
    }
    text
}

impl RepositoryError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    fn code(&self) -> Code {
        match self {
            Self::GitUnusable(_) => Code::BoundaryUnavailable,
            Self::NotARepository(_) => Code::NotARepository,
            Self::Unsupported { .. } => Code::RepositoryUnsupported,
            Self::InputRefused(_) => Code::RequestInvalid,
            Self::UnbornBranch(_) => Code::UnbornBranch,
            Self::RevisionUnknown { .. } => Code::RevisionUnknown,
            Self::PathRefused { .. } => Code::PolicyDenied,
            Self::ContentSize { .. } | Self::Locked(_) => Code::StorageFailed,
            Self::Changes(problem) => problem.code,
            Self::TooLarge { .. } => Code::BudgetExhausted,
            Self::BranchMoved { .. } | Self::NeedsRevert { .. } => Code::BranchMoved,
            Self::BranchCheckedOut { .. } => Code::BranchCheckedOut,
            Self::BranchRefused { .. } => Code::BranchProtected,
            Self::MergeConflict(_) => Code::MergeConflict,
            Self::TimedOut { .. } => Code::TimedOut,
            Self::Git { .. } | Self::Io { .. } => Code::StorageFailed,
            Self::Malformed(_) => Code::Internal,
        }
    }

    fn remedy(&self) -> Option<String> {
        let text = match self {
            Self::Unsupported { remedy, .. } => remedy.clone(),
            Self::GitUnusable(_) => {
                format!("install git {} or later", crate::git::VERSION_MIN_TEXT)
            }
            Self::BranchCheckedOut { command, .. } => format!("run there: {command}"),
            Self::PathRefused { .. } => "remove or rename the path in the session".to_owned(),
            Self::ContentSize { .. } => "freeze the session, then read it again".to_owned(),
            Self::Locked(_) => "wait for the other git command, then try again".to_owned(),
            Self::NeedsRevert { .. } => {
                "propose the revert as a change of its own, or take it back by hand".to_owned()
            }
            Self::BranchRefused { .. } => "name a branch that can be written".to_owned(),
            _ => return None,
        };
        Some(text)
    }
}

impl From<RepositoryError> for Problem {
    fn from(error: RepositoryError) -> Self {
        if let RepositoryError::Changes(problem) = error {
            return problem;
        }
        let mut detail = error.to_string();
        if let RepositoryError::Io { source, .. } = &error {
            detail.push_str(": ");
            detail.push_str(&source.to_string());
        }
        let mut problem = Self::new(error.code(), detail);
        problem.retryable =
            matches!(error, RepositoryError::Locked(_) | RepositoryError::TimedOut { .. });
        match error.remedy() {
            Some(remedy) => problem.hint(remedy),
            None => problem,
        }
    }
}
