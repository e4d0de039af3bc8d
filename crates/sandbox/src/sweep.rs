//! Who uses a session's directory on the host, and finding those that nobody uses any more.
//!
//! A live session holds a kernel lock on a file in its directory; a power cut or a kill frees it.
//! Must never know what lies in such a directory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::error::SandboxError;

/// The lock's file, in each session's directory.
const LOCK: &str = "lock";
/// A directory without a lock file is being prepared, unless it is older than this.
const PREPARED_WITHIN: Duration = Duration::from_secs(3600);

/// Says that a session's directory is in use, until it is dropped.
///
/// [`crate::Launcher::open`] takes one for its session. Whoever prepares the directory before that
/// takes one too, and keeps it until the session is open.
pub struct Claim {
    _lock: Option<File>,
}

impl Claim {
    /// Claims `dir`, which is made if it is not there. Where it is claimed already, the claim that
    /// is there counts.
    ///
    /// # Errors
    /// The directory or its lock cannot be made.
    pub fn take(dir: &Path) -> Result<Self, SandboxError> {
        let claim = || -> io::Result<Self> {
            fs::create_dir_all(dir)?;
            let lock = open_lock(dir)?;
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(Self { _lock: Some(lock) }),
                Err(rustix::io::Errno::WOULDBLOCK) => Ok(Self { _lock: None }),
                Err(error) => Err(error.into()),
            }
        };
        claim().map_err(SandboxError::system("claiming the session's directory"))
    }
}

fn open_lock(dir: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW).open(dir.join(LOCK))
}

/// Gives the directories beneath `sessions_dir` that no session uses to `remove`. What cannot be
/// removed stays for the next time.
pub fn sweep(sessions_dir: &Path, remove: impl Fn(&Path)) {
    for entry in fs::read_dir(sessions_dir).into_iter().flatten().flatten() {
        let dir = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_left(&dir).unwrap_or(false) {
            remove(&dir);
        }
    }
}

/// Whether nobody uses `dir`. The lock is let go of before the directory is removed, but whoever
/// takes a claim in between makes a new session of a new id, and so does not take this one.
fn is_left(dir: &Path) -> io::Result<bool> {
    if fs::symlink_metadata(dir.join(LOCK)).is_err() {
        let age = fs::metadata(dir)?.modified()?.elapsed().unwrap_or_default();
        return Ok(age > PREPARED_WITHIN);
    }
    let lock = open_lock(dir)?;
    Ok(rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
}
