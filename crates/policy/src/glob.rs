//! Lists of patterns, and the one way they are matched.
//!
//! `*` and `?` stay within a path component, `**` crosses them, `[…]` and `{a,b}` are as usual, a
//! trailing `/` means everything beneath. Matching is on bytes, since git's paths are.
//! Must never know what a pattern is for.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 512;
/// Most patterns in one list.
pub const PATTERNS_MAX: usize = 512;

/// What is allowed by every one of several lists: intersection by construction.
///
/// Each layer comes from one author (operator, repository, request). A thing is allowed if in
/// every layer at least one pattern matches it; no layers allow nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AllowList {
    layers: BTreeSet<BTreeSet<String>>,
}

impl AllowList {
    /// What the operator allows.
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        Self { layers: BTreeSet::from([patterns.into_iter().collect()]) }
    }

    /// The same, and only if `patterns` allow it too.
    #[must_use]
    pub fn and(mut self, patterns: impl IntoIterator<Item = String>) -> Self {
        self.layers.insert(patterns.into_iter().collect());
        self
    }

    /// The lists, all of which must allow.
    pub fn layers(&self) -> impl Iterator<Item = &BTreeSet<String>> {
        self.layers.iter()
    }

    /// Whether every layer has an entry for which `matches` is true.
    pub fn allows(&self, matches: impl Fn(&str) -> bool) -> bool {
        !self.layers.is_empty()
            && self.layers.iter().all(|layer| layer.iter().any(|entry| matches(entry)))
    }
}

/// Patterns that are ready to match, with the text they came from.
#[derive(Clone, Debug)]
pub struct Patterns {
    set: GlobSet,
    texts: Vec<String>,
}

impl Patterns {
    /// Compiles `patterns` as they are.
    ///
    /// # Errors
    /// What is wrong with which pattern, in words.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a String>) -> Result<Self, String> {
        Self::build(patterns.into_iter().map(|text| (text.as_str(), beneath(text))), false)
    }

    /// Compiles patterns of things to be guarded: without regard to case, and each pattern also
    /// covers the directory it names and everything beneath, so that replacing `.github` by a file
    /// is seen as much as changing `.github/workflows/ci.yml`.
    ///
    /// # Errors
    /// What is wrong with which pattern, in words.
    pub fn guarding<'a>(patterns: impl IntoIterator<Item = &'a String>) -> Result<Self, String> {
        let both = patterns.into_iter().flat_map(|text| {
            let top = text.trim_end_matches("/**").trim_end_matches('/');
            let top = if top.is_empty() { text.as_str() } else { top };
            [(text.as_str(), top.to_owned()), (text.as_str(), format!("{top}/**"))]
        });
        Self::build(both, true)
    }

    fn build<'a>(
        patterns: impl IntoIterator<Item = (&'a str, String)>,
        any_case: bool,
    ) -> Result<Self, String> {
        let mut builder = GlobSetBuilder::new();
        let mut texts = Vec::new();
        for (text, pattern) in patterns {
            check(text)?;
            let glob = GlobBuilder::new(&pattern)
                .literal_separator(true)
                .backslash_escape(true)
                .case_insensitive(any_case)
                .build()
                .map_err(|error| format!("pattern {text:?}: {}", error.kind()))?;
            builder.add(glob);
            texts.push(text.to_owned());
        }
        if texts.len() > 2 * PATTERNS_MAX {
            return Err(format!("a list has at most {PATTERNS_MAX} patterns"));
        }
        let set = builder.build().map_err(|error| format!("the patterns: {}", error.kind()))?;
        Ok(Self { set, texts })
    }

    /// The first pattern that matches `bytes`, as it was written.
    pub fn first(&self, bytes: &[u8]) -> Option<&str> {
        let candidate = Candidate::new(Path::new(OsStr::from_bytes(bytes)));
        let index = self.set.matches_candidate(&candidate).into_iter().min()?;
        self.texts.get(index).map(String::as_str)
    }

    /// Whether any pattern matches `bytes`.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.set.is_match(Path::new(OsStr::from_bytes(bytes)))
    }
}

fn beneath(text: &str) -> String {
    if text.ends_with('/') { format!("{text}**") } else { text.to_owned() }
}

/// Every layer of an [`AllowList`], ready to match.
#[derive(Clone, Debug)]
pub struct Layers(Vec<Patterns>);

impl Layers {
    /// Compiles every layer.
    ///
    /// # Errors
    /// What is wrong with which pattern, in words.
    pub fn new(list: &AllowList) -> Result<Self, String> {
        Ok(Self(list.layers().map(Patterns::new).collect::<Result<_, _>>()?))
    }

    /// Whether every layer matches `bytes`.
    pub fn allow(&self, bytes: &[u8]) -> bool {
        !self.0.is_empty() && self.0.iter().all(|layer| layer.matches(bytes))
    }
}

/// The rules for the text of one pattern.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
        return Err(format!("a pattern has 1 to {PATTERN_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("a pattern has no control characters".to_owned());
    }
    Ok(())
}
