//! What a grant can widen, as people, agents and records write it: `read:PATH`, `write:PATH`,
//! `debug`, `exec:CLASS`.
//!
//! A grant widens one thing of one session for a while and a number of uses. A *use* is a call:
//! one that starts while a path is there, one that traces, one that a class lets through. Must
//! never know how a grant is carried out, nor whether it should be given.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::{Code, Problem};

/// Longest text of what is granted, in bytes.
pub const GRANT_BYTES_MAX: usize = 4096;
/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;

/// The kinds of grant, without what they are about.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GrantClass {
    /// A directory or file of the host appears inside, read-only.
    Read,
    /// A directory or file of the host appears inside, writable.
    Write,
    /// Processes of one call may trace one another.
    Debug,
    /// An executable that policy denies may be started through the tool door.
    Exec,
}

/// What a grant widens.
#[derive(
    Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum GrantKind {
    /// An absolute path of the host, to be read.
    Read(String),
    /// An absolute path of the host, to be read and written.
    Write(String),
    /// Tracing within one call.
    Debug,
    /// Executables, as a pattern like those of a profile's `executables`.
    Exec(String),
}

/// Text that names no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrant {
    /// There will be such a grant; the door that could give it is not there yet.
    #[error("no grant of the kind {0} can be given: there is no door for it")]
    NoDoor(&'static str),
    /// It is none of the kinds.
    #[error("a grant is read:PATH, write:PATH, debug or exec:CLASS")]
    UnknownKind,
    /// The path is not one that means one thing only.
    #[error("a path of a grant is absolute, without . and .., empty names or control characters")]
    PathNotPlain,
    /// The class is empty, allows everything, or cannot be a pattern.
    #[error("a class is the name, the path or a pattern of executables, and not all of them")]
    ClassTooWide,
    /// It is over its bound.
    #[error("a grant has at most {GRANT_BYTES_MAX} bytes")]
    TooLong,
}

impl From<InvalidGrant> for Problem {
    fn from(error: InvalidGrant) -> Self {
        let code = match error {
            InvalidGrant::NoDoor(_) => Code::GrantUnsupported,
            _ => Code::RequestInvalid,
        };
        Self::new(code, error.to_string()).at(Some("kind".to_owned()))
    }
}

impl GrantKind {
    /// Which kind it is.
    pub fn class(&self) -> GrantClass {
        match self {
            Self::Read(_) => GrantClass::Read,
            Self::Write(_) => GrantClass::Write,
            Self::Debug => GrantClass::Debug,
            Self::Exec(_) => GrantClass::Exec,
        }
    }
}

impl FromStr for GrantKind {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        if text.len() > GRANT_BYTES_MAX {
            return Err(InvalidGrant::TooLong);
        }
        let (kind, about) = match text.split_once(':') {
            Some((kind, about)) => (kind, Some(about)),
            None => (text, None),
        };
        match (kind, about) {
            ("read", Some(path)) => plain_path(path).map(Self::Read),
            ("write", Some(path)) => plain_path(path).map(Self::Write),
            ("debug", None) => Ok(Self::Debug),
            ("exec", Some(class)) => narrow_class(class).map(Self::Exec),
            ("net", Some(_)) => Err(InvalidGrant::NoDoor("net")),
            ("secret", Some(_)) => Err(InvalidGrant::NoDoor("secret")),
            ("budget", Some(_)) => Err(InvalidGrant::NoDoor("budget")),
            _ => Err(InvalidGrant::UnknownKind),
        }
    }
}

fn plain_path(path: &str) -> Result<String, InvalidGrant> {
    let names = path.strip_prefix('/').ok_or(InvalidGrant::PathNotPlain)?;
    let plain = |name: &str| !matches!(name, "" | "." | "..");
    if names.split('/').all(plain) && !path.chars().any(char::is_control) {
        return Ok(path.to_owned());
    }
    Err(InvalidGrant::PathNotPlain)
}

fn narrow_class(class: &str) -> Result<String, InvalidGrant> {
    let names_something = class.chars().any(char::is_alphanumeric);
    if names_something && !class.chars().any(char::is_control) && class.len() <= 512 {
        return Ok(class.to_owned());
    }
    Err(InvalidGrant::ClassTooWide)
}

impl TryFrom<String> for GrantKind {
    type Error = InvalidGrant;

    fn try_from(text: String) -> Result<Self, InvalidGrant> {
        text.parse()
    }
}

impl From<GrantKind> for String {
    fn from(kind: GrantKind) -> Self {
        kind.to_string()
    }
}

impl fmt::Display for GrantKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path) => write!(f, "read:{path}"),
            Self::Write(path) => write!(f, "write:{path}"),
            Self::Debug => f.write_str("debug"),
            Self::Exec(class) => write!(f, "exec:{class}"),
        }
    }
}

/// A grant, or a session's request for one.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum GrantRef {
    /// A grant.
    Grant(crate::ids::GrantId),
    /// A request.
    Request(crate::ids::GrantRequestId),
}

impl FromStr for GrantRef {
    type Err = crate::ids::InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Request).or_else(|_| text.parse().map(Self::Grant))
    }
}

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grant(grant) => write!(f, "{grant}"),
            Self::Request(request) => write!(f, "{request}"),
        }
    }
}

/// What a session asks for: one line of JSON, at most [`GRANT_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantWish {
    /// What for.
    pub kind: GrantKind,
    /// Why. The session's words.
    pub reason: String,
    /// For how many milliseconds; as long as policy gives where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// How many uses; one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
}

/// What a session is told of its grants, one line of JSON each.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum GrantNote {
    /// A person will decide.
    Pending {
        /// What was asked for.
        kind: String,
        /// The request.
        request: crate::ids::GrantRequestId,
    },
    /// It may be used from now on.
    Granted {
        /// What may be done.
        kind: String,
        /// The grant.
        grant: crate::ids::GrantId,
        /// Where a path is, inside.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<String>,
        /// Until when.
        expires_at: crate::time::UtcTime,
        /// How many calls may use it.
        uses: u64,
    },
    /// It was not given.
    Refused {
        /// What was asked for, escaped and cut.
        kind: String,
        /// Why; a stable code.
        reason_code: String,
        /// What may be done instead.
        hint: String,
    },
    /// It is over.
    Ended {
        /// What could be done.
        kind: String,
        /// The grant.
        grant: crate::ids::GrantId,
        /// `expired`, `used_up` or `revoked`.
        why: String,
    },
}
