//! Tells whoever holds runs that a command lies in an inbox, without anybody asking again and again.
//!
//! Whoever puts a command into an inbox touches a file; each process that holds runs watches it
//! (inotify(7)) and looks once for all of its runs. Where nothing can be watched it looks as often
//! as a stop has to be heard. A bell that was not heard costs time and loses nothing: the command
//! lies in the database. Must never know what a command says.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cofferdam_contract::ids::RunId;
use rustix::fs::inotify;
use sqlx::sqlite::SqlitePool;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::JournalError;
use crate::inbox;

/// How often is looked where the bell cannot be heard. A stop must have ended everything within
/// 200 ms.
const DEAF_EVERY: Duration = Duration::from_millis(20);
/// How often is looked all the same where it can.
const SURE_EVERY: Duration = Duration::from_secs(2);

/// What a look found.
#[derive(Clone, Default)]
struct Waiting {
    /// Runs with commands that are not done.
    runs: Arc<HashSet<RunId>>,
    /// It rang before.
    rang: bool,
}

/// The bell of one open journal.
pub(crate) struct Bell {
    file: PathBuf,
    readers: SqlitePool,
    listening: OnceLock<Listening>,
}

struct Listening {
    waiting: watch::Receiver<Waiting>,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bell {
    /// Makes the file where there is none.
    pub(crate) fn new(dir: &Path, readers: SqlitePool) -> Result<Self, JournalError> {
        let file = dir.join("bell");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        options.open(&file).map_err(|error| JournalError::file("create", &file, error))?;
        Ok(Self { file, readers, listening: OnceLock::new() })
    }

    /// Rings it. What keeps it from ringing only makes others hear later.
    pub(crate) fn ring(&self) {
        let rung = OpenOptions::new().write(true).open(&self.file);
        let _later = rung.and_then(|file| file.set_modified(std::time::SystemTime::now()));
    }

    /// The inbox of one run. Called within a runtime; the first call starts to listen.
    pub(crate) fn inbox(&self, run: &RunId) -> Inbox {
        let listening = self.listening.get_or_init(|| {
            let (told, waiting) = watch::channel(Waiting::default());
            let (ears, readers) = (listen_to(&self.file), self.readers.clone());
            Listening { waiting, task: tokio::spawn(tell(ears.ok(), readers, told)) }
        });
        Inbox { run: run.clone(), waiting: listening.waiting.clone() }
    }
}

fn listen_to(file: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let ears = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    // A new time of change alone counts as a change of the content (fsnotify_change).
    inotify::add_watch(&ears, file, inotify::WatchFlags::MODIFY)?;
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe; an owned descriptor stays what it is"
    )]
    AsyncFd::with_interest(ears, Interest::READABLE)
}

/// Looks whenever it rings, until nobody wants to know. What could not be looked at is looked at
/// again.
async fn tell(
    mut ears: Option<AsyncFd<OwnedFd>>,
    readers: SqlitePool,
    told: watch::Sender<Waiting>,
) {
    let (mut rang, mut failed) = (false, false);
    loop {
        let every = if ears.is_some() && !failed { SURE_EVERY } else { DEAF_EVERY };
        tokio::select! {
            heard = rung(ears.as_ref()) => {
                rang = true;
                // The file is gone, and with it what could be heard.
                ears = ears.filter(|_| heard);
            }
            () = tokio::time::sleep(every) => {}
            () = told.closed() => return,
        }
        let looked = inbox::waiting_runs(&readers).await;
        failed = looked.is_err();
        match looked {
            Err(_) if readers.is_closed() => return,
            Err(_) => continue,
            Ok(runs) if runs.is_empty() => {}
            Ok(runs) => drop(told.send_replace(Waiting { runs: Arc::new(runs), rang })),
        }
        rang = false;
    }
}

/// Waits until it rings; false if it never will again.
async fn rung(ears: Option<&AsyncFd<OwnedFd>>) -> bool {
    let Some(ears) = ears else { return std::future::pending().await };
    let Ok(mut ready) = ears.readable().await else { return false };
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(ears, &mut buffer);
    let mut lasts = true;
    while let Ok(event) = events.next() {
        lasts &= !event.events().contains(inotify::ReadFlags::IGNORED);
    }
    ready.clear_ready();
    lasts
}

/// Tells when to look into the inbox of a run.
pub struct Inbox {
    run: RunId,
    waiting: watch::Receiver<Waiting>,
}

impl Inbox {
    /// Returns when something may lie in it that did not at the last time: true if it rang, false if
    /// it was found by looking.
    pub async fn rings(&mut self) -> bool {
        loop {
            // The journal is closed: nothing will ever ring again.
            if self.waiting.changed().await.is_err() {
                return std::future::pending().await;
            }
            let waiting = self.waiting.borrow_and_update();
            if waiting.runs.contains(&self.run) {
                return waiting.rang;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{listen_to, rung};

    #[tokio::test]
    async fn a_touched_file_rings_and_one_that_is_gone_never_will_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ears = listen_to(file.path()).unwrap();
        file.as_file().set_modified(std::time::SystemTime::now()).unwrap();
        assert!(rung(Some(&ears)).await);
        // Closed here as well, it is gone, and no longer only out of its directory.
        drop(file);
        assert!(!rung(Some(&ears)).await);
    }
}
