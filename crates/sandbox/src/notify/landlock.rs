//! Joins Landlock's audit records to sessions and calls, and counts what is missing of them.
//!
//! A call's domain is made by the call's first process, and the record of the domain names that
//! process, so the domain names the call. A domain says at its end how often it refused; what no
//! record told of by then is lost, and so is a domain that does not say. Must never know how records
//! are had.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use cofferdam_contract::denial::{DenialSource, Operation};
use cofferdam_contract::ids::CallId;

use super::ledger::Refused;
use super::watched::Shared;
use super::{Inner, lock, process};
use crate::audit::Record;

/// Domains that belong to nobody we know: other programs of the host use Landlock too.
const UNOWNED_MAX: usize = 1024;
/// Records of one domain that wait for its owner to be known.
const WAITING_MAX: usize = 1024;
/// How long the domains of an ended session may take to say their figure: the kernel frees them
/// after a grace period of its own.
const FREED_WITHIN: Duration = Duration::from_secs(2);

struct Owner {
    session: u64,
    call: Option<CallId>,
}

#[derive(Default)]
struct Domain {
    pid: Option<i32>,
    owner: Option<Owner>,
    waiting: Vec<Refused>,
    /// Records of it.
    heard: u64,
    /// Refusals, as it said at its end.
    figure: Option<u64>,
}

/// Every domain that was heard of and is not settled.
#[derive(Default)]
pub(super) struct Domains {
    by_id: HashMap<u64, Domain>,
    /// In the order of their first record.
    unowned: VecDeque<u64>,
}

impl Domains {
    fn domain(&mut self, id: u64) -> &mut Domain {
        if !self.by_id.contains_key(&id) {
            if self.unowned.len() == UNOWNED_MAX
                && let Some(oldest) = self.unowned.pop_front()
            {
                self.by_id.remove(&oldest);
            }
            self.unowned.push_back(id);
        }
        self.by_id.entry(id).or_default()
    }

    fn forget(&mut self, id: u64) {
        self.by_id.remove(&id);
        self.unowned.retain(|it| *it != id);
    }

    fn of_session(&self, key: u64) -> Vec<u64> {
        let own = |domain: &Domain| domain.owner.as_ref().is_some_and(|it| it.session == key);
        self.by_id.iter().filter(|(_, domain)| own(domain)).map(|(id, _)| *id).collect()
    }
}

impl Inner {
    /// Takes one record.
    pub(super) fn landlock(&self, record: Record) {
        let mut domains = lock(&self.domains);
        let id = match record {
            Record::Denied { domain: id, blocker, target } => {
                let domain = domains.domain(id);
                domain.heard += 1;
                if domain.waiting.len() < WAITING_MAX {
                    domain.waiting.push(refused(&blocker, target.as_deref()));
                } else {
                    domain.heard -= 1;
                }
                id
            }
            // Another program's, on things of the host: nothing of it may get into a session, also
            // where its process has the number of an ended call's.
            Record::Allocated { domain: id, ours: false, .. } => {
                domains.forget(id);
                return;
            }
            Record::Allocated { domain: id, pid, ours: true } => {
                domains.domain(id).pid = Some(pid);
                id
            }
            Record::Deallocated { domain: id, denials } => {
                domains.domain(id).figure = Some(denials);
                id
            }
        };
        self.settle(&mut domains, id);
    }

    /// Records were dropped, nobody knows whose.
    pub(super) fn landlock_lost(&self) {
        for shared in lock(&self.sessions).by_key.values() {
            shared.lose(DenialSource::Landlock, 1);
        }
    }

    /// A call has begun, whose domain may have been heard of before.
    pub(super) fn owner_is_known(&self, pid: i32) {
        let mut domains = lock(&self.domains);
        let of_pid = domains.by_id.iter().filter(|(_, domain)| domain.pid == Some(pid));
        let ids: Vec<u64> = of_pid.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.settle(&mut domains, id));
    }

    /// Books what waits of a domain whose owner is known, and closes it if it is gone.
    fn settle(&self, domains: &mut Domains, id: u64) {
        let Some(domain) = domains.by_id.get_mut(&id) else { return };
        if domain.owner.is_none() {
            domain.owner = domain.pid.and_then(|pid| self.owner(pid));
            if domain.owner.is_none() {
                return;
            }
            domains.unowned.retain(|it| *it != id);
        }
        let Some(Owner { session, call }) = &domain.owner else { return };
        let Some(shared) = self.session(*session) else {
            domains.by_id.remove(&id);
            return;
        };
        let mut changed = false;
        for refused in domain.waiting.drain(..) {
            changed |= shared.refused_by_landlock(call.as_ref(), refused, self);
        }
        if let Some(figure) = domain.figure {
            let missing = figure.saturating_sub(domain.heard);
            if missing > 0 {
                shared.lose(DenialSource::Landlock, missing);
            }
            domains.by_id.remove(&id);
            self.domains_changed.notify_all();
        }
        if changed {
            self.nudge();
        }
    }

    /// The session and the call of the process that made a domain.
    fn owner(&self, pid: i32) -> Option<Owner> {
        let sessions = lock(&self.sessions);
        sessions.by_key.iter().find_map(|(key, shared)| {
            let call = shared.call_of(pid)?;
            Some(Owner { session: *key, call: Some(call) })
        })
    }

    /// Waits, for a while, until every domain of an ended session has said its figure. Those that
    /// have not are lost.
    pub(super) fn settle_domains(&self, key: u64, shared: &Shared) {
        let until = Instant::now() + FREED_WITHIN;
        let mut domains = lock(&self.domains);
        loop {
            let open = domains.of_session(key);
            let left = until.saturating_duration_since(Instant::now());
            if open.is_empty() || left.is_zero() {
                for id in &open {
                    domains.by_id.remove(id);
                }
                if !open.is_empty() {
                    shared.lose(DenialSource::Landlock, open.len() as u64);
                }
                return;
            }
            let waited = self.domains_changed.wait_timeout(domains, left);
            domains = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// How a record reads. The kernel names the directory for what is made or removed in it.
fn refused(blocker: &str, target: Option<&[u8]>) -> Refused {
    let write = "write in the workspace, in home or in /tmp";
    let (operation, rule, reason_code, hint) = match blocker {
        "fs.execute" => (
            Operation::Execute,
            "landlock.execute",
            "execute_forbidden",
            "programs are executed from the toolchain view, the workspace, home or /tmp",
        ),
        "fs.read_file" | "fs.read_dir" => (
            Operation::Read,
            "landlock.read",
            "read_forbidden",
            "only the view and what the session has of its own can be read",
        ),
        it if it.starts_with("fs.") && it != "fs.change_topology" => {
            (Operation::Write, "landlock.write", "write_forbidden", write)
        }
        it if it.starts_with("net.") || it == "scope.abstract_unix_socket" => (
            Operation::Connect,
            "landlock.connect",
            "network_forbidden",
            "only loopback and sockets of the session can be reached",
        ),
        "ptrace" | "scope.signal" => (
            Operation::Trace,
            "landlock.trace",
            "trace_forbidden",
            "only processes of the same call can be reached",
        ),
        _ => (
            Operation::Kernel,
            "landlock.other",
            "landlock_forbidden",
            "do without it; no grant opens it",
        ),
    };
    let right: String = blocker.chars().take(64).collect();
    let target = match target {
        Some(path) => format!("{} ({right})", process::name(OsStr::from_bytes(path))),
        None => right,
    };
    Refused { source: DenialSource::Landlock, operation, target, rule, reason_code, hint }
}
