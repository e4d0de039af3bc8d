//! The disk limit of a workspace: ext4 has no quota for a writable layer, so it is looked at again
//! and again, and what writes too much is stopped.
//!
//! Between two looks a session can write more than its limit: the wall is `degraded`, and its
//! report says so. A breach stops the calls under way and is a denial of each; the session stays,
//! so that what is too much can be removed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cofferdam_contract::denial::{Attribution, Denial, DenialSource, DeniedProcess, Operation};
use cofferdam_contract::ids::{CallId, DenialId, RunId, SessionId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_sandbox::{DenialSink as _, Session, Stopper};
use cofferdam_workspace::{Usage, Workspace, WorkspaceError, usage_of};

use crate::denials::DenialBook;

/// Least time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A look may take at most this part of the processor's time. What it waits for does not count: how
/// long that is can be the session's to say.
const LOOK_SHARE: u32 = 20;

/// The calls under way, and those that left something in the background.
pub(super) type Running = Arc<Mutex<HashMap<CallId, Stopper>>>;

/// What is looked after.
pub(super) struct Watched {
    pub(super) run: RunId,
    pub(super) session: SessionId,
    pub(super) workspace: Arc<Workspace>,
    /// Its processes may hold files that have no name there, and the look that finds them tells of
    /// who has no descriptor left.
    pub(super) holds: Weak<Session>,
    /// Other directories that the session writes on disk, and which count as well.
    pub(super) also: Vec<PathBuf>,
    pub(super) limits: Limits,
    pub(super) running: Running,
    pub(super) book: Arc<DenialBook>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

/// Looks until it is dropped.
pub(super) struct DiskWatch {
    _over: Sender<()>,
}

impl DiskWatch {
    /// Starts looking.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub(super) fn start(watched: Watched) -> std::io::Result<Self> {
        let (over, is_over) = channel::<()>();
        std::thread::Builder::new().name("disk-limit".to_owned()).spawn(move || {
            let mut pause = LOOK_EVERY;
            let mut was_complete = true;
            while is_over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let before = processor_time();
                // A vanished workspace is a session that is over.
                let Ok(usage) = watched.usage() else { return };
                watched.judge(usage, was_complete);
                was_complete = usage.is_complete;
                pause = LOOK_EVERY.max((processor_time() - before) * LOOK_SHARE);
            }
        })?;
        Ok(Self { _over: over })
    }
}

/// Of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

impl Watched {
    fn usage(&self) -> Result<Usage, WorkspaceError> {
        // A directory that was closed to us is one that cannot be counted.
        let unknown = Usage { is_complete: false, ..Usage::NONE };
        let also = self.also.iter().map(|dir| usage_of(dir).unwrap_or(unknown));
        // Where nothing runs, nothing is held.
        let idle = self.running.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let session = self.holds.upgrade().filter(|_| !idle);
        let (bytes, inodes) = session.map_or((0, 0), |session| session.held());
        let unnamed = Usage { bytes, inodes, is_complete: true };
        Ok(also.fold(self.workspace.usage()?.plus(unnamed), Usage::plus))
    }

    /// What cannot be counted twice in a row counts as too much: hiding it must not pay.
    fn judge(&self, usage: Usage, was_complete: bool) {
        let hidden = !usage.is_complete && !was_complete;
        let target = match usage {
            _ if hidden => "the workspace: it cannot be counted".to_owned(),
            Usage { bytes, .. } if bytes > self.limits.disk_bytes => {
                format!("the workspace: {bytes} of {} bytes", self.limits.disk_bytes)
            }
            Usage { inodes, .. } if inodes > self.limits.inodes => {
                format!("the workspace: {inodes} of {} files", self.limits.inodes)
            }
            _ => return,
        };
        let running =
            std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for (call, stopper) in running {
            self.book.denied(self.denial(call, &target));
            stopper.stop();
        }
    }

    fn denial(&self, call: CallId, target: &str) -> Denial {
        Denial {
            id: DenialId::generate(&*self.clock, &*self.entropy),
            run: Some(self.run.clone()),
            session: self.session.clone(),
            call: Some(call),
            attribution: Attribution::Inferred,
            at: self.clock.now(),
            source: DenialSource::Limit,
            operation: Operation::Resource,
            target: target.to_owned(),
            rule: "limit.disk".to_owned(),
            reason_code: "disk_limit".to_owned(),
            process: DeniedProcess { pid: None, exe: None, argv0: None },
            count: 1,
            hint: "remove what is not needed; the session stays open".to_owned(),
        }
    }
}
