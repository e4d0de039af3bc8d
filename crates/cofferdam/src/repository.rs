//! Which repository a command is about: the one that is named, or the one that one stands in.
//!
//! Looks for `.git` by name only. What is found is judged by the broker, which trusts none of it.

use std::path::{Path, PathBuf};

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::RepositorySource;

/// The repository that `named` means: an address that git can fetch from, or a directory.
///
/// # Errors
/// `not_a_repository` if the directory is not there, `repository_unsupported` for a path that is
/// not UTF-8.
pub(crate) fn source(named: Option<&Path>, cwd: &Path) -> Result<RepositorySource, Problem> {
    let text = named.and_then(Path::to_str);
    if let Some(url) = text.filter(|text| is_address(text) && !Path::new(text).exists()) {
        return Ok(RepositorySource::Url(url.to_owned()));
    }
    let top = top(&cwd.join(named.unwrap_or(Path::new("."))))?;
    match top.into_os_string().into_string() {
        Ok(path) => Ok(RepositorySource::Path(path)),
        Err(_) => {
            Err(Problem::new(Code::RepositoryUnsupported, "the repository's path is not UTF-8")
                .hint("move the repository, or name it through a symbolic link"))
        }
    }
}

/// The top of the repository at or above `dir`; `dir` itself where there is none.
fn top(dir: &Path) -> Result<PathBuf, Problem> {
    let dir = dir.canonicalize().map_err(|error| {
        let shown = crate::dirs::shown(dir);
        Problem::new(Code::NotARepository, format!("{shown}: {}", error.to_string().to_lowercase()))
    })?;
    let found = dir.ancestors().find(|at| at.join(".git").symlink_metadata().is_ok());
    Ok(found.unwrap_or(&dir).to_owned())
}

/// Whether git would take it for an address: a URL, or `HOST:PATH` as for scp.
fn is_address(text: &str) -> bool {
    let host = |text: &str| {
        let (host, path) = text.split_once(':')?;
        Some(!host.is_empty() && !host.contains('/') && !path.is_empty())
    };
    text.contains("://") || host(text).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use cofferdam_contract::request::RepositorySource;
    use std::path::Path;

    use super::{is_address, source};

    #[test]
    fn addresses_are_told_from_paths() {
        for address in ["https://host/x.git", "ssh://h/x", "git@host:org/x", "file:///x"] {
            assert!(is_address(address), "{address}");
        }
        for path in [".", "/x/y", "../x", "dir:", "./a:b", "C"] {
            assert!(!is_address(path), "{path}");
        }
    }

    #[test]
    fn a_directory_within_means_the_repository_around_it() {
        let temp = tempfile::tempdir().unwrap();
        let inner = temp.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::create_dir(temp.path().join(".git")).unwrap();
        let top = temp.path().canonicalize().unwrap();
        let expected = RepositorySource::Path(top.to_str().unwrap().to_owned());
        assert_eq!(source(None, &inner).unwrap(), expected);
        assert_eq!(source(Some(Path::new("..")), &inner).unwrap(), expected);
        assert!(source(Some(Path::new("gone")), &inner).is_err());
    }
}
