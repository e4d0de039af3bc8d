//! The runtime request: the first contract. What a caller asks for, validated before any effect.
//!
//! Parsing is strict: an unknown field, an unsupported major version, a time that is not UTC or a
//! missing authority is refused with a [`Problem`] naming the field. Paths in `repository` are the
//! caller's own; `task` and `driver.input` are untrusted text and are never executed by the host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::ids::{CorrelationId, PrincipalId, RequestId};
use crate::place::field_of;
use crate::problem::{Code, Problem};
use crate::text::escape_bytes;
use crate::time::UtcTime;

/// The version that this build writes, and the only major version that it reads.
pub const REQUEST_VERSION: &str = "1.0.0";
/// Largest request that is read.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Two classes of run with different limits and budgets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskType {
    /// Short, low latency; a crash ends it.
    Assist,
    /// Long, resilient; a crash resumes it from its checkpoint.
    Autonomous,
}

/// How sensitive the work is: decides redaction and deletion.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataClassification {
    /// May be shown to anyone.
    Public,
    /// For the organisation.
    Internal,
    /// For the people named.
    Confidential,
}

/// How long session text is kept. Events and digests are always kept.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// Until the run is pruned.
    Run,
    /// As long as the journal.
    Journal,
}

/// Where the repository is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RepositorySource {
    /// A directory on this machine, absolute.
    Path(String),
    /// Something that git can fetch from over https, ssh or file.
    Url(String),
}

/// What to start from and what may come of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepositoryRequest {
    /// Where.
    pub source: RepositorySource,
    /// Revision to start from, as git understands it.
    pub base: String,
    /// Directories that git ignores and a build needs, carried in copy-on-write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carry: Vec<String>,
    /// Paths that may change, as globs; empty means what the profile says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_paths: Vec<String>,
    /// Paths that may not change, in addition to the profile's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protected_paths: Vec<String>,
}

/// Which agent, and what it gets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DriverRequest {
    /// Any program is the agent.
    Command {
        /// Executable, then arguments; never a shell string.
        argv: Vec<String>,
    },
    /// A structural rewrite, without a model.
    Codemod {
        /// The rule file's text (YAML).
        rule: String,
    },
    /// A change that was made elsewhere.
    Patch {
        /// Where the change is.
        from: PatchSource,
    },
    /// The caller brings its own loop: the session stays open until it is ended.
    Attached {},
}

impl DriverRequest {
    /// The driver's name in the registry.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Command { .. } => "command",
            Self::Codemod { .. } => "codemod",
            Self::Patch { .. } => "patch",
            Self::Attached {} => "attached",
        }
    }
}

/// Where a patch comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PatchSource {
    /// The text of a unified diff.
    Text(String),
    /// A revision of the same repository; the change is its difference from the base.
    Revision(String),
}

/// What a caller asks the runtime to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimeRequest {
    /// Semantic version of this contract.
    pub contract_version: String,
    /// This request.
    pub request_id: RequestId,
    /// Across systems.
    pub correlation_id: CorrelationId,
    /// The same key from the same actor for the same repository names the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// When it was made.
    pub timestamp_utc: UtcTime,
    /// When its result is of no more use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_utc: Option<UtcTime>,
    /// Who asks. The edge fills it in from what it authenticated; it is not believed from text.
    pub actor: PrincipalId,
    /// The tenant; `local` on one machine.
    pub tenant: String,
    /// Class of run.
    pub task_type: TaskType,
    /// What is to be done, in words. Untrusted.
    pub task: String,
    /// Name of the operator's profile.
    pub profile: String,
    /// What to start from.
    pub repository: RepositoryRequest,
    /// Which agent.
    pub driver: DriverRequest,
    /// Narrower than the profile's, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// How sensitive.
    pub data_classification: DataClassification,
    /// How long text is kept.
    pub retention: Retention,
}

impl RuntimeRequest {
    /// Parses and validates a request.
    ///
    /// # Errors
    /// A [`Problem`] with code `request_invalid` or `version_unsupported`, naming the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(Problem::new(Code::RequestInvalid, "the request is larger than 1 MiB"));
        }
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Problem::new(Code::RequestInvalid, "the request is not a json object"));
        }
        check_version(bytes)?;
        let request: Self =
            serde_json::from_slice(bytes).map_err(|error| refusal(bytes, &error))?;
        request.validate()?;
        Ok(request)
    }

    /// The rules that types cannot say.
    ///
    /// # Errors
    /// A [`Problem`] naming the field.
    pub fn validate(&self) -> Result<(), Problem> {
        let rules: [(&str, bool, &str); 7] = [
            (
                "contractVersion",
                supported(&self.contract_version),
                "only major version 1 is supported",
            ),
            (
                "deadlineUtc",
                self.deadline_utc.is_none_or(|d| d > self.timestamp_utc),
                "the deadline is not after the timestamp",
            ),
            (
                "tenant",
                is_name(&self.tenant),
                "a tenant is 1 to 64 letters, digits, dots, dashes or underscores",
            ),
            (
                "profile",
                is_name(&self.profile),
                "a profile name is 1 to 64 letters, digits, dots, dashes or underscores",
            ),
            ("task", self.task.len() <= 65_536, "a task has at most 65536 bytes"),
            (
                "repository.base",
                is_revision(&self.repository.base),
                "a revision has 1 to 512 bytes, does not begin with a dash and has no control characters",
            ),
            (
                "idempotencyKey",
                self.idempotency_key.as_ref().is_none_or(|k| (1..=256).contains(&k.len())),
                "an idempotency key has 1 to 256 bytes",
            ),
        ];
        match rules.iter().find(|(_, holds, _)| !holds) {
            Some((field, _, rule)) => {
                Err(Problem::new(Code::RequestInvalid, *rule).at(Some((*field).to_owned())))
            }
            None => self.validate_driver(),
        }
    }

    fn validate_driver(&self) -> Result<(), Problem> {
        let refuse = |rule: &str| {
            Err(Problem::new(Code::RequestInvalid, rule).at(Some("driver".to_owned())))
        };
        match &self.driver {
            DriverRequest::Command { argv } if argv.first().is_none_or(String::is_empty) => {
                refuse("the command driver needs an executable")
            }
            DriverRequest::Command { argv } if argv.iter().any(|arg| arg.contains('\0')) => {
                refuse("an argument has a nul character")
            }
            DriverRequest::Patch { from: PatchSource::Revision(rev) } if !is_revision(rev) => {
                refuse("the patch driver needs a revision")
            }
            _ => Ok(()),
        }
    }
}

fn supported(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    matches!(
        (parts.next(), parts.next(), parts.next(), parts.next()),
        (Some(Some(1)), Some(Some(_)), Some(Some(_)), None)
    )
}

/// The version is looked at before the rest, so that a later major version is told from a typo.
fn check_version(bytes: &[u8]) -> Result<(), Problem> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Versioned {
        contract_version: String,
    }
    match serde_json::from_slice::<Versioned>(bytes) {
        Ok(it) if supported(&it.contract_version) => Ok(()),
        Ok(_) => Err(Problem::new(
            Code::VersionUnsupported,
            "only major version 1 of the runtime request is supported",
        )
        .at(Some("contractVersion".to_owned()))),
        Err(error) => Err(refusal(bytes, &error)),
    }
}

/// What serde has against the document. Its message quotes names and values of the caller, which
/// are escaped here and may be as long as the request.
fn refusal(bytes: &[u8], error: &serde_json::Error) -> Problem {
    const DETAIL_CHARS_MAX: usize = 600;
    let detail = escape_bytes(error.to_string().as_bytes());
    let detail = detail.chars().take(DETAIL_CHARS_MAX).collect::<String>();
    Problem::new(Code::RequestInvalid, detail).at(field_of(bytes, error))
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

fn is_revision(text: &str) -> bool {
    (1..=512).contains(&text.len()) && !text.starts_with('-') && !text.chars().any(char::is_control)
}
