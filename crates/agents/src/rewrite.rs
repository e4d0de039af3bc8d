//! The `codemod` driver: one structural rule, no model.

use cofferdam_contract::request::DriverRequest;
use cofferdam_tools::{CallRequest, CodemodInput, call};
use serde_json::json;

use crate::{Assignment, Driver, Driving, mismatch};

/// Rewrites the workspace by a rule.
pub(crate) struct Rewrite;

impl Driver for Rewrite {
    fn name(&self) -> &'static str {
        "codemod"
    }

    fn summary(&self) -> &'static str {
        "rewrites the workspace by one structural rule, without a model"
    }

    fn drive<'a>(&'a self, assignment: Assignment<'a>) -> Driving<'a> {
        let DriverRequest::Codemod { rule } = assignment.request else {
            return mismatch("codemod");
        };
        let root = assignment.doors.workspace_path.to_string_lossy().into_owned();
        let input = CodemodInput { rule: rule.clone(), root };
        Box::pin(
            async move { call(assignment.doors, CallRequest::new("codemod", json!(input))).await },
        )
    }
}
