//! The tool contract: the second contract. What a tool takes, gives, may do and how it may fail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::request::DataClassification;

/// What a tool can do to the world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SideEffectClass {
    /// Nothing.
    ReadOnly,
    /// Something that is undone by discarding the workspace.
    ReversibleWrite,
    /// Something that cannot be undone.
    Irreversible,
    /// Something that can do much harm.
    HighImpact,
    /// Something leaves the machine.
    ExternalCommunication,
    /// Runs code of the repository or the agent.
    CodeExecution,
    /// Changes what the runtime may do.
    Administrative,
}

/// Whether repeating a call is safe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Idempotency {
    /// Repeating changes nothing more.
    Idempotent,
    /// Repeating with the same operation key changes nothing more.
    Keyed,
    /// Repeating may do it twice.
    None,
}

/// What one tool is, for admission, policy, agents and docs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolContract {
    /// Stable name.
    pub tool_id: String,
    /// Semantic version.
    pub version: String,
    /// For people and agents.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// JSON Schema of the input.
    pub input_schema: serde_json::Value,
    /// JSON Schema of the output.
    pub output_schema: serde_json::Value,
    /// Of the output.
    pub data_classification: DataClassification,
    /// `none`: nothing leaves the session.
    pub egress_policy: String,
    /// Name of the credential that is added at execution; never its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_ref: Option<String>,
    /// The class that policy decides on.
    pub permission_class: String,
    /// What makes a person's answer necessary.
    pub approval_triggers: Vec<String>,
    /// What it can do.
    pub side_effect_class: SideEffectClass,
    /// Whether it may be repeated.
    pub idempotency: Idempotency,
    /// How its effect is taken back.
    pub compensation: String,
    /// Longest it may take by default.
    pub timeout_seconds: u64,
    /// `never`: the runtime repeats no call by itself; whoever asks again makes a new call.
    pub retry_policy: String,
    /// Most calls at once in one session.
    pub concurrency: u32,
    /// The error codes it can give.
    pub errors: Vec<String>,
    /// The events and spans that tell of a call.
    pub observability: Vec<String>,
    /// The fields of its events.
    pub audit_fields: Vec<String>,
    /// Since when and in favour of what it is deprecated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecation: Option<String>,
}
