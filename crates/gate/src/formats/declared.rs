//! What manifests and lock files of every ecosystem come down to: packages and where they are from.

use std::collections::BTreeSet;

/// Most packages and indexes that one file may name; a file with more is refused.
pub const ENTRIES_MAX: usize = 100_000;

/// Where a package comes from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// The ecosystem's own registry, or what the tools are set to.
    Default,
    /// A URL: a registry, an archive or a git repository.
    Url(String),
    /// A registry by a name that is defined outside this file.
    Named(String),
    /// A directory or file, relative to the manifest.
    Path(String),
    /// Written in a way that is none of these.
    Unknown(String),
}

/// One package that a file names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Package {
    /// Its name in its registry, normalised as the ecosystem does.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
}

/// Everything that one file declares.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Declared {
    /// Packages.
    pub packages: BTreeSet<Package>,
    /// Registries and indexes that the file sets for all packages.
    pub indexes: BTreeSet<String>,
    /// Files that it takes in, relative to itself.
    pub includes: BTreeSet<String>,
}

/// A file whose dependencies cannot be known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not UTF-8.
    #[error("it is not utf-8")]
    NotText,
    /// Not of the format.
    #[error("it is not valid: {0}")]
    Syntax(String),
    /// Of the format, but of a shape that has no meaning here.
    #[error("{0} has an unexpected form")]
    Shape(String),
    /// More entries than [`ENTRIES_MAX`].
    #[error("it names more than 100000 packages")]
    TooMany,
}

impl Declared {
    /// Adds a package.
    pub(crate) fn add(&mut self, name: impl Into<String>, source: Source) {
        self.packages.insert(Package { name: name.into(), source });
    }

    /// Refuses what is too much.
    pub(crate) fn bounded(self) -> Result<Self, Unreadable> {
        if self.packages.len() > ENTRIES_MAX || self.indexes.len() > ENTRIES_MAX {
            return Err(Unreadable::TooMany);
        }
        Ok(self)
    }
}

/// Parses TOML whose top is a table.
pub(crate) fn toml_table(bytes: &[u8]) -> Result<toml::Table, Unreadable> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::NotText)?;
    text.strip_prefix('\u{FEFF}')
        .unwrap_or(text)
        .parse()
        .map_err(|error: toml::de::Error| Unreadable::Syntax(error.message().to_owned()))
}

/// The table at a dotted path, where there is one.
pub(crate) fn table_at<'a>(table: &'a toml::Table, path: &[&str]) -> Option<&'a toml::Table> {
    path.iter().try_fold(table, |at, name| at.get(*name)?.as_table())
}

/// The string at a key, where there is one.
pub(crate) fn string_at<'a>(table: &'a toml::Table, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str()
}

/// A git URL without the `git+` that tools put before it and the revision after it.
pub(crate) fn git_url(text: &str) -> String {
    let text = text.strip_prefix("git+").unwrap_or(text);
    text.split(['#', '?']).next().unwrap_or_default().to_owned()
}
