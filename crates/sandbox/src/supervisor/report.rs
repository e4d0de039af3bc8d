//! The capability report of a session, and the session's own view of its denials.
//!
//! Must never say of a wall what init did not say.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cofferdam_contract::capability::{Boundary, CapabilityReport, EventSource, Wall};
use cofferdam_contract::denial::{Denial, DenialSource, Operation};

use super::audit::Audit;
use crate::spec::{DenialSink, SandboxSpec};
use crate::sys::landlock;

/// What this session's boundary consists of.
pub(super) fn report(
    spec: &SandboxSpec,
    rootless: bool,
    walls: Vec<Wall>,
    (listening, audit): (bool, &Audit),
) -> CapabilityReport {
    CapabilityReport {
        backend: backend(spec.boundary).to_owned(),
        rootless,
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        landlock_abi: landlock::abi(),
        workspace: spec.workspace_kind,
        walls,
        event_sources: event_sources(spec, listening, audit),
        limits: spec.limits,
    }
}

fn backend(boundary: Boundary) -> &'static str {
    match boundary {
        Boundary::Native => "native",
        Boundary::Flat => "flat",
    }
}

/// Where a flat session differs in what tells of a refusal.
fn flat_row(operation: Operation) -> Option<(Option<DenialSource>, &'static str)> {
    let seccomp = Some(DenialSource::Seccomp);
    Some(match operation {
        Operation::Read => (
            Some(DenialSource::Decoy),
            "Landlock refuses what is not on the list, which nobody tells; watching files is told",
        ),
        Operation::Write => {
            (seccomp, "changes of modes, times and attributes; what Landlock refuses nobody tells")
        }
        Operation::Connect => (seccomp, "there are no sockets; the attempt to make one is told"),
        Operation::Trace => {
            (seccomp, "signals beyond the session's domain are refused and nobody tells")
        }
        Operation::Grant => (
            Some(DenialSource::ToolPolicy),
            "asked for in request-grant, beside the file of denials",
        ),
        _ => return None,
    })
}

/// For each class of operation, who tells of a refusal and what is silent.
fn event_sources(spec: &SandboxSpec, listening: bool, audit: &Audit) -> Vec<EventSource> {
    use Operation::{
        Connect, Execute, Grant, Kernel, Keyring, Mount, Namespace, Privilege, Read, Resource,
        Socket, Terminal, Trace, Write,
    };
    let asked = "the supervisor answers the system call";
    let write = match spec.tells_writes && listening {
        true => (Write, Some(DenialSource::Seccomp), "what a read-only mount refuses"),
        false => (Write, None, "read-only mounts and Landlock refuse without a word"),
    };
    let rows: [(Operation, Option<DenialSource>, &str); 14] = [
        (Execute, Some(DenialSource::ToolPolicy), "inside, programs start other programs unseen"),
        (Read, Some(DenialSource::Decoy), "what is not in the root is absent, which nobody tells"),
        write,
        (
            Connect,
            Some(DenialSource::Seccomp),
            "the supervisor answers the system call; as an ordinary user it does not see where a \
             resident connects to",
        ),
        (Socket, Some(DenialSource::Seccomp), asked),
        (Namespace, Some(DenialSource::Seccomp), "clone3 is absent and untold"),
        (Mount, Some(DenialSource::Seccomp), asked),
        (Trace, Some(DenialSource::Seccomp), asked),
        (Kernel, Some(DenialSource::Seccomp), "calls that ordinary programs probe are absent"),
        (Keyring, Some(DenialSource::Seccomp), asked),
        (Privilege, Some(DenialSource::Seccomp), "set-user-id programs run without effect"),
        (Terminal, Some(DenialSource::Seccomp), asked),
        (
            Resource,
            Some(DenialSource::Limit),
            "time, output, and who has no descriptor left; other limits of the kernel are silent",
        ),
        (Grant, Some(DenialSource::ToolPolicy), "asked for in /run/cofferdam/request-grant"),
    ];
    let heard = |source: &DenialSource| match source {
        DenialSource::Seccomp => listening,
        DenialSource::Decoy => spec.decoys,
        _ => true,
    };
    let told = |(operation, source, detail): (Operation, Option<DenialSource>, &str)| {
        let flat = (spec.boundary == Boundary::Flat).then(|| flat_row(operation)).flatten();
        let (source, detail) = flat.unwrap_or((source, detail));
        let mut row = EventSource {
            operation,
            sources: source.filter(heard).into_iter().collect(),
            detail: detail.to_owned(),
        };
        if matches!(operation, Execute | Read | Write) {
            add_audit(&mut row, audit);
        }
        row
    };
    rows.into_iter().map(told).collect()
}

/// What Landlock refuses is told by the kernel's audit, if at all.
fn add_audit(row: &mut EventSource, audit: &Audit) {
    match audit {
        Audit::Off => {}
        Audit::Unavailable(why) => {
            row.detail.push_str("; Landlock's audit cannot be had: ");
            row.detail.push_str(why);
        }
        Audit::On { .. } => {
            row.sources.push(DenialSource::Landlock);
            row.detail.push_str("; what a read-only mount refuses comes before Landlock");
        }
    }
}

/// Writes each denial into the session's own file before it goes to `sink`.
pub(super) fn tell_session(sink: Arc<dyn DenialSink>, file: OwnedFd) -> Arc<dyn DenialSink> {
    Arc::new(Told { sink, file: file.into() })
}

struct Told {
    sink: Arc<dyn DenialSink>,
    file: File,
}

impl DenialSink for Told {
    fn denied(&self, denial: Denial) {
        if let Ok(mut line) = serde_json::to_vec(&denial) {
            line.push(b'\n');
            // The file system is small: a session that fills it is told no more.
            let _full = (&self.file).write(&line);
        }
        self.sink.denied(denial);
    }

    fn lost(&self, count: u64, source: &str) {
        self.sink.lost(count, source);
    }
}
