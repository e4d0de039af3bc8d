//! `exec`: runs one executable with structured arguments, never a shell string.
//!
//! A shell is an executable that policy may allow. An interpreter, an executed memfd or ld.so goes
//! round any list of executables: the list is a policy of this door, the boundary is the wall.

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::DataClassification;
use cofferdam_contract::text::escape_bytes;
use cofferdam_contract::tool::{Idempotency, SideEffectClass, ToolContract};
use cofferdam_sandbox::Program;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Plan, Tool, parse};

/// Most bytes of all arguments together; the kernel's own bound is about 2 MiB.
const ARGUMENT_BYTES_MAX: usize = 1 << 20;

/// Input of `exec`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecInput {
    /// A path inside the session, or a name that is looked up in its PATH.
    pub executable: String,
    /// The arguments after the executable's own name.
    #[serde(default)]
    pub args: Vec<String>,
    /// Text for standard input.
    #[serde(default)]
    pub stdin: String,
}

/// The `exec` tool.
pub struct Exec;

impl Tool for Exec {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn contract(&self) -> ToolContract {
        ToolContract {
            tool_id: "exec".to_owned(),
            version: "1.0.0".to_owned(),
            description: "runs one executable with arguments inside the session".to_owned(),
            owner: "cofferdam".to_owned(),
            input_schema: schema_for!(ExecInput).to_value(),
            output_schema: schema_for!(cofferdam_contract::events::CallOutcome).to_value(),
            data_classification: DataClassification::Confidential,
            egress_policy: "none".to_owned(),
            authentication_ref: None,
            permission_class: "code_execution".to_owned(),
            approval_triggers: vec![],
            side_effect_class: SideEffectClass::CodeExecution,
            idempotency: Idempotency::None,
            compensation: "discard the workspace".to_owned(),
            timeout_seconds: 600,
            retry_policy: crate::NEVER_RETRIED.to_owned(),
            concurrency: 64,
            errors: vec![
                "request_invalid".to_owned(),
                "executable_denied".to_owned(),
                "budget_exhausted".to_owned(),
                "timed_out".to_owned(),
                "session_lost".to_owned(),
            ],
            observability: crate::observability(),
            audit_fields: vec!["executable".to_owned(), "input".to_owned()],
            deprecation: None,
        }
    }

    fn plan(&self, input: &Value) -> Result<Plan, Problem> {
        let input: ExecInput = parse(input)?;
        let refuse = |rule: &str, field: &str| {
            Err(Problem::new(Code::RequestInvalid, rule).at(Some(field.to_owned())))
        };
        if input.executable.is_empty() || input.executable.contains('\0') {
            return refuse("an executable is a name or a path without nul", "executable");
        }
        if input.args.iter().any(|arg| arg.contains('\0')) {
            return refuse("an argument has a nul character", "args");
        }
        if input.args.iter().map(String::len).sum::<usize>() > ARGUMENT_BYTES_MAX {
            return refuse("the arguments have more than 1 MiB", "args");
        }
        Ok(Plan {
            executable: Some(escape_bytes(input.executable.as_bytes())),
            inputs: vec![input.executable.clone()],
            program: Program::Execute {
                executable: input.executable.into(),
                args: input.args.into_iter().map(Into::into).collect(),
            },
            stdin: input.stdin.into_bytes(),
        })
    }
}
