//! Correlation: which trace, request and cause a record belongs to.
//!
//! W3C trace context ids (<https://www.w3.org/TR/trace-context/>). Exporting is done elsewhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, hex, unhex};
use crate::ids::{ApprovalId, CallId, CorrelationId, DecisionId, RequestId};
use crate::ports::Entropy;
use crate::time::UtcTime;

/// 32 hexadecimal digits, not all zero.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9a-f]{32}$"))]
pub struct TraceId(String);

/// 16 hexadecimal digits, not all zero.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9a-f]{16}$"))]
pub struct SpanId(String);

/// Text that is not a trace or span id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a trace context id: expected {digits} lower-case hexadecimal digits, not all zero")]
pub struct InvalidTraceId {
    digits: usize,
}

macro_rules! trace_id {
    ($name:ident, $bytes:literal) => {
        impl $name {
            /// A new id from the injected randomness.
            pub fn generate(entropy: &dyn Entropy) -> Self {
                let mut bytes = [0_u8; $bytes];
                entropy.fill(&mut bytes);
                bytes[0] |= 1;
                Self(hex(&bytes))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidTraceId;
            fn try_from(text: String) -> Result<Self, InvalidTraceId> {
                match unhex(&text) {
                    Some(bytes) if bytes.len() == $bytes && bytes.iter().any(|b| *b != 0) => {
                        Ok(Self(text))
                    }
                    _ => Err(InvalidTraceId { digits: $bytes * 2 }),
                }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

trace_id!(TraceId, 16);
trace_id!(SpanId, 8);

impl SpanId {
    /// The id of the span that a record with this name began; the same name gives the same id.
    pub fn of(name: &str) -> Self {
        let mut bytes = [0_u8; 8];
        bytes.copy_from_slice(&Digest::of(name.as_bytes()).as_bytes()[..8]);
        bytes[0] |= 1;
        Self(hex(&bytes))
    }
}

/// What every event of one run shares.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Correlation {
    /// The trace.
    pub trace: TraceId,
    /// The request.
    pub request: RequestId,
    /// Across systems.
    pub correlation: CorrelationId,
}

/// The version of the trace contract that this build writes.
pub const TRACE_VERSION: &str = "1.1.0";

/// What kind of work a span measures.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// Sessions, storage, processes.
    Infrastructure,
    /// A turn of a model.
    Model,
    /// A call.
    Tool,
    /// A decision.
    Policy,
    /// A phase of a run.
    Business,
    /// A check.
    Evaluation,
}

/// One span of a trace: the fifth contract. Metadata and ids, never payloads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TraceSpan {
    /// Version of this contract.
    pub trace_version: String,
    /// The trace.
    pub trace_id: TraceId,
    /// This span.
    pub span_id: SpanId,
    /// The span it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<SpanId>,
    /// Spans it is related to without being part of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<SpanId>,
    /// What kind of work.
    pub kind: SpanKind,
    /// What was done, such as `run.check`.
    pub name: String,
    /// Start.
    pub started_at_utc: UtcTime,
    /// End.
    pub ended_at_utc: UtcTime,
    /// The request.
    pub request_id: RequestId,
    /// Across systems.
    pub correlation_id: CorrelationId,
    /// The call, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_operation_id: Option<CallId>,
    /// The decision, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
    /// The approval, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<ApprovalId>,
    /// What was read or made, by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifact_refs: Vec<Digest>,
}
