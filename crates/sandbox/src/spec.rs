//! What a caller asks of the boundary and what comes back.
//!
//! Must never know how any of it is done.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use cofferdam_contract::capability::{Boundary, WorkspaceKind};
use cofferdam_contract::denial::Denial;
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::{CallId, RunId, SessionId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::mount::{Cache, WorkspaceMount};
use serde::{Deserialize, Serialize};

use crate::view::View;

/// Takes denials as they are recorded.
pub trait DenialSink: Send + Sync {
    /// One denial. Must not block.
    fn denied(&self, denial: Denial);

    /// `count` denials of `source` could not be recorded. Must not block.
    fn lost(&self, count: u64, source: &str);
}

/// Asked, while a process waits, whether it may trace others of its session.
pub trait TraceGate: Send + Sync {
    /// `first` is the first process of the caller's call, as this process numbers it, and when that
    /// was started; `call` is there where it is known already. Must not block.
    fn lets_trace(&self, call: Option<&CallId>, first: (i32, u64)) -> bool;
}

/// A program that is part of this binary: forked from init, never executed, so that nothing of it
/// need exist in the session's root. It reads descriptor 0, writes 1 and 2 and returns its exit
/// code.
#[derive(Clone, Copy)]
pub struct Resident {
    /// Its name in [`Program::Resident`].
    pub name: &'static str,
    /// What it does.
    pub run: fn() -> i32,
}

/// One session.
pub struct SandboxSpec {
    /// Its id.
    pub session: SessionId,
    /// The run it is for, where there is one.
    pub run: Option<RunId>,
    /// What keeps it apart from the host.
    pub boundary: Boundary,
    /// What of the host it sees.
    pub view: View,
    /// Where its workspace comes from.
    pub workspace: WorkspaceMount,
    /// How that was made, for the report.
    pub workspace_kind: WorkspaceKind,
    /// Where the workspace is inside, absolute; in a flat session its place on the host.
    pub workspace_path: PathBuf,
    /// Which of the view's caches it gets.
    pub caches: BTreeSet<Cache>,
    /// Environment of every call, after the view's own.
    pub environment: Vec<(OsString, OsString)>,
    /// What it may use.
    pub limits: Limits,
    /// Whether decoys are laid out.
    pub decoys: bool,
    /// Whether processes of the session may trace one another.
    pub debug: bool,
    /// Whether attempts to write to what is mounted read-only are told. Not in a flat session.
    pub tells_writes: bool,
    /// A directory on the host that belongs to this session alone.
    pub scratch: PathBuf,
}

/// What a call runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Program {
    /// A program inside the session, looked up in the session's `PATH` if it has no slash.
    Execute {
        /// Name or path.
        executable: OsString,
        /// Its arguments, without the name.
        args: Vec<OsString>,
    },
    /// One of the programs that the launcher was started with.
    Resident {
        /// Its name.
        name: &'static str,
    },
}

/// One call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallSpec {
    /// Its id.
    pub id: CallId,
    /// What runs.
    pub program: Program,
    /// Added to the session's environment; later entries win.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts, inside.
    pub cwd: PathBuf,
    /// Longest it may take.
    pub timeout_ms: u64,
    /// Bytes of each captured output that are kept.
    pub output_bytes_max: u64,
    /// Its processes outlive it until the session ends.
    pub background: bool,
    /// It is the agent: what it leaves behind belongs to it until the session ends.
    pub is_agent: bool,
    /// Standard input is a terminal that becomes its controlling terminal.
    pub terminal: bool,
}

/// Where a call's standard input and outputs go.
pub enum CallIo {
    /// Input from memory, outputs into memory, up to the call's limit each. [`crate::Call::wait`]
    /// moves the bytes.
    Captured {
        /// The whole of standard input.
        stdin: Vec<u8>,
    },
    /// Descriptors of the caller's own.
    Passed {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
}

/// Why a program could not be started. Nothing of it ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotStarted {
    /// There is no such program in the session.
    NotFound,
    /// It is there and the kernel does not execute it: mode, format, a missing interpreter.
    NotExecutable,
    /// The directory that it should start in cannot be entered.
    NoDirectory,
    /// A limit: processes or memory.
    NoRoom,
}

/// What came of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallResult {
    /// How it ended.
    pub end: CallEnd,
    /// Exit code, where it exited.
    pub exit_code: Option<i32>,
    /// Signal, where one ended it.
    pub signal: Option<i32>,
    /// Why it could not be started; set where `end` is `NotStarted`.
    pub not_started: Option<NotStarted>,
    /// Captured standard output. Hostile bytes.
    pub stdout: Vec<u8>,
    /// Captured standard error. Hostile bytes.
    pub stderr: Vec<u8>,
    /// An output was longer than its limit.
    pub truncated: bool,
    /// How long it took.
    pub duration_ms: u64,
    /// Refusals during it.
    pub denials: u64,
}

/// What a session leaves: numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionEnd {
    /// Denials that were seen, coalesced ones counted each.
    pub denials: u64,
    /// Denials that could not be recorded.
    pub denials_lost: u64,
}
