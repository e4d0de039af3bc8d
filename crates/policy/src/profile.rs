//! What an operator allows a run, as written in TOML.
//!
//! A profile extends another one: what its file does not say is as in the profile that `extends`
//! names (`assist` by default). `assist` and `autonomous` say everything, so they are the one home of
//! every default. Must never know where files are.

use std::collections::BTreeSet;

use cofferdam_contract::capability::{Boundary, WallName, WorkspaceKind};
use cofferdam_contract::grant::GrantClass;
use cofferdam_contract::limits::Limits;
use cofferdam_contract::mount::Cache;
use cofferdam_contract::request::TaskType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{PolicyError, parsed};

/// Largest profile that is read, in bytes.
pub const PROFILE_BYTES_MAX: usize = 256 << 10;
/// Most commands that a gate runs.
pub const COMMANDS_MAX: usize = 32;

/// Names that a command cannot have: the gate's own checks.
pub const RESERVED_NAMES: &[&str] = &[
    "scope",
    "protected",
    "complete",
    "size",
    "kinds",
    "unicode",
    "secrets",
    "dependencies",
    "host",
    "commands",
    "detect",
];

/// The built-in profiles: name and TOML text.
pub const BUILTINS: &[(&str, &str)] = &[
    ("assist", include_str!("../profiles/assist.toml")),
    ("autonomous", include_str!("../profiles/autonomous.toml")),
    ("flat", include_str!("../profiles/flat.toml")),
];

/// The built-in profile of that name.
///
/// # Errors
/// [`PolicyError::ProfileUnknown`] if there is none.
pub fn builtin(name: &str) -> Result<Profile, PolicyError> {
    let table = builtin_table(name)?;
    Profile::from_table(table)
}

fn builtin_table(name: &str) -> Result<toml::Table, PolicyError> {
    let found = BUILTINS.iter().find(|(it, _)| *it == name);
    let (_, text) = found.ok_or(PolicyError::ProfileUnknown)?;
    whole(text.parse().map_err(|error| not_parsed(&error))?)
}

/// `own` with what it does not say from the profile that it extends. A built-in one that extends
/// another names one that does not.
fn whole(mut own: toml::Table) -> Result<toml::Table, PolicyError> {
    match own.remove("extends") {
        Some(toml::Value::String(name)) => Ok(merged(builtin_table(&name)?, own)),
        Some(_) => Err(invalid(Some("extends"), "extends is the name of a built-in profile")),
        None => Ok(own),
    }
}

fn invalid(field: Option<&str>, detail: &str) -> PolicyError {
    PolicyError::ProfileInvalid { field: field.map(str::to_owned), detail: detail.to_owned() }
}

fn not_parsed(error: &toml::de::Error) -> PolicyError {
    let (field, detail) = parsed(error);
    PolicyError::ProfileInvalid { field, detail }
}

/// A profile: everything that an operator decides about a class of runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// For people.
    pub description: String,
    /// `assist`: a crash ends a run. `autonomous`: it goes on when it is resumed.
    pub task_type: TaskType,
    /// How much one session may use.
    pub limits: Limits,
    /// How much one run may spend.
    pub budget: BudgetTable,
    /// What a session looks like.
    pub session: SessionTable,
    /// What the `exec` tool may start.
    pub executables: ExecutableTable,
    /// Where a change may be.
    pub paths: PathTable,
    /// How large a change may be, and of what kinds.
    pub change: ChangeTable,
    /// What a change may depend on.
    pub dependencies: DependencyTable,
    /// What else a change must pass.
    pub gate: GateTable,
    /// What a session may be given while it works.
    pub grants: GrantTable,
    /// Who must agree to a change.
    pub approval: ApprovalTable,
    /// Where a change may go after that.
    pub merge: MergeTable,
}

/// How much one run may spend. A request may ask for less.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetTable {
    /// Milliseconds from admission to the freeze of the result, less pauses.
    pub wall_ms: u64,
    /// Milliseconds summed over calls.
    pub tool_ms: u64,
    /// Rounds of work: one, and one more for each revision.
    pub attempts: u64,
}

/// Where the workspace appears inside a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
pub enum WorkspacePath {
    /// At `/workspace`.
    #[serde(rename = "/workspace")]
    Fixed,
    /// At the path that the repository has on the host, for builds that record absolute paths.
    #[serde(rename = "same")]
    Same,
}

/// What a session looks like.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionTable {
    /// What keeps a session apart from the host: `native` (namespaces) or `flat` (for hosts that
    /// give none: fewer walls, no network at all, not for root). Never chosen by itself.
    pub boundary: Boundary,
    /// Names of the host's environment variables that a session gets. None by default. A name that
    /// looks like a credential is refused: no credential enters a session.
    pub environment: BTreeSet<String>,
    /// `"/workspace"`, or `"same"` for the repository's own path. A flat session has it where it
    /// is on the host.
    pub workspace_path: WorkspacePath,
    /// How the workspace is made: `overlay`, which becomes a snapshot where the host has a pool and
    /// a copy where it has no overlays; `btrfs`, a snapshot or nothing; or `copy`.
    pub workspace_kind: WorkspaceKind,
    /// A directory of the host with an unpacked image, whose programs and libraries a session has in
    /// place of the host's: an absolute path. Not for flat sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<String>,
    /// Executable and arguments that run inside the session before work; none by default. Never a
    /// shell string.
    pub setup: Vec<String>,
    /// Globs of git-ignored directories that a request may carry in copy-on-write, such as
    /// `node_modules` or `**/target`.
    pub carry: BTreeSet<String>,
    /// Downloads of the host that a session finds where its tools look: `cargo`, `pip`, `npm`. What
    /// it adds to them is its own and goes with it. Packages of private registries are among them.
    pub caches: BTreeSet<Cache>,
    /// Walls that must stand as enforced, beyond the floor, which always must.
    pub required_walls: BTreeSet<WallName>,
    /// Whether canary files make probing for credentials visible.
    pub decoys: bool,
    /// Whether processes of a session may trace one another (debuggers need it).
    pub debug: bool,
    /// Whether attempts to write to what is mounted read-only are told, as `view.read_only`. Each call
    /// that writes then waits 15 µs for the supervisor. Not for flat sessions, which have no such mounts.
    pub tells_writes: bool,
}

/// What the `exec` tool may start.
///
/// A pattern without `/` is compared with the file name of the executable, one with `/` with the
/// whole path as given. This is a policy of the tool door and not a wall: an allowed interpreter,
/// shell or build tool can start anything that is in the session, so that a list of executables
/// steers an agent and does not confine it. The boundary is the session's walls.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutableTable {
    /// What may be started.
    pub allow: BTreeSet<String>,
    /// What may not be, even if allowed.
    pub deny: BTreeSet<String>,
}

/// Where a change may be, as globs over repository paths.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathTable {
    /// A change outside these fails the gate.
    pub allowed: BTreeSet<String>,
    /// A change in these escalates. Compared without regard to case, and each pattern also covers
    /// everything beneath what it names.
    pub protected: BTreeSet<String>,
}

/// A kind of thing that a change may add or alter.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A regular file with text.
    Text,
    /// A regular file that is not text.
    Binary,
    /// A file that gets the executable bit.
    Executable,
    /// A symbolic link; one that points out of the tree fails the gate in any case.
    Symlink,
    /// A submodule.
    Submodule,
}

/// How large a change may be, and of what kinds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeTable {
    /// Most paths that may differ.
    pub files_max: u64,
    /// Most lines added and removed together.
    pub lines_max: u64,
    /// Most bytes of any one file in the result.
    pub file_bytes_max: u64,
    /// Kinds that may be added or altered; removing is always possible.
    pub kinds: BTreeSet<ChangeKind>,
}

/// What one ecosystem's dependencies may be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EcosystemTable {
    /// URLs from which packages may come; each also covers everything beneath it.
    pub registries: BTreeSet<String>,
    /// Globs of the package names that may be added. `["**"]` allows any; an addition then still
    /// shows as a warning.
    pub names: BTreeSet<String>,
}

/// What a change may depend on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DependencyTable {
    /// Whether a manifest whose dependencies changed needs its lock file changed with it, where
    /// the repository has one.
    pub lockfile_required: bool,
    /// Rust.
    pub cargo: EcosystemTable,
    /// JavaScript.
    pub npm: EcosystemTable,
    /// Python.
    pub pypi: EcosystemTable,
}

/// What a command of the gate is, which decides how its outcome is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// Exit code 0 means formatted.
    Formatter,
    /// Exit code 0 means clean.
    Linter,
    /// Exit code 0 means passed. A failure on the result is tried once more, to tell a flaky test
    /// from a broken one.
    Test,
    /// Writes SARIF 2.1.0 to standard output; its new findings count, its exit code does not.
    Scanner,
}

/// One command of the gate. It runs in fresh sessions, once on the base and once on the result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckCommand {
    /// Its name in the report: letters, digits, dots, dashes, underscores.
    pub name: String,
    /// Executable and arguments; never a shell string.
    pub argv: Vec<String>,
    /// Whether the gate fails if it fails or cannot be run.
    pub required: bool,
    /// How its outcome is read.
    pub kind: CommandKind,
    /// Longest that it may take, in milliseconds.
    pub timeout_ms: u64,
}

/// What else a change must pass.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateTable {
    /// Whether added lines are searched for credentials.
    pub secrets: bool,
    /// Whether formatter, linter and tests are also found by looking at the base (Cargo, npm,
    /// Python). They run besides the declared commands: nothing that a repository declares turns
    /// them off. A profile that declares its own sets this to false.
    pub detect: bool,
    /// Declared commands, in the order in which they run.
    pub commands: Vec<CheckCommand>,
}

/// What a session may be given beyond all this while it works, by a person or by `auto`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantTable {
    /// Kinds that may be given: `read`, `write`, `debug`, `exec`.
    pub kinds: BTreeSet<GrantClass>,
    /// Longest that one grant may last, in milliseconds.
    pub for_ms_max: u64,
    /// Most calls that may use one grant.
    pub uses_max: u64,
    /// Globs of grants that a session gets when it asks, without a person, such as
    /// `read:/srv/data/**`, `debug` or `exec:make`. None by default.
    pub auto: BTreeSet<String>,
}

/// Who must agree to a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalTable {
    /// How many different people; at least one.
    pub required: u32,
    /// Whether the one who asked for the run may be among them. True locally, where there is one
    /// person; a team sets it to false.
    pub requester_may_approve: bool,
    /// How long an approval may be used, in milliseconds.
    pub expires_after_ms: u64,
}

/// Where an applied change may be merged to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeTable {
    /// Globs of branch names (without `refs/heads/`) that `merge` refuses. Empty by default: merge
    /// is a person's own explicit command, with an authority apart from approval. A team that
    /// merges by pull request puts `main`, `master`, `release/**` here.
    pub protected_branches: BTreeSet<String>,
}

impl Profile {
    /// Parses a profile's TOML text and fills in what it does not say from the one it extends.
    ///
    /// # Errors
    /// [`PolicyError::ProfileInvalid`] naming the field, or [`PolicyError::ProfileUnknown`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > PROFILE_BYTES_MAX {
            return Err(invalid(None, "a profile has at most 256 KiB"));
        }
        let mut own: toml::Table = text.parse().map_err(|error| not_parsed(&error))?;
        own.entry("extends").or_insert_with(|| "assist".into());
        Self::from_table(whole(own)?)
    }

    fn from_table(table: toml::Table) -> Result<Self, PolicyError> {
        let profile: Self = table.try_into().map_err(|error| not_parsed(&error))?;
        profile.validate()?;
        Ok(profile)
    }

    /// The rules that types cannot say. A profile that was built in code needs it as well; `compile`
    /// asks again.
    ///
    /// # Errors
    /// [`PolicyError::ProfileInvalid`] naming the field.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let fail = |(field, detail): (&str, String)| PolicyError::ProfileInvalid {
            field: Some(field.to_owned()),
            detail: format!("{field}: {detail}"),
        };
        if self.approval.required == 0 {
            return Err(fail(("approval.required", "at least one approval is needed".to_owned())));
        }
        let is_flat = self.session.boundary == Boundary::Flat;
        if is_flat && self.session.workspace_kind != WorkspaceKind::Copy {
            let detail = "a flat session mounts nothing, so its workspace is a copy".to_owned();
            return Err(fail(("session.workspace_kind", detail)));
        }
        if is_flat && self.session.tells_writes {
            let detail = "a flat session mounts nothing read-only".to_owned();
            return Err(fail(("session.tells_writes", detail)));
        }
        self.session.environment.iter().try_for_each(|name| {
            check_variable(name).map_err(|detail| fail(("session.environment", detail)))
        })?;
        check_argv(&self.session.setup).map_err(|detail| fail(("session.setup", detail)))?;
        check_commands(&self.gate.commands).map_err(|detail| fail(("gate.commands", detail)))
    }
}

/// `over` laid over `under`: tables join, everything else replaces.
fn merged(mut under: toml::Table, over: toml::Table) -> toml::Table {
    for (key, value) in over {
        let value = match (under.remove(&key), value) {
            (Some(toml::Value::Table(low)), toml::Value::Table(high)) => {
                toml::Value::Table(merged(low, high))
            }
            (_, value) => value,
        };
        under.insert(key, value);
    }
    under
}

fn check_variable(name: &str) -> Result<(), String> {
    const SECRET_WORDS: &[&str] =
        &["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "KEY"];
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !plain || name.is_empty() || name.len() > 128 || name.as_bytes()[0].is_ascii_digit() {
        return Err(format!("{name:?} is not the name of a variable"));
    }
    let upper = name.to_ascii_uppercase();
    match SECRET_WORDS.iter().find(|word| upper.contains(*word)) {
        Some(_) => Err(format!("{name} looks like a credential, and none enters a session")),
        None => Ok(()),
    }
}

fn check_argv(argv: &[String]) -> Result<(), String> {
    if argv.first().is_some_and(String::is_empty) {
        return Err("the executable is empty".to_owned());
    }
    if argv.len() > 256 || argv.iter().any(|arg| arg.len() > 4096 || arg.contains('\0')) {
        return Err("at most 256 arguments of at most 4096 bytes without nul".to_owned());
    }
    Ok(())
}

/// The rules for a list of commands.
pub(crate) fn check_commands(commands: &[CheckCommand]) -> Result<(), String> {
    if commands.len() > COMMANDS_MAX {
        return Err(format!("at most {COMMANDS_MAX} commands"));
    }
    let mut names = BTreeSet::new();
    for command in commands {
        let name = &command.name;
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        if !plain || name.is_empty() || name.len() > 64 {
            return Err("a name is 1 to 64 letters, digits, dots, dashes or underscores".to_owned());
        }
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(format!("{name} is a check of the gate's own"));
        }
        if !names.insert(name) {
            return Err(format!("{name} is there twice"));
        }
        if command.argv.is_empty() {
            return Err(format!("{name} has no executable"));
        }
        check_argv(&command.argv).map_err(|detail| format!("{name}: {detail}"))?;
    }
    Ok(())
}
