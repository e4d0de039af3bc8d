//! What a session's boundary consists of, as it really is on this host.
//!
//! The report goes to the caller, to the journal and into evidence. A wall that is not there is
//! said so; nothing here may be filled in from what was wished for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::denial::{DenialSource, Operation};
use crate::limits::Limits;

/// One wall of the boundary.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WallName {
    /// Own users.
    UserNamespace,
    /// Own mounts.
    MountNamespace,
    /// Own processes.
    PidNamespace,
    /// Own network with loopback only.
    NetworkNamespace,
    /// Own System V and POSIX IPC.
    IpcNamespace,
    /// Own host name.
    UtsNamespace,
    /// Own view of control groups.
    CgroupNamespace,
    /// Own root directory, made of an allow-list.
    PrivateRoot,
    /// Own device files.
    Devices,
    /// System-call filter.
    Seccomp,
    /// No privilege by executing a file.
    NoNewPrivileges,
    /// Empty capability sets.
    NoCapabilities,
    /// Landlock on files.
    LandlockFilesystem,
    /// Landlock's abstract socket and signal scopes (ABI 6).
    LandlockScopes,
    /// No descriptor of the host inside.
    ClosedDescriptors,
    /// No environment of the host inside.
    CleanEnvironment,
    /// Session keyring of its own.
    PrivateKeyring,
    /// No core dump handed to the host.
    NoCoreDumps,
    /// Sum of memory over all processes.
    MemoryLimit,
    /// Number of processes.
    ProcessLimit,
    /// Bytes and inodes on disk.
    DiskLimit,
    /// Processor time over all processes, where a limit was asked for.
    CpuLimit,
}

/// What keeps a session's processes apart from the host's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// Namespaces and a private root, with everything else behind them.
    #[default]
    Native,
    /// Landlock and the system-call filter alone, for hosts that give no namespaces. Never chosen
    /// by itself: a profile says so.
    Flat,
}

/// How well a wall stands.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WallStatus {
    /// The kernel enforces it.
    Enforced,
    /// Part of it, or by a weaker means; the detail says which.
    Degraded,
    /// Not there.
    Absent,
}

/// One wall and how it stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wall {
    /// Which wall.
    pub name: WallName,
    /// How it stands.
    pub status: WallStatus,
    /// By what means, or what is missing and what that allows.
    pub detail: String,
}

/// Where the event for a refused class of operation comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventSource {
    /// The class.
    pub operation: Operation,
    /// The sources that tell of a refusal; empty means `unobserved`.
    pub sources: Vec<DenialSource>,
    /// What is silent in this class and why.
    pub detail: String,
}

/// How the workspace is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceKind {
    /// A writable layer over the shared base.
    Overlay,
    /// A snapshot of the base, in a pool of this host (`cofferdam pool`).
    Btrfs,
    /// A full copy of the base.
    Copy,
    /// No workspace: an empty directory.
    Empty,
}

/// The boundary of one session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapabilityReport {
    /// Backend, such as `native`.
    pub backend: String,
    /// Whether the host part ran as root.
    pub rootless: bool,
    /// Kernel release.
    pub kernel: String,
    /// Landlock ABI in use; 0 where there is none.
    pub landlock_abi: u32,
    /// How the workspace is made.
    pub workspace: WorkspaceKind,
    /// Every wall, in the order of [`WallName`]; a limit of processor time where one is asked for.
    pub walls: Vec<Wall>,
    /// Every class of operation, in the order of [`Operation`].
    pub event_sources: Vec<EventSource>,
    /// The limits in force.
    pub limits: Limits,
}

impl CapabilityReport {
    /// The status of one wall; a wall that is not mentioned is absent.
    pub fn status(&self, name: WallName) -> WallStatus {
        let found = self.walls.iter().find(|wall| wall.name == name);
        found.map_or(WallStatus::Absent, |wall| wall.status)
    }
}
