//! Messages between supervisor, launcher and init, as JSON.
//!
//! All three are the same binary of the same build, so these have no versions. Names on disk and
//! in environments are bytes; [`Bytes`] carries them. Must never know how messages travel.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::{Wall, WallName};
use cofferdam_contract::ids::CallId;
use cofferdam_contract::limits::Limits;
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::path::RepoPath;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::spec::NotStarted;

/// Bytes in JSON: each is the character of the same number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.iter().map(|b| char::from(*b)).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = text.chars().map(|c| u8::try_from(u32::from(c)));
        let bytes = bytes.collect::<Result<_, _>>().map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

impl From<&OsStr> for Bytes {
    fn from(text: &OsStr) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&Path> for Bytes {
    fn from(path: &Path) -> Self {
        path.as_os_str().into()
    }
}

impl Bytes {
    pub(crate) fn as_os(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    pub(crate) fn as_path(&self) -> &Path {
        Path::new(self.as_os())
    }

    pub(crate) fn to_path(&self) -> PathBuf {
        self.as_path().to_owned()
    }
}

/// Names and values.
pub(crate) type Environment = Vec<(Bytes, Bytes)>;

/// An environment for the wire.
pub(crate) fn environment(pairs: &[(OsString, OsString)]) -> Environment {
    pairs.iter().map(|(name, value)| (name.as_os_str().into(), value.as_os_str().into())).collect()
}

/// What sessions have in common, and what can be built before one is asked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Groundwork {
    /// Read-only binds, from the host to inside.
    pub(crate) binds: Vec<(Bytes, Bytes)>,
    /// Language caches, from the host to inside.
    pub(crate) caches: Vec<(Bytes, Bytes)>,
    /// Synthesised files.
    pub(crate) files: Vec<(Bytes, Bytes)>,
    /// Symbolic links, from where to what.
    pub(crate) links: Vec<(Bytes, Bytes)>,
    /// What a session may use.
    pub(crate) limits: Limits,
    /// Whether tracing is allowed inside.
    pub(crate) debug: bool,
    /// Whether the supervisor is asked about what means to write.
    pub(crate) tells_writes: bool,
    /// Whether Landlock tells the kernel's audit of what it refuses.
    pub(crate) audited: bool,
    /// Of a flat session, the directory that is its own; all paths are then the host's. No two
    /// sessions have the same, so that none is laid in advance.
    pub(crate) flat: Option<Bytes>,
}

/// What is one session's own.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Own {
    /// Canaries: where, and what they hold.
    pub(crate) decoys: Vec<(Bytes, Bytes)>,
    /// Host paths; they stay outside.
    pub(crate) workspace: WorkspaceMount,
    /// Where it is inside.
    pub(crate) workspace_path: Bytes,
    /// Of every call.
    pub(crate) environment: Environment,
}

/// What a session consists of.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Plan {
    pub(crate) groundwork: Groundwork,
    pub(crate) own: Own,
}

/// What a session gets from outside, or loses.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) enum Widening {
    /// Put a path of the host there. With it, after the session's mounts: the path's file.
    Put {
        /// On the host.
        path: Bytes,
        /// Inside.
        place: Bytes,
        /// It is one.
        is_directory: bool,
        /// Whether the session may write it.
        writable: bool,
    },
    /// Take it away.
    Take {
        /// Inside.
        place: Bytes,
    },
}

/// What came of it.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum Widened {
    Done,
    /// Something holds on to it.
    Busy,
    Failed {
        /// What and why.
        detail: String,
    },
}

/// To the launcher.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum ToLauncher {
    /// Clone a session. With it: init's end of the session's socket.
    Open {
        /// What it consists of.
        plan: Box<Plan>,
        /// Whether the groundwork of the next one may be laid afterwards.
        then_spare: bool,
    },
    /// Widen a session, or undo it. With it: where to answer, and the session's mounts.
    Widen(Widening),
    /// Kill a session that the supervisor may not signal itself.
    Kill {
        /// Its process 1, as the launcher numbers it.
        pid: i32,
    },
}

/// From the launcher, one for each [`ToLauncher::Open`].
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum FromLauncher {
    /// Cloned; init goes on by itself. With it: a descriptor of the process, and one of its mounts
    /// where the host lets it be had.
    Opened {
        /// Process 1, as the launcher numbers it.
        pid: i32,
        /// Whether one user is all that could be mapped.
        rootless: bool,
        /// Control groups of the session, to be removed at its end.
        groups: Vec<PathBuf>,
    },
    /// Nothing was cloned.
    Refused(Refusal),
}

/// From the launcher to a cloned init. With it: the session's socket, and the mounts that the
/// launcher opened.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Begin {
    pub(crate) own: Own,
    /// What the mounts are; none where init has to open them.
    pub(crate) mounts: Option<Mounts>,
}

/// The mounts of a workspace that travel as descriptors, in their order.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Mounts {
    pub(crate) workspace: MountShape,
    pub(crate) carries: Vec<(RepoPath, MountShape)>,
}

/// One of them.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum MountShape {
    /// Lower layers, the uppermost first, then what holds the two directories named here.
    Overlay { lowers: usize, upper: String, work: String },
    /// A directory.
    Directory,
}

/// What could not be done.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Refusal {
    /// The wall that is missing; none if it is not a wall.
    pub(crate) wall: Option<WallName>,
    /// What failed and why.
    pub(crate) detail: String,
}

/// To init.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum ToInit {
    /// Start a call. With it: standard input, output and error.
    Call(Box<Order>),
    /// Kill a call and all that belongs to it.
    Kill {
        /// Which.
        call: CallId,
    },
    /// Stop everything.
    Freeze,
    /// Let everything go on.
    Thaw,
}

/// One call.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Order {
    pub(crate) call: CallId,
    pub(crate) program: Runnable,
    pub(crate) environment: Environment,
    pub(crate) cwd: Bytes,
    /// Its processes stay when it ends.
    pub(crate) keeps_processes: bool,
    pub(crate) terminal: bool,
}

/// What a call runs.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) enum Runnable {
    Execute { executable: Bytes, args: Vec<Bytes> },
    Resident { name: String },
}

/// A scratch file system without room.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Full {
    pub(crate) path: String,
    /// For further files rather than bytes.
    pub(crate) files: bool,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

/// From init and, where it says so, from a child of it that has not executed anything yet.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum FromInit {
    /// The walls stand. With it: the listener if there is one, the file that tells the session of
    /// denials, where it asks for grants, the file that tells it of them, its `/proc`, and the decoys
    /// in the order of the plan.
    Ready { walls: Vec<Wall>, listener: bool },
    /// The walls do not stand; init is gone.
    Failed(Refusal),
    /// From the child: it keeps what the call leaves beneath it, which has not begun yet.
    Keeps { call: CallId },
    /// Nothing is left of a call that had a keeper.
    Gone { call: CallId },
    /// From the child: it is about to become the program.
    Started { call: CallId },
    /// From the child: it cannot.
    NotStarted { call: CallId, why: NotStarted },
    /// The call is over. With it the scratch file systems that are full.
    Ended { call: CallId, exit: Exit, full: Vec<Full> },
    /// Everything has stopped, or what has not.
    Frozen { left: Option<String> },
    /// Everything goes on.
    Thawed,
}
