//! What a repository may say about its own runs: `.cofferdam.toml` of the base commit.
//!
//! The text is hostile: it is bounded, parsed strictly, and nothing that it says can widen what the
//! operator allows (invariant 9). Per field, one of three rules holds:
//! - *combines*: numbers take the smaller (approvals: the larger), lists of what is allowed
//!   intersect, lists of what is guarded join. A wider value has no effect by construction.
//! - *only on*: a switch may turn a guard on; turning one off is refused, since silence would
//!   mislead whoever wrote it.
//! - *operator only*: the field decides about the host or runs code; it is refused here.
//!
//! Must never know how the file was read: it comes from the base commit, never from the workspace.

use std::collections::BTreeSet;

use cofferdam_contract::capability::WallName;
use cofferdam_contract::grant::GrantClass;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{PolicyError, parsed};
use crate::profile::{ChangeKind, CheckCommand};

/// Where the file is in a base commit.
pub const NARROWING_FILE: &str = ".cofferdam.toml";
/// Largest file that is read, in bytes.
pub const NARROWING_BYTES_MAX: usize = 64 << 10;

/// Fields of a profile that a repository has no say in.
pub const OPERATOR_ONLY: &[&str] = &[
    "extends",
    "description",
    "task_type",
    "session.boundary",
    "session.workspace_path",
    "session.workspace_kind",
    "session.caches",
    "session.rootfs",
    "session.setup",
    "session.decoys",
    "session.debug",
    "session.tells_writes",
    "grants.auto",
];

/// What a repository asks for; every field is optional and can only narrow.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Narrowing {
    /// Smaller limits.
    pub limits: LimitsNarrowing,
    /// A smaller budget.
    pub budget: BudgetNarrowing,
    /// Less from the host.
    pub session: SessionNarrowing,
    /// Fewer executables.
    pub executables: ExecutableNarrowing,
    /// Fewer paths that may change, more that are protected.
    pub paths: PathNarrowing,
    /// A smaller change.
    pub change: ChangeNarrowing,
    /// Fewer dependencies.
    pub dependencies: DependencyNarrowing,
    /// More checks.
    pub gate: GateNarrowing,
    /// Fewer grants.
    pub grants: GrantNarrowing,
    /// More approvals.
    pub approval: ApprovalNarrowing,
    /// More protected branches.
    pub merge: MergeNarrowing,
}

/// Each the smaller of this and the operator's.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsNarrowing {
    /// Processes and threads at once.
    pub pids: Option<u64>,
    /// Memory over all processes.
    pub memory_bytes: Option<u64>,
    /// Bytes on disk.
    pub disk_bytes: Option<u64>,
    /// Files and directories.
    pub inodes: Option<u64>,
    /// Bytes kept of each output of a call.
    pub output_bytes: Option<u64>,
    /// Open files of one process.
    pub open_files: Option<u64>,
    /// Longest that one call may take.
    pub call_timeout_ms: Option<u64>,
    /// Processor time, in percent of one processor.
    pub cpu_percent: Option<u64>,
}

/// Each the smaller of this and the operator's.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetNarrowing {
    /// Wall time.
    pub wall_ms: Option<u64>,
    /// Tool time.
    pub tool_ms: Option<u64>,
    /// Rounds of work.
    pub attempts: Option<u64>,
}

/// Less from the host.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionNarrowing {
    /// Of the operator's variables, only these.
    pub environment: Option<BTreeSet<String>>,
    /// Of what the operator lets be carried in, only what these globs match too.
    pub carry: Option<BTreeSet<String>>,
    /// These walls as well.
    pub required_walls: BTreeSet<WallName>,
}

/// Fewer executables for the `exec` tool.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutableNarrowing {
    /// Of what the operator allows, only what these match too.
    pub allow: Option<BTreeSet<String>>,
    /// Not these either.
    pub deny: BTreeSet<String>,
}

/// Fewer paths that may change, more that are protected.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PathNarrowing {
    /// Of what the operator allows, only what these match too.
    pub allowed: Option<BTreeSet<String>>,
    /// These as well.
    pub protected: BTreeSet<String>,
}

/// A smaller change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeNarrowing {
    /// Most paths.
    pub files_max: Option<u64>,
    /// Most lines.
    pub lines_max: Option<u64>,
    /// Most bytes of one file.
    pub file_bytes_max: Option<u64>,
    /// Of the operator's kinds, only these.
    pub kinds: Option<BTreeSet<ChangeKind>>,
}

/// Of one ecosystem.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EcosystemNarrowing {
    /// Of the operator's registries, only what these cover too.
    pub registries: Option<BTreeSet<String>>,
    /// Of the operator's names, only what these match too.
    pub names: Option<BTreeSet<String>>,
}

/// Fewer dependencies.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DependencyNarrowing {
    /// May only be turned on.
    pub lockfile_required: Option<bool>,
    /// Rust.
    pub cargo: EcosystemNarrowing,
    /// JavaScript.
    pub npm: EcosystemNarrowing,
    /// Python.
    pub pypi: EcosystemNarrowing,
}

/// More checks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GateNarrowing {
    /// May only be turned on.
    pub secrets: Option<bool>,
    /// May only be turned on.
    pub detect: Option<bool>,
    /// Run in addition. A name of the operator's cannot be taken, and the executable must be one
    /// that the operator lets be started. The time-out is at most that of a call.
    pub commands: Vec<CheckCommand>,
}

/// Fewer grants.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrantNarrowing {
    /// Of the operator's kinds, only these.
    pub kinds: Option<BTreeSet<GrantClass>>,
    /// The smaller of this and the operator's.
    pub for_ms_max: Option<u64>,
    /// The smaller of this and the operator's.
    pub uses_max: Option<u64>,
}

/// More approvals.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApprovalNarrowing {
    /// The larger of this and the operator's.
    pub required: Option<u32>,
    /// May only be turned off.
    pub requester_may_approve: Option<bool>,
    /// The smaller of this and the operator's.
    pub expires_after_ms: Option<u64>,
}

/// More protected branches.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MergeNarrowing {
    /// These as well.
    pub protected_branches: BTreeSet<String>,
}

impl Narrowing {
    /// Parses the file's bytes.
    ///
    /// # Errors
    /// [`PolicyError::NarrowingInvalid`] naming the field, or [`PolicyError::WouldWiden`] for a
    /// field that is the operator's alone.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > NARROWING_BYTES_MAX {
            return Err(invalid("it has more than 64 KiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("it is not utf-8"))?;
        let table: toml::Table = text.parse().map_err(|error| not_parsed(&error))?;
        for field in OPERATOR_ONLY {
            if names(&table, field) {
                return Err(PolicyError::WouldWiden {
                    field: (*field).to_owned(),
                    detail: "only the operator's profile can say it".to_owned(),
                });
            }
        }
        table.try_into().map_err(|error| not_parsed(&error))
    }
}

/// Whether `table` has the dotted `field`.
fn names(table: &toml::Table, field: &str) -> bool {
    match field.split_once('.') {
        None => table.contains_key(field),
        Some((section, rest)) => {
            table.get(section).and_then(toml::Value::as_table).is_some_and(|it| names(it, rest))
        }
    }
}

fn invalid(detail: &str) -> PolicyError {
    PolicyError::NarrowingInvalid { field: None, detail: detail.to_owned() }
}

/// Parser messages quote the text, and the text is the repository's: it is escaped and cut.
fn not_parsed(error: &toml::de::Error) -> PolicyError {
    let shown = |text: &str| -> String {
        cofferdam_contract::text::escape_bytes(text.as_bytes()).chars().take(300).collect()
    };
    let (field, detail) = parsed(error);
    PolicyError::NarrowingInvalid { field: field.as_deref().map(shown), detail: shown(&detail) }
}
