//! Copies of the project's sources in which some expressions are others.
//!
//! For what must be seen to fail: a guard that is off, a fault that is planted. Must never write to
//! the sources themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::shell;

/// An expression in a source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Site {
    file: PathBuf,
    /// As it is written there, once.
    pub(crate) on: String,
    /// What stands in its place.
    pub(crate) off: String,
}

impl Site {
    /// The source with `other` in place of the expression.
    fn replace(&self, source: &str, other: &str) -> anyhow::Result<String> {
        let Self { file, on, .. } = self;
        let times = source.matches(on.as_str()).count();
        ensure!(times == 1, "{} has this {times} times, not once: {on}", file.display());
        Ok(source.replace(on.as_str(), other))
    }
}

/// Copies the sources to `to`, with what is given in place of each site. What is as it was is not
/// written, so that it is not built again.
pub(crate) fn copy<'a>(
    root: &Path,
    to: &Path,
    sites: impl IntoIterator<Item = (&'a Site, String)>,
) -> anyhow::Result<()> {
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let names = shell::output(root, "git", &args)?;
    let mut sources = BTreeMap::new();
    for name in names.split_terminator('\0') {
        // Deleted, and git was not told yet.
        let Ok(bytes) = std::fs::read(root.join(name)) else { continue };
        sources.insert(PathBuf::from(name), bytes);
    }
    for (site, other) in sites {
        let missing = || format!("{} is no source", site.file.display());
        let source = sources.get_mut(&site.file).with_context(missing)?;
        *source = site.replace(std::str::from_utf8(source)?, &other)?.into();
    }
    for (name, bytes) in sources {
        let place = to.join(name);
        if std::fs::read(&place).is_ok_and(|there| there == bytes) {
            continue;
        }
        std::fs::create_dir_all(place.parent().unwrap_or(to))?;
        std::fs::write(&place, bytes).with_context(|| place.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Site;

    #[test]
    fn an_expression_that_is_written_once_is_replaced() {
        let replaced = |on: &str| {
            let site = Site { file: "a.rs".into(), on: on.to_owned(), off: "true".to_owned() };
            site.replace("if may() { go(); }", &site.off)
        };
        assert_eq!(replaced("may()").unwrap(), "if true { go(); }");
        assert!(replaced("must()").is_err());
        assert!(replaced("()").is_err(), "twice");
    }
}
