//! What differs between two trees: as records, and as a patch with stable bytes.
//!
//! Renames are not looked for: a changeset says what is, and guesses differ between versions.
//! Must never decide what a change means: that is the gate's.

use std::collections::HashMap;

use cofferdam_contract::change::{Changeset, FileChange, FileKind, FileVersion};
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::path::RepoPath;

use crate::error::RepositoryError;
use crate::locate::Repository;
use crate::store::Broker;

/// Nothing that a repository or a version of git may choose differently is left open.
const PINNED: &[&str] = &[
    "-r",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--full-index",
    "--ignore-submodules=none",
];
const PATCH_FORM: &[&str] = &[
    "-p",
    "--binary",
    "--unified=3",
    "--inter-hunk-context=0",
    "--diff-algorithm=myers",
    "--indent-heuristic",
    "--submodule=short",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--no-relative",
    "--ws-error-highlight=none",
];

impl Broker {
    /// Everything that differs between two trees, sorted by path.
    ///
    /// # Errors
    /// Failures of git.
    pub fn changeset(
        &self,
        repository: &Repository,
        base_tree: &ObjectId,
        tree: &ObjectId,
    ) -> Result<Changeset, RepositoryError> {
        // Most runs that change nothing: git need not be started to say so.
        let answer = if base_tree == tree {
            Vec::new()
        } else {
            repository
                .objects_git("diff-tree")
                .args(PINNED)
                .args(["-z", "--raw", "--numstat", "--end-of-options"])
                .args([base_tree.as_str(), tree.as_str()])
                .long()
                .bytes()?
        };
        let mut files = parse(&answer).ok_or(RepositoryError::Malformed("diff-tree"))?;
        fill_sizes(repository, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Changeset { base_tree: base_tree.clone(), tree: tree.clone(), files })
    }

    /// The difference between two trees as a binary-safe git patch with full object ids. The same
    /// trees give the same bytes.
    ///
    /// # Errors
    /// [`RepositoryError::TooLarge`] over 256 MiB, and failures of git.
    pub fn patch(
        &self,
        repository: &Repository,
        base_tree: &ObjectId,
        tree: &ObjectId,
    ) -> Result<Vec<u8>, RepositoryError> {
        repository
            .objects_git("diff-tree")
            .args(PINNED)
            .args(PATCH_FORM)
            .arg("--end-of-options")
            .args([base_tree.as_str(), tree.as_str()])
            .long()
            .bytes()
    }
}

/// What differs between two trees or commits, without sizes and counts of lines.
pub(crate) fn records(
    repository: &Repository,
    from: &ObjectId,
    to: &ObjectId,
) -> Result<Vec<FileChange>, RepositoryError> {
    let answer = repository
        .objects_git("diff-tree")
        .args(PINNED)
        .args(["-z", "--raw", "--end-of-options", from.as_str(), to.as_str()])
        .long()
        .bytes()?;
    parse(&answer).ok_or(RepositoryError::Malformed("diff-tree"))
}

/// First a record `:MODE MODE ID ID STATUS NUL PATH NUL` per path, then `ADDED TAB REMOVED TAB
/// PATH NUL` per path (git-diff-tree(1), with `-z`).
pub(crate) fn parse(answer: &[u8]) -> Option<Vec<FileChange>> {
    let mut files: Vec<FileChange> = Vec::new();
    let mut places: HashMap<RepoPath, usize> = HashMap::new();
    let mut fields = answer.split(|b| *b == 0);
    while let Some(field) = fields.next() {
        if field.is_empty() {
            continue;
        }
        if let Some(record) = field.strip_prefix(b":") {
            let path = RepoPath::new(fields.next()?).ok()?;
            let file = raw_record(std::str::from_utf8(record).ok()?, path)?;
            places.insert(file.path.clone(), files.len());
            files.push(file);
            continue;
        }
        let mut parts = field.splitn(3, |b| *b == b'\t');
        let (added, removed) = (count(parts.next()?), count(parts.next()?));
        let file = files.get_mut(*places.get(&RepoPath::new(parts.next()?).ok()?)?)?;
        let is_module = |side: &Option<FileVersion>| {
            side.as_ref().is_some_and(|it| it.kind == FileKind::Submodule)
        };
        if !is_module(&file.before) && !is_module(&file.after) {
            (file.lines_added, file.lines_removed) = (added, removed);
        }
    }
    Some(files)
}

fn raw_record(record: &str, path: RepoPath) -> Option<FileChange> {
    let mut parts = record.split(' ');
    let (mode_before, mode_after) = (parts.next()?, parts.next()?);
    let (id_before, id_after) = (parts.next()?, parts.next()?);
    let before = side(mode_before, id_before)?;
    let after = side(mode_after, id_after)?;
    Some(FileChange { path, before, after, lines_added: None, lines_removed: None })
}

/// One side of a record; the inner `None` if the path is not there.
fn side(mode: &str, id: &str) -> Option<Option<FileVersion>> {
    if mode == "000000" {
        return Some(None);
    }
    let kind = FileKind::from_git_mode(mode)?;
    Some(Some(FileVersion { kind, blob: id.parse().ok()?, size_bytes: 0 }))
}

/// `-` stands for binary content.
fn count(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn versions(files: &mut [FileChange]) -> impl Iterator<Item = &mut FileVersion> {
    files
        .iter_mut()
        .flat_map(|file| file.before.iter_mut().chain(file.after.iter_mut()))
        .filter(|version| version.kind != FileKind::Submodule)
}

fn fill_sizes(repository: &Repository, files: &mut [FileChange]) -> Result<(), RepositoryError> {
    let mut question: Vec<u8> = Vec::new();
    for version in versions(files) {
        question.extend_from_slice(version.blob.as_str().as_bytes());
        question.push(b'\n');
    }
    if question.is_empty() {
        return Ok(());
    }
    let answer = repository
        .objects_git("cat-file")
        .args(["--batch-check=%(objecttype) %(objectsize)", "--buffer"])
        .long()
        .text_of(&question)?;
    let mut lines = answer.lines();
    for version in versions(files) {
        let line = lines.next().ok_or(RepositoryError::Malformed("cat-file"))?;
        let size = line.strip_prefix("blob ").and_then(|size| size.parse().ok());
        version.size_bytes = size.ok_or_else(|| repository.missing(&version.blob))?;
    }
    Ok(())
}
