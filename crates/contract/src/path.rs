//! A path inside a repository: bytes, as git has them, already checked.
//!
//! Must never touch a file system: what a path means on disk is decided by whoever opens it
//! beneath a directory descriptor.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{hex, unhex};

/// Longest path that is accepted, in bytes; the kernel's `PATH_MAX` less the terminator.
pub const PATH_BYTES_MAX: usize = 4095;

/// A relative, slash-separated path without empty, `.` or `..` components and without NUL. Any
/// other byte is allowed, since git allows it. In JSON: a string where the bytes are UTF-8, else
/// `{"hex": "…"}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoPath(Vec<u8>);

/// Bytes that are not a path inside a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// Nothing, or over 4,095 bytes.
    #[error("a repository path has 1 to 4095 bytes")]
    Length,
    /// Absolute, or with an empty, `.` or `..` component, or with a NUL byte.
    #[error("a repository path is relative and has no empty, dot or dot-dot component and no nul")]
    Component,
}

impl RepoPath {
    /// Checks `bytes` and makes them a path.
    ///
    /// # Errors
    /// [`InvalidPath`] says which rule was broken.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, InvalidPath> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > PATH_BYTES_MAX {
            return Err(InvalidPath::Length);
        }
        let fits = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
        if !bytes.split(|b| *b == b'/').all(fits) {
            return Err(InvalidPath::Component);
        }
        Ok(Self(bytes))
    }

    /// The bytes as git has them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, first to last.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// The last component.
    pub fn file_name(&self) -> &[u8] {
        self.components().next_back().unwrap_or_default()
    }

    /// Whether this path is `ancestor` or lies beneath it.
    pub fn is_beneath(&self, ancestor: &Self) -> bool {
        self.0
            .strip_prefix(ancestor.as_bytes())
            .is_some_and(|rest| rest.first().is_none_or(|b| *b == b'/'))
    }

    /// The text of the path, if it is UTF-8.
    pub fn as_utf8(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Display for RepoPath {
    /// Escaped for a terminal: control, bidirectional and invisible characters and invalid bytes
    /// appear as escapes, never as themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::text::escape_bytes(&self.0))
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
enum Wire {
    Text(String),
    Bytes { hex: String },
}

impl Serialize for RepoPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_utf8() {
            Some(text) => serializer.serialize_str(text),
            None => Wire::Bytes { hex: hex(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RepoPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = match Wire::deserialize(deserializer)? {
            Wire::Text(text) => text.into_bytes(),
            Wire::Bytes { hex } => {
                unhex(&hex).ok_or_else(|| serde::de::Error::custom("hex is not hexadecimal"))?
            }
        };
        Self::new(bytes).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for RepoPath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RepoPath".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Wire::json_schema(generator)
    }
}
