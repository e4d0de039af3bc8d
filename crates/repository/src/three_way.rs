//! Three-way merges of trees, without a working tree.
//!
//! `merge-tree --write-tree` takes commits; where only trees are known they are dressed as commits
//! with a common parent (so that git 2.38 is enough). Attributes and merge drivers of the
//! repository have no say. Must never write a ref.

use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::path::RepoPath;

use crate::error::RepositoryError;
use crate::locate::Repository;
use crate::store::{Broker, parse_id};

/// What came of carrying a change over to another tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rebased {
    /// The resulting tree, in the store.
    Clean(ObjectId),
    /// Where both changed the same.
    Conflict(Vec<RepoPath>),
}

impl Rebased {
    /// The tree, or a conflict as an error.
    ///
    /// # Errors
    /// [`RepositoryError::MergeConflict`].
    pub fn clean(self) -> Result<ObjectId, RepositoryError> {
        match self {
            Self::Clean(tree) => Ok(tree),
            Self::Conflict(paths) => Err(RepositoryError::MergeConflict(paths)),
        }
    }
}

impl Broker {
    /// The change from `old_base_tree` to `tree`, made to `new_base_tree`.
    ///
    /// # Errors
    /// Failures of git; a conflict is no error.
    pub fn rebase(
        &self,
        repository: &Repository,
        tree: &ObjectId,
        old_base_tree: &ObjectId,
        new_base_tree: &ObjectId,
    ) -> Result<Rebased, RepositoryError> {
        three_way(repository, old_base_tree, new_base_tree, tree)
    }

    /// The tree of `tip` without what `commit` changed against its first parent.
    ///
    /// # Errors
    /// Failures of git; a conflict is no error.
    pub fn revert_tree(
        &self,
        repository: &Repository,
        tip: &ObjectId,
        commit: &ObjectId,
    ) -> Result<Rebased, RepositoryError> {
        let tree_of = |name: &str| {
            let command =
                repository.objects_git("rev-parse").args(["--verify", "--end-of-options"]);
            command
                .arg(format!("{name}^{{tree}}"))
                .bytes()
                .and_then(|it| parse_id(&it, "rev-parse"))
        };
        let before = tree_of(&format!("{commit}^1"))?;
        three_way(repository, &tree_of(commit.as_str())?, &tree_of(tip.as_str())?, &before)
    }
}

fn three_way(
    repository: &Repository,
    base: &ObjectId,
    ours: &ObjectId,
    theirs: &ObjectId,
) -> Result<Rebased, RepositoryError> {
    let dress = |tree: &ObjectId, parent: Option<&ObjectId>| {
        let mut command = repository.objects_git("commit-tree").arg(tree.as_str());
        if let Some(parent) = parent {
            command = command.args(["-p", parent.as_str()]);
        }
        for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
            command = command.env(name, "@0 +0000");
        }
        command.bytes_of(b"\n").and_then(|answer| parse_id(&answer, "commit-tree"))
    };
    let base = dress(base, None)?;
    merge_commits(repository, &dress(ours, Some(&base))?, &dress(theirs, Some(&base))?)
}

/// Merges two commits of which git finds the common ancestors itself.
pub(crate) fn merge_commits(
    repository: &Repository,
    ours: &ObjectId,
    theirs: &ObjectId,
) -> Result<Rebased, RepositoryError> {
    let output = repository
        .objects_git("merge-tree")
        .args(["--write-tree", "-z", "--name-only", "--no-messages"])
        .args([ours.as_str(), theirs.as_str()])
        .long()
        .run(b"")?;
    let mut fields = output.stdout.split(|b| *b == 0);
    let malformed = || RepositoryError::Malformed("merge-tree");
    match output.code {
        Some(0) => parse_id(fields.next().ok_or_else(malformed)?, "merge-tree").map(Rebased::Clean),
        Some(1) => {
            let paths = fields.skip(1).filter(|it| !it.is_empty()).map(RepoPath::new);
            paths.collect::<Result<_, _>>().map(Rebased::Conflict).map_err(|_| malformed())
        }
        _ => {
            Err(RepositoryError::Git { command: "merge-tree".to_owned(), message: output.message })
        }
    }
}
