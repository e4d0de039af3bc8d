//! What a merge would do, and whether a branch may be moved at all.
//!
//! A branch that is checked out, or that a rebase or bisect will come back to, belongs to that
//! working tree. Must never write a ref: that is `effects.rs`.

use std::path::{Path, PathBuf};

use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::ids::PrincipalId;
use cofferdam_contract::time::UtcTime;

use crate::effects::CommitSpec;
use crate::error::RepositoryError;
use crate::locate::{Repository, read_small};
use crate::store::Broker;
use crate::three_way::merge_commits;

/// A merge that is asked for.
#[derive(Clone, Debug)]
pub struct MergeRequest {
    /// The branch that takes the change, in full.
    pub into: String,
    /// The applied commit.
    pub commit: ObjectId,
    /// Message of the merge commit, if one is made.
    pub message: String,
    /// Its author and committer.
    pub author: PrincipalId,
    /// Its time.
    pub at: UtcTime,
}

/// How a merge comes about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MergeKind {
    /// The branch contains the change already.
    Already,
    /// The branch moves to the applied commit.
    FastForward,
    /// The branch moves to a new commit with two parents.
    Merge,
}

/// What to put into the intent of a merge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MergePlan {
    /// How.
    pub kind: MergeKind,
    /// The branch, in full.
    pub branch: String,
    /// Where it is and must still be.
    pub expected: ObjectId,
    /// Where it will be; in our store until the effect.
    pub commit: ObjectId,
}

impl Broker {
    /// Computes a merge. Writes nothing to the repository. The plan's commit is kept by `keep`.
    ///
    /// # Errors
    /// [`RepositoryError::BranchCheckedOut`], [`RepositoryError::MergeConflict`],
    /// [`RepositoryError::RevisionUnknown`] if there is no such branch.
    pub fn plan_merge(
        &self,
        repository: &Repository,
        request: &MergeRequest,
    ) -> Result<MergePlan, RepositoryError> {
        let MergeRequest { into, commit, message, author, at } = request;
        repository.check_branch(into)?;
        let tip = repository.branch(into)?.ok_or_else(|| RepositoryError::RevisionUnknown {
            revision: into.clone(),
            why: String::new(),
        })?;
        let plan = |kind, commit: &ObjectId| MergePlan {
            kind,
            branch: into.clone(),
            expected: tip.clone(),
            commit: commit.clone(),
        };
        if repository.is_ancestor(commit, &tip)? {
            return Ok(plan(MergeKind::Already, &tip));
        }
        repository.refuse_checked_out(into, || format!("merge {commit}"))?;
        if repository.is_ancestor(&tip, commit)? {
            return Ok(plan(MergeKind::FastForward, commit));
        }
        let tree = merge_commits(repository, &tip, commit)?.clean()?;
        let parents = [&tip, commit];
        let spec = CommitSpec { tree: &tree, parents: &parents, message, author, at: *at };
        Ok(plan(MergeKind::Merge, &repository.write_commit(&spec)?))
    }
}

impl Repository {
    /// The working tree in which a branch, in full, is checked out or will be again after a rebase
    /// or bisect, linked worktrees included.
    ///
    /// # Errors
    /// Failures of git.
    pub fn checked_out_at(&self, branch: &str) -> Result<Option<PathBuf>, RepositoryError> {
        let list = self.refs_git("worktree").args(["list", "--porcelain", "-z"]).bytes()?;
        let wanted = format!("branch {branch}");
        let mut worktree = &b""[..];
        let mut bare = false;
        for field in list.split(|b| *b == 0) {
            if let Some(path) = field.strip_prefix(b"worktree ") {
                (worktree, bare) = (path, false);
            }
            bare |= field == b"bare";
            if field == wanted.as_bytes() && !bare {
                return Ok(Some(path_of(worktree)));
            }
        }
        self.claimed_at(branch)
    }

    /// A rebase or bisect detaches HEAD and writes down which branch it comes back to.
    fn claimed_at(&self, branch: &str) -> Result<Option<PathBuf>, RepositoryError> {
        let mut git_dirs = vec![self.common_dir.clone()];
        if let Ok(entries) = std::fs::read_dir(self.common_dir.join("worktrees")) {
            git_dirs.extend(entries.flatten().map(|entry| entry.path()));
        }
        let short = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        for git_dir in git_dirs {
            for name in ["rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START"] {
                let failed = RepositoryError::io("the state of a rebase could not be read");
                let text = read_small(&git_dir.join(name)).map_err(failed)?.unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                if matches!(text.trim_end(), claimed if claimed == branch || claimed == short) {
                    return Ok(Some(worktree_of(&git_dir)));
                }
            }
        }
        Ok(None)
    }

    pub(crate) fn refuse_checked_out(
        &self,
        branch: &str,
        command: impl FnOnce() -> String,
    ) -> Result<(), RepositoryError> {
        let Some(worktree) = self.checked_out_at(branch)? else { return Ok(()) };
        let place = worktree.to_string_lossy().replace('\'', r"'\''");
        let command = format!("git -C '{place}' {}", command());
        let command = cofferdam_contract::text::escape_bytes(command.as_bytes());
        Err(RepositoryError::BranchCheckedOut { branch: branch.to_owned(), worktree, command })
    }

    /// What to merge by hand instead of `commit`: of a merge that we made, the side that is ours.
    pub(crate) fn merge_command(&self, commit: &ObjectId) -> String {
        let side = self
            .objects_git("rev-parse")
            .args(["--verify", "--quiet", "--end-of-options"])
            .arg(format!("{commit}^2"))
            .text();
        format!("merge {}", side.unwrap_or_else(|_| commit.to_string()))
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned()
}

/// The working tree of a git directory: its `gitdir` file names `TREE/.git` (gitrepository-layout(5)).
fn worktree_of(git_dir: &Path) -> PathBuf {
    let named = read_small(&git_dir.join("gitdir")).ok().flatten();
    let link = named.map_or_else(|| git_dir.to_owned(), |text| path_of(text.trim_ascii_end()));
    link.parent().unwrap_or(&link).to_owned()
}
