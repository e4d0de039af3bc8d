//! What language tools have downloaded on the host, where the same tools look inside.
//!
//! Each is a directory that holds downloads and nothing else: credentials, configuration and logs
//! lie beside it and stay out. One more tool is one more entry here.

use std::path::{Path, PathBuf};

use cofferdam_contract::mount::Cache;

use super::{Builder, HOME};

/// A cache of the host and where it is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDir {
    /// Whose.
    pub name: Cache,
    /// On the host; a directory, and no symbolic link leads there from its tool's own.
    pub source: PathBuf,
    /// Inside, below [`HOME`].
    pub target: PathBuf,
}

/// Whose, the variable that names its tool's directory, that directory below home, what of it is
/// the cache, and where it is inside. Only cargo's variable is heeded, since rustup sets it; another
/// directory could be anything.
const CACHES: &[(Cache, Option<&str>, &str, &str, &str)] = &[
    (Cache::Cargo, Some("CARGO_HOME"), ".cargo", "registry", ".cargo/registry"),
    (Cache::Pip, None, ".cache", "pip", ".cache/pip"),
    (Cache::Npm, None, ".npm", "_cacache", ".npm/_cacache"),
];

pub(super) fn add(builder: &mut Builder<'_>) {
    for (name, variable, below_home, part, inside) in CACHES {
        let tool = match variable {
            Some(variable) => builder.dir(variable, below_home),
            None => builder.home.join(below_home),
        };
        let source = tool.join(part);
        if is_its_own(&tool, &source) && !builder.home.starts_with(&source) {
            let target = Path::new(HOME).join(inside);
            builder.caches.push(CacheDir { name: *name, source, target });
        }
    }
}

/// A link in the cache's place could lead to anything.
fn is_its_own(tool: &Path, source: &Path) -> bool {
    source.symlink_metadata().is_ok_and(|it| it.is_dir())
        && tool
            .canonicalize()
            .is_ok_and(|tool| source.canonicalize().is_ok_and(|it| it.starts_with(tool)))
}
