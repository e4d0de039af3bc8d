//! The objects that `--json` prints, where they are not the engine's or the contract's own.
//!
//! Stable and documented: a field may be added, none is renamed or removed within a major version.
//! Bytes that are not UTF-8 appear as U+FFFD in text; exact bytes come without `--json`.

use cofferdam_contract::capability::{CapabilityReport, Wall};
use cofferdam_contract::change::FileChange;
use cofferdam_contract::denial::Denial;
use cofferdam_contract::digest::{Digest, ObjectId};
use cofferdam_contract::events::Event;
use cofferdam_contract::ids::{RunId, SessionId};
use cofferdam_contract::time::UtcTime;
use cofferdam_engine::{GrantView, RunView};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{Config, FileReport};
use crate::supervisor::wire::SessionRow;

/// `exec --json`, `session exec --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ExecObject {
    /// Exit code of the program; null if it did not exit by itself.
    pub(crate) exit_code: Option<i32>,
    /// Signal that ended it; null if none did.
    pub(crate) signal: Option<i32>,
    /// Its time ran out.
    pub(crate) timed_out: bool,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// An output was cut at the session's `output_bytes`.
    pub(crate) truncated: bool,
    /// How long it took.
    pub(crate) duration_ms: u64,
    /// What was refused during it.
    pub(crate) denials: Vec<Denial>,
}

/// `grants --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct GrantsObject {
    /// Grants and requests, in the order in which they came.
    pub(crate) grants: Vec<GrantView>,
}

/// `session start --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct StartObject {
    /// The run that records the session.
    pub(crate) run: RunId,
    /// The session.
    pub(crate) session: SessionId,
    /// The boundary as it really is.
    pub(crate) capabilities: CapabilityReport,
}

/// `show --output --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct OutputObject {
    /// The run.
    pub(crate) run: RunId,
    /// What its last call wrote to standard output, without what looked like a secret.
    pub(crate) stdout: String,
    /// The same of standard error.
    pub(crate) stderr: String,
}

/// `completions --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct CompletionsObject {
    /// The shell.
    pub(crate) shell: String,
    /// What the shell is to read.
    pub(crate) script: String,
}

/// `session list --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct SessionsObject {
    /// The open sessions, the newest first.
    pub(crate) sessions: Vec<SessionRow>,
}

/// `approve`, `reject`, `recheck`, `resume`, `stop`, `merge` and `rollback`, each with `--json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct CommandObject {
    /// The run. Where a rollback became a proposal, the run that makes it.
    pub(crate) run: RunId,
    /// Its state now.
    pub(crate) state: String,
    /// The present proposal, where there is one.
    pub(crate) digest: Option<Digest>,
    /// The branch that was written, in full.
    pub(crate) branch: Option<String>,
    /// The commit that was written.
    pub(crate) commit: Option<ObjectId>,
    /// It was done before: a repeat is no error.
    pub(crate) already: bool,
    /// The run whose merge others have built upon, where `run` proposes the inverse of it.
    pub(crate) reverts: Option<RunId>,
}

impl CommandObject {
    pub(crate) fn of(view: RunView, already: bool) -> Self {
        let RunView { run, state, digest, branch, commit, .. } = view;
        Self { run, state, digest, branch, commit, already, reverts: None }
    }
}

/// One run in `list --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ListedRun {
    /// The run.
    pub(crate) run: RunId,
    /// Its state.
    pub(crate) state: String,
    /// The repository's directory or address.
    pub(crate) repository: String,
    /// The driver.
    pub(crate) driver: String,
    /// When it was admitted.
    pub(crate) created: UtcTime,
    /// When something last happened to it.
    pub(crate) updated: UtcTime,
    /// The branch that was written, in full.
    pub(crate) branch: Option<String>,
    /// The present proposal.
    pub(crate) digest: Option<Digest>,
}

/// `list --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ListObject {
    /// The runs, the newest first.
    pub(crate) runs: Vec<ListedRun>,
}

/// `events --json`. With `--follow`, one event a line instead.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct EventsObject {
    /// The run.
    pub(crate) run: RunId,
    /// Its events in order.
    pub(crate) events: Vec<Event>,
}

/// `diff --json`, `session diff --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct DiffObject {
    /// The run.
    pub(crate) run: RunId,
    /// Tree of the base.
    pub(crate) base_tree: ObjectId,
    /// Tree of the result.
    pub(crate) tree: ObjectId,
    /// The paths that differ.
    pub(crate) files: Vec<FileChange>,
    /// The unified diff.
    pub(crate) patch: String,
}

/// One requirement in `doctor --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct RequirementObject {
    /// What is needed.
    pub(crate) name: String,
    /// Whether it is there.
    pub(crate) ok: bool,
    /// Whether no session can be had without it.
    pub(crate) required: bool,
    /// What was found.
    pub(crate) detail: String,
    /// How to get it; empty where it is there.
    pub(crate) remedy: String,
}

/// `doctor --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct DoctorObject {
    /// Whether sessions can be had here: everything that is required is there.
    pub(crate) ok: bool,
    /// Each wall as it would stand.
    pub(crate) walls: Vec<Wall>,
    /// Each requirement.
    pub(crate) requirements: Vec<RequirementObject>,
    /// With `--attack`: a few attacks, and what came of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attacks: Option<cofferdam_redteam::Report>,
}

/// `config check --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigCheckObject {
    /// Whether every file can be used.
    pub(crate) ok: bool,
    /// The files there are.
    pub(crate) files: Vec<FileReport>,
}

/// `config show --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigObject {
    /// Where state is.
    pub(crate) state_dir: String,
    /// Where the cache is.
    pub(crate) cache_dir: String,
    /// Where configuration is.
    pub(crate) config_dir: String,
    /// `config.toml` with its defaults filled in.
    pub(crate) config: Config,
    /// The names of all profiles.
    pub(crate) profiles: Vec<String>,
}

/// One fault in `journal verify --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct FaultObject {
    /// The run; null for a fault of the journal as a whole.
    pub(crate) run: Option<RunId>,
    /// The event's position in the run.
    pub(crate) sequence: Option<u64>,
    /// What is wrong.
    pub(crate) detail: String,
}

/// `journal verify --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct JournalObject {
    /// Whether the journal is intact up to its last signed head.
    pub(crate) ok: bool,
    /// Runs that were looked at.
    pub(crate) runs: u64,
    /// Events that were looked at.
    pub(crate) events: u64,
    /// What is wrong.
    pub(crate) faults: Vec<FaultObject>,
}

/// One statement in `evidence verify --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct VerifiedObject {
    /// What was verified.
    pub(crate) name: String,
    /// Whether it holds.
    pub(crate) ok: bool,
    /// What was found.
    pub(crate) detail: String,
}

/// `evidence verify --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct EvidenceObject {
    /// Whether everything holds.
    pub(crate) ok: bool,
    /// Whether the signature is by the key that is trusted.
    pub(crate) signer_known: bool,
    /// Id of the key that signed: SHA-256 of its SPKI form.
    pub(crate) key_id: Option<String>,
    /// Everything that was verified.
    pub(crate) checks: Vec<VerifiedObject>,
}

/// `evidence export --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ExportObject {
    /// The run.
    pub(crate) run: RunId,
    /// Where the bundle is.
    pub(crate) dir: String,
}

/// `prune --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct PruneObject {
    /// Runs whose text was deleted; their events stay.
    pub(crate) runs: u64,
    /// Blobs that were deleted.
    pub(crate) blobs: u64,
    /// Prepared bases that were removed from the cache.
    pub(crate) bases: u64,
    /// Bytes that were freed in the cache.
    pub(crate) freed_bytes: u64,
    /// Objects of results that were removed: files, directories and commits.
    pub(crate) objects: u64,
    /// Mirrors of URLs that were removed.
    pub(crate) mirrors: u64,
}

/// `pool create|grow|check|remove --json`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct PoolObject {
    /// It can be relied on.
    pub(crate) ok: bool,
    /// It is mounted.
    pub(crate) mounted: bool,
    /// `create`: it was there already.
    pub(crate) already: bool,
    /// Where it is mounted.
    pub(crate) path: String,
    /// Its size; null without one.
    pub(crate) size_bytes: Option<u64>,
    /// What is free; null if it is not mounted.
    pub(crate) free_bytes: Option<u64>,
    /// Bases in it.
    pub(crate) bases: u64,
    /// Sessions that have their directory in it.
    pub(crate) sessions: u64,
    /// What to do where it cannot be relied on; else empty.
    pub(crate) remedy: String,
}
