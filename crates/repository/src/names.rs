//! Which names a tree of ours may hold.
//!
//! Git itself refuses `.git` and everything that a file system would take for it (verify_path in
//! read-cache.c; CVE-2014-9390, CVE-2019-1352). `fast-import` does not ask, so we do, before.
//! Must never know what is written under a name.

use cofferdam_contract::change::FileKind;
use cofferdam_contract::path::RepoPath;

use crate::error::RepositoryError;

/// Checks every component of `path`, and that a `.gitmodules` is no symbolic link.
pub(crate) fn check(path: &RepoPath, kind: Option<FileKind>) -> Result<(), RepositoryError> {
    let refuse = |reason| Err(RepositoryError::PathRefused { path: path.clone(), reason });
    // On NTFS a backslash separates components as well.
    for part in path.as_bytes().split(|b| matches!(b, b'/' | b'\\')) {
        if is_dot_git(part) {
            return refuse("git and file systems take it for the .git directory");
        }
        if kind == Some(FileKind::Symlink) && is_dot_gitmodules(part) {
            return refuse("a symbolic link must not stand for .gitmodules");
        }
    }
    match kind {
        Some(FileKind::Submodule) => refuse("a submodule cannot be put into a tree"),
        _ => Ok(()),
    }
}

fn is_dot_git(part: &[u8]) -> bool {
    let folded = folded(part);
    let ntfs = ntfs_stem(&folded);
    folded == b".git" || ntfs == b".git" || ntfs == b"git~1"
}

/// `.gitmodules`, its spellings on HFS+ and NTFS, and its short names (`GITMOD~1` to `~4`,
/// `GI7EBA~1` and the like, which are taken more widely than git takes them).
fn is_dot_gitmodules(part: &[u8]) -> bool {
    let folded = folded(part);
    let stem = ntfs_stem(&folded);
    let short = stem.len() == 8 && stem.contains(&b'~') && stem.starts_with(b"gi");
    folded == b".gitmodules" || stem == b".gitmodules" || short
}

/// What is left on HFS+: lower case, without the characters that it ignores in names.
fn folded(part: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(part.len());
    for chunk in part.utf8_chunks() {
        for c in chunk.valid().chars().filter(|c| !is_ignored_by_hfs(*c)) {
            out.extend_from_slice(c.to_ascii_lowercase().encode_utf8(&mut [0; 4]).as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
    out
}

fn is_ignored_by_hfs(c: char) -> bool {
    matches!(c as u32, 0x200C..=0x200F | 0x202A..=0x202E | 0x206A..=0x206F | 0xFEFF)
}

/// What is left on NTFS: without a stream name and without dots and spaces at the end.
fn ntfs_stem(part: &[u8]) -> &[u8] {
    let stem = part.split(|b| *b == b':').next().unwrap_or_default();
    let end = stem.iter().rposition(|b| !matches!(b, b'.' | b' ')).map_or(0, |at| at + 1);
    &stem[..end]
}
