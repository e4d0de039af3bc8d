//! Looks into a tree without checking it out: one file by its path, or every path.
//!
//! Must never read more of a file than the caller's bound, nor follow a symbolic link.

use cofferdam_contract::change::FileKind;
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::path::RepoPath;

use crate::error::RepositoryError;
use crate::locate::Repository;
use crate::store::Broker;

impl Broker {
    /// The content of the regular file at `path`; `None` if there is none.
    ///
    /// # Errors
    /// [`RepositoryError::TooLarge`] if it has more than `bytes_max` bytes; failures of git.
    pub fn read_file(
        &self,
        repository: &Repository,
        tree: &ObjectId,
        path: &RepoPath,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, RepositoryError> {
        match self.entry_at(repository, tree, path)? {
            Some((object, true)) => self.read_blob(repository, &object, bytes_max).map(Some),
            Some((_, false)) | None => Ok(None),
        }
    }

    /// As [`Broker::read_file`], for a file whose rules must not be missed: anything else in its
    /// place, such as a link, is an error and not an absence.
    ///
    /// # Errors
    /// As for [`Broker::read_file`]; [`RepositoryError::Unsupported`] for what is no regular file.
    pub fn read_rules(
        &self,
        repository: &Repository,
        tree: &ObjectId,
        path: &RepoPath,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, RepositoryError> {
        match self.entry_at(repository, tree, path)? {
            Some((object, true)) => self.read_blob(repository, &object, bytes_max).map(Some),
            Some((_, false)) => Err(RepositoryError::Unsupported {
                reason: format!("{path} is not a regular file in the base commit"),
                remedy: format!("commit {path} as a regular file, or remove it"),
            }),
            None => Ok(None),
        }
    }

    /// What is at a path of a tree, and whether it is a regular file.
    fn entry_at(
        &self,
        repository: &Repository,
        tree: &ObjectId,
        path: &RepoPath,
    ) -> Result<Option<(ObjectId, bool)>, RepositoryError> {
        use std::os::unix::ffi::OsStrExt as _;
        let listed = repository
            .objects_git("ls-tree")
            .args(["-z", "--end-of-options", tree.as_str()])
            .arg(std::ffi::OsStr::from_bytes(path.as_bytes()))
            .bytes()?;
        for line in listed.split(|b| *b == 0).filter(|line| !line.is_empty()) {
            let entry = entry(line).ok_or(RepositoryError::Malformed("ls-tree"))?;
            if entry.path == path.as_bytes() {
                return Ok(Some((entry.object, is_regular(entry.mode))));
            }
        }
        Ok(None)
    }

    /// Shows every path of a tree to `visit`, directories not among them.
    ///
    /// # Errors
    /// Failures of git.
    pub fn paths(
        &self,
        repository: &Repository,
        tree: &ObjectId,
        visit: &mut dyn FnMut(&RepoPath),
    ) -> Result<(), RepositoryError> {
        let listed = repository
            .objects_git("ls-tree")
            .args(["-r", "-z", "--name-only", "--end-of-options", tree.as_str()])
            .long()
            .bytes()?;
        for name in listed.split(|b| *b == 0).filter(|name| !name.is_empty()) {
            let path = RepoPath::new(name).map_err(|_| RepositoryError::Malformed("ls-tree"))?;
            visit(&path);
        }
        Ok(())
    }
}

struct Entry<'a> {
    mode: &'a str,
    object: ObjectId,
    path: &'a [u8],
}

/// `MODE SP TYPE SP OBJECT TAB PATH`, see git-ls-tree(1).
fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let tab = line.iter().position(|b| *b == b'\t')?;
    let mut fields = std::str::from_utf8(&line[..tab]).ok()?.split(' ');
    let (mode, _kind, object) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Entry { mode, object: object.parse().ok()?, path: &line[tab + 1..] })
}

fn is_regular(mode: &str) -> bool {
    matches!(FileKind::from_git_mode(mode), Some(FileKind::File | FileKind::Executable))
}
