//! What an open session is given from outside, as the supervisor holds it.
//!
//! When something is taken away, nothing of the session has it any more once the call returns: it
//! ends what holds, then every call, then the session. Must never know why or for how long.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::lock;
use super::session::Session;
use crate::error::SandboxError;
use crate::grant::holders::{self, Anything, Holds, HoldsPath, Traces};
use crate::grant::source::Source;
use crate::grant::{Guarded, PLACES};
use crate::spec::TraceGate;
use crate::sys::socket::Channel;
use crate::wire::{Widened, Widening};

/// How long a file system may take to answer.
const ANSWER_WITHIN: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// How often those who hold on are hunted before all are.
const TRIES_MAX: usize = 5;
/// How much of what a session asks is taken at once.
const ASKED_BYTES_MAX: usize = 4096;

/// What a session's grants need of it.
pub(super) struct Granting {
    /// Its mounts, until it ends.
    pub(super) mounts: Mutex<Option<OwnedFd>>,
    /// Where it asks, and where it is told.
    pub(super) asked: File,
    pub(super) told: File,
    /// Whether tracing is refused by somebody who can be asked.
    pub(super) asks_before_tracing: bool,
    /// Places in use, and the file system that is there.
    pub(super) places: Mutex<BTreeSet<(PathBuf, u64)>>,
}

/// A path that was looked at; see [`Session::look_at`].
#[derive(Debug)]
pub struct Offer {
    source: Source,
    writable: bool,
    place: PathBuf,
}

impl Offer {
    /// Where it will be, inside.
    pub fn place(&self) -> &Path {
        &self.place
    }
}

impl Session {
    /// Looks at a path of the host that this session could be given, and holds on to it.
    ///
    /// # Errors
    /// [`SandboxError::NotGranted`] if it must not be given or there is nothing there.
    pub fn look_at(
        &self,
        path: &Path,
        writable: bool,
        guarded: &Guarded,
    ) -> Result<Offer, SandboxError> {
        let source = Source::look_at(path, writable, guarded)?;
        let name = path.file_name().unwrap_or_default();
        let below = Path::new(PLACES[usize::from(writable)]);
        let mut places = lock(&self.granting.places);
        let free = |place: &Path| !places.iter().any(|(used, _)| used == place);
        let numbered = (2..).map(|number| {
            let mut numbered = name.to_owned();
            numbered.push(format!("-{number}"));
            below.join(numbered)
        });
        let mut candidates = [below.join(name)].into_iter().chain(numbered);
        let place = candidates.find(|it| free(it)).unwrap_or_else(|| below.to_owned());
        places.insert((place.clone(), source.identity.0));
        Ok(Offer { source, writable, place })
    }

    /// Puts it there.
    ///
    /// # Errors
    /// [`SandboxError::NotGranted`] if it cannot be had; nothing is there then.
    pub fn put(&self, offer: Offer) -> Result<(), SandboxError> {
        let order = Widening::Put {
            path: offer.source.path.as_path().into(),
            place: offer.place.as_path().into(),
            is_directory: offer.source.is_directory,
            writable: offer.writable,
        };
        let detail = match self.widen(&order, Some(&offer.source)) {
            Ok(Widened::Done) => return Ok(()),
            Ok(Widened::Busy) => "its place is in use".to_owned(),
            Ok(Widened::Failed { detail }) => detail,
            Err(error) => error.to_string(),
        };
        lock(&self.granting.places).retain(|(place, _)| *place != offer.place);
        Err(SandboxError::NotGranted { detail })
    }

    /// Takes a path away. When this returns nothing in the session has it; says how many processes
    /// were killed for that.
    pub fn withdraw(&self, place: &Path) -> u64 {
        let found = lock(&self.granting.places).iter().find(|(it, _)| it == place).cloned();
        let Some((place, device)) = found else { return 0 };
        let init = self.shared.opening().pid;
        let holds = || -> Box<dyn Holds> {
            Box::new(HoldsPath { place: place.clone(), device: kernel_device(device) })
        };
        let order = Widening::Take { place: place.as_path().into() };
        let taken = || matches!(self.widen(&order, None), Ok(Widened::Done));
        let (mut killed, mut gone) = (0, false);
        // Between the look and the unmounting another one can have begun to hold on.
        for _ in 0..TRIES_MAX {
            killed += holders::kill(init, holds).0;
            gone = taken();
            if gone {
                break;
            }
        }
        if !gone {
            // Something holds on to it that cannot be seen, or always another one does.
            killed += holders::kill(init, || Box::new(Anything)).0;
            gone = taken();
        }
        if gone {
            // A watch holds no mount. None can be begun any more, so those that are found are all.
            let (more, none_left) = holders::kill(init, holds);
            killed += more;
            gone = none_left;
        }
        if !gone {
            self.end();
        }
        lock(&self.granting.places).retain(|(it, _)| *it != place);
        killed
    }

    fn widen(&self, order: &Widening, source: Option<&Source>) -> Result<Widened, SandboxError> {
        let failed =
            |action| move |error: std::io::Error| SandboxError::System { action, source: error };
        let held = lock(&self.granting.mounts).as_ref().map(OwnedFd::try_clone);
        let mounts = held.ok_or_else(|| SandboxError::NotGranted {
            detail: "the session's mounts cannot be reached".to_owned(),
        })?;
        let mounts = mounts.map_err(failed("holding the session's mounts"))?;
        let (ours, theirs) = Channel::pair().map_err(failed("making sockets"))?;
        let mut descriptors = vec![theirs.as_fd(), mounts.as_fd()];
        descriptors.extend(source.map(Source::as_fd));
        self.shared.opening().process.widen(order, &descriptors)?;
        drop(theirs);
        let mut polled = [PollFd::new(&ours, PollFlags::IN)];
        let answered = matches!(poll(&mut polled, Some(&ANSWER_WITHIN)), Ok(1..));
        match answered.then(|| ours.receive::<Widened>()) {
            Some(Ok(Some(packet))) => Ok(packet.message),
            _ => {
                // What it does after this nobody would know of.
                self.end();
                Err(SandboxError::SessionLost)
            }
        }
    }

    /// Whether somebody can be asked before a process traces: not where an outer listener keeps
    /// refusals from being heard of, nor where tracing is allowed anyway.
    pub fn asks_before_tracing(&self) -> bool {
        self.granting.asks_before_tracing
    }

    /// From now on `gate` is asked before a process of the session may trace another.
    pub fn ask_before_tracing(&self, gate: Arc<dyn TraceGate>) {
        self.shared.ask_before_tracing(gate);
    }

    /// Kills whatever traces and says how many; what it traced goes on.
    pub fn end_tracing(&self) -> u64 {
        let init = self.shared.opening().pid;
        let (killed, none_left) = holders::kill(init, || Box::new(Traces::of(init)));
        if !none_left {
            self.end();
        }
        killed
    }

    /// A part of what the session wrote to where it asks for grants. Never waits.
    pub fn asked(&self) -> Vec<u8> {
        let mut bytes = vec![0; ASKED_BYTES_MAX];
        let length = (&self.granting.asked).read(&mut bytes).unwrap_or(0);
        bytes.truncate(length);
        bytes
    }

    /// Tells the session of a grant: one line.
    pub fn tell(&self, line: &str) {
        // The file system is small: a session that fills it is told no more.
        let _full = writeln!(&self.granting.told, "{}", line.trim_end());
    }
}

/// `fdinfo` writes the kernel's own number: the major above 20 bits of minor (`MKDEV`).
fn kernel_device(device: u64) -> u64 {
    u64::from(rustix::fs::major(device)) << 20 | u64::from(rustix::fs::minor(device))
}
