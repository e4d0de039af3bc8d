//! Typed tools and the one pipeline through which every call goes.
//!
//! A tool is a file with a contract and a plan: what it asks a session to run. A new tool is one
//! file and one line in [`TOOLS`]. Must never know how a session is made, where events are stored
//! or what a policy file looks like: it gets ports.

pub mod call;
mod codemod;
mod exec;

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::tool::ToolContract;
use cofferdam_sandbox::Program;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use call::{
    Book, CallReport, CallRequest, Closing, Doors, Ending, Hands, Opening, Running, SetAside, call,
};
pub use codemod::{Codemod, CodemodInput};
pub use exec::{Exec, ExecInput};

/// Every tool there is.
pub const TOOLS: &[&dyn Tool] = &[&Exec, &Codemod];

/// A typed tool.
pub trait Tool: Send + Sync {
    /// Stable name; equal to `contract().tool_id`.
    fn name(&self) -> &'static str;

    /// What it takes, gives and may do.
    fn contract(&self) -> ToolContract;

    /// Validates `input` and says what it asks of the session.
    ///
    /// # Errors
    /// `request_invalid`, naming the field.
    fn plan(&self, input: &Value) -> Result<Plan, Problem>;
}

/// What a tool asks a session to run. Made by [`Tool::plan`] alone, after validation.
pub struct Plan {
    /// The program.
    pub program: Program,
    /// Bytes for its standard input, unless the caller passes descriptors of its own.
    pub stdin: Vec<u8>,
    /// What policy decides on: names, not payloads.
    pub inputs: Vec<String>,
    /// The executable as asked for, for the record.
    pub executable: Option<String>,
}

/// The tool of that name.
///
/// # Errors
/// `request_invalid`.
pub fn find(name: &str) -> Result<&'static dyn Tool, Problem> {
    let found = TOOLS.iter().find(|tool| tool.name() == name);
    found.copied().ok_or_else(|| {
        let known: Vec<_> = TOOLS.iter().map(|tool| tool.name()).collect();
        Problem::new(Code::RequestInvalid, "no tool has that name")
            .at(Some("tool".to_owned()))
            .hint(format!("the tools are: {}", known.join(", ")))
    })
}

fn parse<T: DeserializeOwned>(input: &Value) -> Result<T, Problem> {
    T::deserialize(input).map_err(|error| {
        Problem::new(Code::RequestInvalid, error.to_string()).at(Some("input".to_owned()))
    })
}

/// What every contract says of retries: a call that failed half-way is the caller's to judge.
const NEVER_RETRIED: &str = "never";

/// What tells of a call of any tool.
fn observability() -> Vec<String> {
    ["call.decided", "call.started", "call.ended", "denial.recorded", "span:tool"]
        .map(str::to_owned)
        .to_vec()
}
