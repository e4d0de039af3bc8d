//! The compiled policy as data: what is hashed, stored, put into evidence and looked up in.
//!
//! Every collection is ordered and every field always written (but for grants, which came later), so that the same decisions have the
//! same bytes. Must never hold anything that is decided later than admission.

use std::collections::BTreeSet;

use cofferdam_contract::budget::Budget;
use cofferdam_contract::capability::{Boundary, WallName, WorkspaceKind};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::mount::Cache;
use cofferdam_contract::path::RepoPath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::glob::AllowList;
use crate::profile::{ApprovalTable, ChangeTable, GateTable, GrantTable, WorkspacePath};

/// Version of these tables.
pub const TABLES_VERSION: u32 = 1;

/// Everything that was decided at admission.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// [`TABLES_VERSION`].
    pub version: u32,
    /// Name of the operator's profile.
    pub profile: String,
    /// Limits of each session.
    pub limits: Limits,
    /// Budget of the run.
    pub budget: Budget,
    /// What a session looks like.
    pub session: SessionRules,
    /// What the `exec` tool may start.
    pub executables: ExecutableRules,
    /// Where a change may be.
    pub paths: PathRules,
    /// How large a change may be, and of what kinds.
    pub change: ChangeTable,
    /// What a change may depend on.
    pub dependencies: DependencyRules,
    /// What else a change must pass.
    pub gate: GateTable,
    /// What may be granted. Where it is not written, nothing may.
    #[serde(default, skip_serializing_if = "no_grants")]
    pub grants: GrantTable,
    /// Who must agree to a change.
    pub approval: ApprovalTable,
    /// Globs of the branches that `merge` refuses.
    pub protected_branches: BTreeSet<String>,
}

/// A policy that was compiled before there were grants has the bytes that it had.
fn no_grants(table: &GrantTable) -> bool {
    *table == GrantTable::default()
}

/// What a session looks like.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRules {
    /// What keeps it apart from the host. Policies from before there was a choice say nothing.
    #[serde(default)]
    pub boundary: Boundary,
    /// Names of the host's environment variables that go in.
    pub environment: BTreeSet<String>,
    /// Where the workspace appears.
    pub workspace_path: WorkspacePath,
    /// How it is made.
    pub workspace_kind: WorkspaceKind,
    /// The image whose programs there are in place of the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<String>,
    /// Executable and arguments to run before work; empty for none.
    pub setup: Vec<String>,
    /// The directories that the request carries in, each allowed.
    pub carry: BTreeSet<RepoPath>,
    /// Downloads of the host that are there inside.
    pub caches: BTreeSet<Cache>,
    /// Walls that must stand beyond the floor.
    pub required_walls: BTreeSet<WallName>,
    /// Whether there are canary files.
    pub decoys: bool,
    /// Whether processes may trace one another.
    pub debug: bool,
    /// Whether attempts to write to what is mounted read-only are told.
    pub tells_writes: bool,
}

/// What the `exec` tool may start. A policy of the tool door, not a wall.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutableRules {
    /// What may be.
    pub allow: AllowList,
    /// What may not be, even if allowed.
    pub deny: BTreeSet<String>,
}

/// Where a change may be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathRules {
    /// Where.
    pub allowed: AllowList,
    /// Where it escalates.
    pub protected: BTreeSet<String>,
}

/// What one ecosystem's dependencies may be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EcosystemRules {
    /// URLs from which packages may come.
    pub registries: AllowList,
    /// Globs of names that may be added.
    pub names: AllowList,
}

/// What a change may depend on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DependencyRules {
    /// Whether lock files must follow their manifests.
    pub lockfile_required: bool,
    /// Rust.
    pub cargo: EcosystemRules,
    /// JavaScript.
    pub npm: EcosystemRules,
    /// Python.
    pub pypi: EcosystemRules,
}
