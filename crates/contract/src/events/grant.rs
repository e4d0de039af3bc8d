//! What happens to a grant: asked for, given or not, used, over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grant::GrantKind;
use crate::ids::{CallId, GrantId, GrantRequestId, PrincipalId, SessionId};
use crate::time::UtcTime;

/// A session asks for a grant, and a person will decide.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequested {
    /// The request.
    pub request: GrantRequestId,
    /// The session that asks.
    pub session: SessionId,
    /// What for.
    pub kind: GrantKind,
    /// Why, in the session's words: redacted, hostile text.
    pub reason: String,
    /// For how many milliseconds, where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// How many uses, where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
}

/// One thing more is possible from here on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Granted {
    /// The grant.
    pub grant: GrantId,
    /// The session that it is for, and no other.
    pub session: SessionId,
    /// What is widened.
    pub kind: GrantKind,
    /// Where a path is, inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Why.
    pub reason: String,
    /// Who gave it: a person, or the runtime by a rule of policy.
    pub by: PrincipalId,
    /// What allowed it: `person`, or the profile's entry, such as `grants.auto:debug`.
    pub rule: String,
    /// The session's request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<GrantRequestId>,
    /// When it ends at the latest.
    pub expires_at: UtcTime,
    /// How many calls may use it.
    pub uses: u64,
}

impl Granted {
    /// What the session is told that it may do: a path by its place inside, unless it named the path
    /// itself.
    pub fn told(&self) -> String {
        match (&self.kind, &self.place, &self.request) {
            (GrantKind::Read(_), Some(place), None) => format!("read:{place}"),
            (GrantKind::Write(_), Some(place), None) => format!("write:{place}"),
            (kind, ..) => kind.to_string(),
        }
    }
}

/// A grant was not given.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRefused {
    /// The session that it would have been for.
    pub session: SessionId,
    /// What was asked for; escaped, since it may be no grant at all.
    pub kind: String,
    /// Who refused: a person, or the runtime by a rule.
    pub by: PrincipalId,
    /// Why; a stable code.
    pub reason_code: String,
    /// The cause, in words.
    pub detail: String,
    /// The session's request, where one was waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<GrantRequestId>,
}

/// A call uses a grant. Recorded before the call starts; for tracing, as it happens.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantUsed {
    /// The grant.
    pub grant: GrantId,
    /// The session.
    pub session: SessionId,
    /// The call, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    /// How many uses are left.
    pub left: u64,
}

/// What a grant came to its end by, without a person.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantEnd {
    /// Its time is up.
    Expired,
    /// Its last use is over.
    UsedUp,
}

/// A grant is over by itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantExpired {
    /// The grant.
    pub grant: GrantId,
    /// The session.
    pub session: SessionId,
    /// By what.
    pub why: GrantEnd,
    /// Processes of the session that held on to it and were killed.
    pub killed: u64,
}

/// A grant was taken back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRevoked {
    /// The grant.
    pub grant: GrantId,
    /// The session.
    pub session: SessionId,
    /// Who took it back; the runtime where the session ended.
    pub by: PrincipalId,
    /// Why.
    pub reason: String,
    /// Processes of the session that held on to it and were killed.
    pub killed: u64,
}

events! {
    /// To a grant.
    GrantEvent {
        /// See [`GrantRequested`].
        Requested(GrantRequested) = "grant.requested",
        /// See [`Granted`].
        Granted(Granted) = "grant.granted",
        /// See [`GrantRefused`].
        Refused(GrantRefused) = "grant.refused",
        /// See [`GrantUsed`].
        Used(GrantUsed) = "grant.used",
        /// See [`GrantExpired`].
        Expired(GrantExpired) = "grant.expired",
        /// See [`GrantRevoked`].
        Revoked(GrantRevoked) = "grant.revoked",
    }
}
