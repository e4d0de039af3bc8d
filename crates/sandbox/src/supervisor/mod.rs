//! The side that asks: starts the launcher, opens sessions, makes calls, keeps time.
//!
//! Must never know how a wall is put up.

use std::path::PathBuf;
use std::sync::Arc;

use cofferdam_contract::capability::CapabilityReport;
use cofferdam_contract::ids::SessionId;
use cofferdam_contract::ports::{Clock, Entropy};

use crate::error::SandboxError;
use crate::spec::{CallIo, CallResult, CallSpec, DenialSink, SandboxSpec, SessionEnd};

/// How a launcher is started.
pub struct LauncherOptions {
    /// A binary that calls [`crate::launcher_main`] for its first argument `__launcher`; it is
    /// copied into a sealed memfd.
    pub executable: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// The launcher of this process. Dropping it ends every session that it opened.
pub struct Launcher {
    _private: (),
}

impl Launcher {
    /// Starts the launcher process.
    ///
    /// # Errors
    /// The executable cannot be copied or executed.
    pub fn start(_options: LauncherOptions) -> Result<Self, SandboxError> {
        Err(SandboxError::LauncherLost { detail: "not built yet".to_owned() })
    }

    /// Opens a session: when this returns, its walls stand.
    ///
    /// # Errors
    /// [`SandboxError::WallMissing`] if a wall of the floor cannot be put up; nothing is left then.
    pub fn open(
        &self,
        _spec: SandboxSpec,
        _sink: Arc<dyn DenialSink>,
    ) -> Result<Session, SandboxError> {
        Err(SandboxError::LauncherLost { detail: "not built yet".to_owned() })
    }
}

/// One isolation context. Dropping it ends it.
pub struct Session {
    id: SessionId,
    report: CapabilityReport,
}

impl Session {
    /// Its id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// The boundary as it really is.
    pub fn report(&self) -> &CapabilityReport {
        &self.report
    }

    /// Starts a call. Several may run at once.
    ///
    /// # Errors
    /// The session is over, or the specification is invalid. A program that cannot be executed is
    /// not an error here: the call's result says so.
    pub fn call(&self, _spec: CallSpec, _io: CallIo) -> Result<Call, SandboxError> {
        Err(SandboxError::SessionLost)
    }

    /// Stops every process of the session until [`Session::thaw`].
    ///
    /// # Errors
    /// The session is over, or something in it could not be stopped.
    pub fn freeze(&self) -> Result<(), SandboxError> {
        Err(SandboxError::SessionLost)
    }

    /// Lets a frozen session go on.
    ///
    /// # Errors
    /// The session is over.
    pub fn thaw(&self) -> Result<(), SandboxError> {
        Err(SandboxError::SessionLost)
    }

    /// Ends the session. When it returns, no process of it is left. May be repeated.
    pub fn end(&self) -> SessionEnd {
        SessionEnd::default()
    }

    /// Whether calls can still be made.
    pub fn is_alive(&self) -> bool {
        false
    }
}

/// A call under way.
pub struct Call {
    _private: (),
}

impl Call {
    /// Something that can stop this call from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper { _private: () }
    }

    /// Moves captured input and output and waits for the end. Blocks. Until it is called, a
    /// program whose output is captured blocks once a pipe is full; its time limit holds anyway.
    pub fn wait(self) -> CallResult {
        CallResult {
            end: cofferdam_contract::events::CallEnd::SessionLost,
            exit_code: None,
            signal: None,
            not_started: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: false,
            duration_ms: 0,
            denials: 0,
        }
    }
}

/// Stops one call.
#[derive(Clone)]
pub struct Stopper {
    _private: (),
}

impl Stopper {
    /// Kills the call, whatever it started included, and returns without waiting for it.
    pub fn stop(&self) {}
}
