//! How much a session may use. Units are in the names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits of one session. Narrowing two sets is [`Limits::narrowest`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Processes and threads at once.
    pub pids: u64,
    /// Memory over all processes.
    pub memory_bytes: u64,
    /// Bytes that may be written to the workspace layer, and to each scratch file system.
    pub disk_bytes: u64,
    /// Files and directories that may be created in each of them.
    pub inodes: u64,
    /// Bytes of standard output, and of standard error, that are kept of one call.
    pub output_bytes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Longest that one call may take.
    pub call_timeout_ms: u64,
    /// Processor time over all processes, in percent of one processor; absent: as much as there is.
    /// Who reaches it goes slower and is not refused anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u64>,
}

impl Limits {
    /// The smaller of each.
    pub fn narrowest(self, other: Self) -> Self {
        Self {
            pids: self.pids.min(other.pids),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            disk_bytes: self.disk_bytes.min(other.disk_bytes),
            inodes: self.inodes.min(other.inodes),
            output_bytes: self.output_bytes.min(other.output_bytes),
            open_files: self.open_files.min(other.open_files),
            call_timeout_ms: self.call_timeout_ms.min(other.call_timeout_ms),
            cpu_percent: self.cpu_percent.into_iter().chain(other.cpu_percent).min(),
        }
    }
}

impl Default for Limits {
    /// Enough for a build and a test run of an ordinary package.
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            pids: 1024,
            memory_bytes: 8 * GIB,
            disk_bytes: 8 * GIB,
            inodes: 1_000_000,
            output_bytes: 16 << 20,
            open_files: 4096,
            call_timeout_ms: 600_000,
            cpu_percent: None,
        }
    }
}
