//! What a probe is: an attempt, what proves that it succeeded, and the wall that should hold it.
//!
//! Probes are constants, one line each in the file of their class. Must never know how an attempt
//! is carried out or observed.

use std::io;

use cofferdam_contract::capability::WallName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classes::neighbours::Kept;
use crate::scene::Scene;

/// A class of attacks.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Reading files of the host.
    FilesystemRead,
    /// Changing files of the host.
    FilesystemWrite,
    /// What a session leaves for the host to run or to follow.
    HostParsing,
    /// Privileged services of the kernel, and processes of the host.
    Kernel,
    /// Reaching what is not in the session.
    Network,
    /// Finding credentials.
    Credentials,
    /// Using more than a session may.
    Resources,
    /// What another session has.
    CrossSession,
    /// What outlives its call or its session.
    Persistence,
}

impl Class {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::FilesystemRead => "filesystem_read",
            Self::FilesystemWrite => "filesystem_write",
            Self::HostParsing => "host_parsing",
            Self::Kernel => "kernel",
            Self::Network => "network",
            Self::Credentials => "credentials",
            Self::Resources => "resources",
            Self::CrossSession => "cross_session",
            Self::Persistence => "persistence",
        }
    }
}

/// Code of an attempt: the same in the session and in the control.
pub(crate) type Code = fn(&Scene) -> io::Result<()>;

/// How it is tried.
#[derive(Clone, Copy)]
pub(crate) enum Attempt {
    /// Code of this program.
    Code(Code),
    /// A shell script that runs as a program, for what a real tool would do. It finds the ground
    /// in its environment.
    Script(&'static str),
}

/// What shows from outside that an attempt succeeded. What an attempt says of itself is never
/// enough: it has to hand over something that it can only have if it succeeded.
#[derive(Clone, Copy)]
pub(crate) enum Proof {
    /// The canary, which only the planted file, key or variable holds, came out.
    Canary,
    /// The nonce of this attempt came out of a second program, started after it in the same place.
    Nonce,
    /// Something of the host's files is not as it was.
    Changed,
    /// The nonce reached a listener of the host.
    Heard,
    /// A descriptor of a kernel object of this kind was handed over.
    Kind(&'static str),
    /// A descriptor of a file whose mode has these bits was handed over: mask and value.
    Mode(u32, u32),
    /// A socket of this family, type and protocol was handed over; 0 is any type or protocol.
    Socket(u16, u32, u32),
    /// Two descriptors were handed over, before and after, and they are of different objects.
    Differ,
    /// A process was handed over before and after, and in this field of the kernel's record of it
    /// (`/proc/PID/status`) they differ.
    Record(&'static str),
    /// In the record of the last process that was handed over this field is as the function has it.
    Word(&'static str, fn(&str) -> bool),
    /// A process that was handed over has a descriptor of this kind.
    Holds(&'static str),
    /// A file whose path has this in it was handed over, open for writing.
    Writable(&'static str),
    /// The kernel's record of a process of the host is not as it was.
    Victim,
    /// A byte appeared as input of a terminal of the host.
    Typed,
    /// That many different descriptors of this kind were handed over.
    Count(&'static str, usize),
    /// Files that have that many bytes together were handed over.
    Bytes(u64),
    /// That many bytes were put out.
    Much(usize),
    /// A process with the nonce in its arguments is there afterwards.
    Alive,
    /// A file of the host that only a program of the host can make was made.
    Ran,
}

/// How a probe is staged.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    /// In a session, against a control without walls.
    Walls,
    /// In a session with small limits, against a control without any.
    Limits,
    /// In a session, while another one has what is wanted; against a call of that other one.
    Neighbours(fn(&Scene, &[u8]) -> io::Result<Kept>),
    /// What an ended session left, by a later one; against a later call of the first.
    Successors,
    /// What a governed run left, by the engine; against what is natural to do by hand. The number
    /// is the run's: those that do not get into each other's way share one.
    Run(u8),
}

/// Where the same attempt succeeds: a throwaway set of namespaces, made for it, without the walls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Open {
    /// Own users (root among them), mounts, IPC and host name; the host's files, processes and
    /// network. Where an ordinary user is given no namespaces, the host as it is.
    Plain,
    /// The same with an own network, in which others' addresses are on loopback.
    Network,
    /// Own mounts, IPC and host name, and the host's root as user: only where root asks.
    Root,
}

/// One attack.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    /// Stable name, unique over all classes.
    pub(crate) name: &'static str,
    /// What is tried.
    pub(crate) tries: &'static str,
    /// What should hold it.
    pub(crate) wall: &'static str,
    pub(crate) attempt: Attempt,
    /// A script that runs after the attempt, as a program of its own in the same place.
    pub(crate) look: Option<&'static str>,
    pub(crate) proof: Proof,
    pub(crate) open: Open,
    /// The rule of the denial that must arrive; none where the class is unobserved by design.
    pub(crate) told: Option<&'static str>,
    /// The wall that tells it; where it is not enforced, nothing need.
    pub(crate) teller: Option<WallName>,
    /// Why the control may be impossible on a host, which skips the probe there.
    pub(crate) needs: Option<&'static str>,
    pub(crate) stage: Stage,
    /// A wall that must be enforced, or the probe is skipped with what the report says.
    pub(crate) requires: Option<WallName>,
    /// A wall that what is attacked belongs to. Where it is not enforced a session may have no such
    /// thing, and a control that does not fire skips the probe.
    pub(crate) place: Option<WallName>,
}

/// An attempt by code.
pub(crate) const fn code(
    name: &'static str,
    tries: &'static str,
    wall: &'static str,
    proof: Proof,
    code: Code,
) -> Probe {
    Probe {
        name,
        tries,
        wall,
        attempt: Attempt::Code(code),
        look: None,
        proof,
        open: Open::Plain,
        told: None,
        teller: None,
        needs: None,
        stage: Stage::Walls,
        requires: None,
        place: None,
    }
}

/// An attempt by a shell script.
pub(crate) const fn script(
    name: &'static str,
    tries: &'static str,
    wall: &'static str,
    proof: Proof,
    script: &'static str,
) -> Probe {
    let nothing: Code = |_| Ok(());
    Probe { attempt: Attempt::Script(script), ..code(name, tries, wall, proof, nothing) }
}

impl Probe {
    /// With the rule of its denial.
    pub(crate) const fn told(self, rule: &'static str) -> Self {
        Self { told: Some(rule), ..self }
    }

    /// With the rule of a denial that this wall tells.
    pub(crate) const fn told_by(self, teller: WallName, rule: &'static str) -> Self {
        Self { teller: Some(teller), ..self.told(rule) }
    }

    /// With another place for its control.
    pub(crate) const fn open(self, open: Open) -> Self {
        Self { open, ..self }
    }

    /// With something that not every host gives the control.
    pub(crate) const fn needs(self, what: &'static str) -> Self {
        Self { needs: Some(what), ..self }
    }

    /// In a session with small limits.
    pub(crate) const fn limited(self) -> Self {
        Self { stage: Stage::Limits, ..self }
    }

    /// With something that a neighbour has: what puts it there is given the canary.
    pub(crate) const fn plants(self, plant: fn(&Scene, &[u8]) -> io::Result<Kept>) -> Self {
        Self { stage: Stage::Neighbours(plant), ..self }
    }

    /// With a look by a later session.
    pub(crate) const fn later(self, script: &'static str) -> Self {
        Self { stage: Stage::Successors, look: Some(script), ..self }
    }

    /// As work of this governed run.
    pub(crate) const fn left_in_a_run(self, run: u8) -> Self {
        Self { stage: Stage::Run(run), look: Some(crate::classes::host::NATURAL), ..self }
    }

    /// Only where this wall is enforced.
    pub(crate) const fn requires(self, wall: WallName) -> Self {
        Self { requires: Some(wall), ..self }
    }

    /// About something that is there where this wall is enforced.
    pub(crate) const fn of(self, wall: WallName) -> Self {
        Self { place: Some(wall), ..self }
    }

    /// With a look afterwards.
    pub(crate) const fn look(self, script: &'static str) -> Self {
        Self { look: Some(script), ..self }
    }
}
