//! `codemod`: a structural rewrite of the workspace by one rule, without a model.
//!
//! Sources are parsed inside the session, in a resident child of init: the host only passes the
//! rule in and the report out.

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::DataClassification;
use cofferdam_contract::tool::{Idempotency, SideEffectClass, ToolContract};
use cofferdam_sandbox::Program;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Plan, Tool, parse};

/// Longest rule file.
const RULE_BYTES_MAX: usize = 256 << 10;

/// Input of `codemod`, and of the resident that carries it out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CodemodInput {
    /// Text of an ast-grep rule with a `fix`.
    pub rule: String,
    /// Directory inside the session to rewrite.
    pub root: String,
}

/// The `codemod` tool.
pub struct Codemod;

impl Codemod {
    /// Name of the resident program that the launcher must know.
    pub const RESIDENT: &'static str = "codemod";
}

impl Tool for Codemod {
    fn name(&self) -> &'static str {
        "codemod"
    }

    fn contract(&self) -> ToolContract {
        ToolContract {
            tool_id: "codemod".to_owned(),
            version: "1.0.0".to_owned(),
            description: "rewrites the workspace by one structural rule".to_owned(),
            owner: "cofferdam".to_owned(),
            input_schema: schema_for!(CodemodInput).to_value(),
            output_schema: schema_for!(cofferdam_contract::events::CallOutcome).to_value(),
            data_classification: DataClassification::Confidential,
            egress_policy: "none".to_owned(),
            authentication_ref: None,
            permission_class: "workspace_write".to_owned(),
            approval_triggers: vec![],
            side_effect_class: SideEffectClass::ReversibleWrite,
            idempotency: Idempotency::Idempotent,
            compensation: "discard the workspace".to_owned(),
            timeout_seconds: 600,
            retry_policy: crate::NEVER_RETRIED.to_owned(),
            concurrency: 1,
            errors: vec!["request_invalid".to_owned(), "session_lost".to_owned()],
            observability: crate::observability(),
            audit_fields: vec!["input".to_owned()],
            deprecation: None,
        }
    }

    fn plan(&self, input: &Value) -> Result<Plan, Problem> {
        let checked: CodemodInput = parse(input)?;
        if checked.rule.len() > RULE_BYTES_MAX {
            return Err(Problem::new(Code::RequestInvalid, "a rule has at most 256 KiB")
                .at(Some("rule".to_owned())));
        }
        let stdin = serde_json::to_vec(&checked)
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        Ok(Plan {
            program: Program::Resident { name: Self::RESIDENT },
            stdin,
            inputs: vec![],
            executable: None,
        })
    }
}
