//! The `command` driver: any program is the agent.

use cofferdam_contract::request::DriverRequest;
use cofferdam_tools::{CallRequest, ExecInput, call};
use serde_json::json;

use crate::{Assignment, Driver, Driving, mismatch};

/// Runs one program to its end.
pub(crate) struct Command;

impl Driver for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn summary(&self) -> &'static str {
        "any program is the agent; it runs in the workspace with the arguments given"
    }

    fn drive<'a>(&'a self, assignment: Assignment<'a>) -> Driving<'a> {
        let DriverRequest::Command { argv } = assignment.request else {
            return mismatch("command");
        };
        let Some((executable, args)) = argv.split_first() else {
            return mismatch("command");
        };
        let input =
            ExecInput { executable: executable.clone(), args: args.to_vec(), stdin: String::new() };
        Box::pin(async move {
            let mut request = CallRequest::new("exec", json!(input));
            request.is_agent = true;
            call(assignment.doors, request).await
        })
    }
}
