//! The `patch` driver: a change that was made elsewhere, to be checked and governed.
//!
//! The patch is foreign text. It is applied by git inside the session, so that no parser of the
//! host reads it.

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::DriverRequest;
use cofferdam_sandbox::CallIo;
use cofferdam_tools::{CallRequest, ExecInput, call};
use serde_json::json;

use crate::{Assignment, Driver, Driving, mismatch};

/// Applies a unified diff to the workspace.
pub(crate) struct Patch;

impl Driver for Patch {
    fn name(&self) -> &'static str {
        "patch"
    }

    fn summary(&self) -> &'static str {
        "applies a change that was made elsewhere: a unified diff or a revision"
    }

    fn drive<'a>(&'a self, assignment: Assignment<'a>) -> Driving<'a> {
        let (DriverRequest::Patch { .. }, Some(patch)) = (assignment.request, assignment.patch)
        else {
            return mismatch("patch");
        };
        let args = ["apply", "--whitespace=nowarn", "-"].map(str::to_owned).to_vec();
        let input = ExecInput { executable: "git".to_owned(), args, stdin: String::new() };
        Box::pin(async move {
            let mut request = CallRequest::new("exec", json!(input));
            request.passed = Some(CallIo::Captured { stdin: patch });
            let report = call(assignment.doors, request).await?;
            if report.outcome.exit_code != Some(0) {
                let said = cofferdam_contract::text::escape_bytes(&report.stderr);
                return Err(Problem::new(
                    Code::DriverFailed,
                    format!("the patch does not apply: {said}"),
                )
                .hint("make the patch against the base commit, or name that commit with --base"));
            }
            Ok(report)
        })
    }
}
