//! One typed id per noun, so that a run can never be taken for a session.
//!
//! Ids made here are `prefix_` plus a ULID: sortable by creation, 80 random bits, safe in a file
//! name, a branch name and a URL. They identify; they never authorise. Must never know how random
//! bytes or time are obtained: both are passed in.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ports::{Clock, Entropy};

/// Text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {noun}: expected {prefix}_ followed by 26 characters of Crockford base 32")]
pub struct InvalidId {
    noun: &'static str,
    prefix: &'static str,
}

fn is_ulid(text: &str) -> bool {
    text.len() == 26
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z') && !b"ilou".contains(&b))
        && text.as_bytes()[0] <= b'7'
}

fn new_ulid(clock: &dyn Clock, entropy: &dyn Entropy) -> String {
    let mut random = [0_u8; 16];
    entropy.fill(&mut random[6..]);
    let ulid = ulid::Ulid::from_parts(clock.now().unix_ms(), u128::from_be_bytes(random));
    ulid.to_string().to_ascii_lowercase()
}

macro_rules! typed_id {
    ($(#[$doc:meta] $name:ident, $prefix:literal;)*) => {$(
        #[$doc]
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(String);

        impl $name {
            /// What every id of this kind starts with, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id from the injected clock and randomness.
            pub fn generate(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
                Self(format!("{}_{}", $prefix, new_ulid(clock, entropy)))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match text.strip_prefix(concat!($prefix, "_")) {
                    Some(rest) if is_ulid(rest) => Ok(Self(text.to_owned())),
                    _ => Err(InvalidId { noun: stringify!($name), prefix: $prefix }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

typed_id! {
    /// One governed execution: the audit unit.
    RunId, "run";
    /// The isolation context of a run: sandbox, workspace and doors.
    SessionId, "ses";
    /// One tool use.
    CallId, "call";
    /// One logical request.
    RequestId, "req";
    /// Joins records across systems.
    CorrelationId, "cor";
    /// One record in a run's journal.
    EventId, "evt";
    /// One recorded no.
    DenialId, "den";
    /// One answer of the policy.
    DecisionId, "dec";
    /// One person's answer to one proposal.
    ApprovalId, "apr";
    /// One restorable state of a workspace.
    CheckpointId, "ckp";
    /// One thing a check has to say.
    FindingId, "fnd";
    /// One thing more that a session may do for a while.
    GrantId, "grt";
    /// A session's request for a grant.
    GrantRequestId, "grq";
    /// One amount taken from a budget before it is spent.
    ReservationId, "rsv";
    /// One request to the engine to act.
    CommandId, "cmd";
}

/// Who acts: a local user as `local:NAME`, later a subject of an identity provider.
///
/// Taken from the authenticated edge, never from session or model text.
#[derive(
    Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct PrincipalId(String);

/// Text that cannot name a principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a principal is 1 to 256 printable ascii characters without spaces")]
pub struct InvalidPrincipal;

impl PrincipalId {
    /// The principal as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PrincipalId {
    type Error = InvalidPrincipal;
    fn try_from(text: String) -> Result<Self, InvalidPrincipal> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > 256 || !printable {
            return Err(InvalidPrincipal);
        }
        Ok(Self(text))
    }
}

impl FromStr for PrincipalId {
    type Err = InvalidPrincipal;
    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        text.to_owned().try_into()
    }
}

impl From<PrincipalId> for String {
    fn from(id: PrincipalId) -> String {
        id.0
    }
}

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one effect so that it is applied at most once: `RUN/EFFECT/ATTEMPT-INDEPENDENT-PART`.
#[derive(
    Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct OperationKey(pub String);

impl OperationKey {
    /// The key of the effect `kind` that writes `what` for `run`.
    pub fn new(run: &RunId, kind: &str, what: &str) -> Self {
        Self(format!("{run}/{kind}/{what}"))
    }
}

impl fmt::Display for OperationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
