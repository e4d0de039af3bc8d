//! What an attempt has: its ground, descriptors that it was given, and a line to whoever watches.
//!
//! This is the side of the attacker, in a session or in a control. Must never decide whether an
//! attempt succeeded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Seek as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use cofferdam_sandbox::attempt;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::probe::Open;

/// Names and places that an attempt works with: variables of scripts.
pub(crate) type Ground = BTreeMap<String, String>;

/// Longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Most descriptors in one message.
pub(crate) const DESCRIPTORS_MAX: usize = 8;

/// What an attempt is asked to do.
#[derive(Serialize, Deserialize)]
pub(crate) struct Request {
    /// The probe's name.
    pub(crate) probe: String,
    pub(crate) ground: Ground,
    /// Where there are no walls: what to be in instead.
    pub(crate) open: Option<Open>,
    /// To have what a neighbour wants instead, until the line closes.
    #[serde(default)]
    pub(crate) plants: bool,
}

/// First byte of a message from an attempt.
pub(crate) mod word {
    /// Descriptors that show something; answered once they were looked at.
    pub(crate) const HAND: u8 = b'h';
    /// A listener in a network of the control's own.
    pub(crate) const LISTENER: u8 = b'l';
    /// Why the attempt did not succeed, as text.
    pub(crate) const FAILED: u8 = b'f';
    /// Why the place for a control could not be made, as text.
    pub(crate) const NO_PLACE: u8 = b'p';
    /// Why there are no namespaces for a control, as text.
    pub(crate) const NO_NAMESPACES: u8 = b'n';
}

/// Everything at an attempt's hands.
pub(crate) struct Scene {
    pub(crate) ground: Ground,
    /// A file with the canary that this attempt must only reach through another process.
    given: Vec<OwnedFd>,
}

/// What comes first on the line, and what came with it.
pub(crate) fn receive_request() -> io::Result<(Request, Vec<OwnedFd>)> {
    let mut bytes = vec![0; REQUEST_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(line(), &mut parts, &mut control, flags)?;
    let mut given = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            given.extend(descriptors);
        }
    }
    Ok((serde_json::from_slice(bytes.get(..received.bytes).unwrap_or_default())?, given))
}

/// The line is standard input, in the session and in the control.
fn line() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

/// Sends one message on the line.
pub(crate) fn send(word: u8, text: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let first = [word];
    let parts = [IoSlice::new(&first), IoSlice::new(text.as_bytes())];
    rustix::net::sendmsg(line(), &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

impl Scene {
    pub(crate) fn new(ground: Ground, given: Vec<OwnedFd>) -> Self {
        Self { ground, given }
    }

    /// A name of the ground; empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.ground.get(name).map_or("", String::as_str)
    }

    /// A number of the ground; 0 where there is none.
    pub(crate) fn number<T: std::str::FromStr + Default>(&self, name: &str) -> T {
        self.get(name).parse().unwrap_or_default()
    }

    /// A path of the ground, and something beneath it.
    pub(crate) fn at(&self, name: &str, beneath: &str) -> PathBuf {
        let path = PathBuf::from(self.get(name));
        if beneath.is_empty() { path } else { path.join(beneath) }
    }

    /// A path in the workspace that nothing has, so that no attempt is in the way of another.
    pub(crate) fn new_path(&self, name: &str) -> PathBuf {
        self.at("WORKSPACE", &format!("{}-{name}", self.get("NONCE")))
    }

    /// Puts bytes out.
    pub(crate) fn say(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = rustix::io::write(rustix::stdio::stdout(), rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Hands descriptors over and waits until they were looked at.
    pub(crate) fn hand(&self, descriptor: impl AsFd) -> io::Result<()> {
        send(word::HAND, "", &[descriptor.as_fd()])?;
        let mut answer = [0; 1];
        rustix::io::retry_on_intr(|| rustix::io::read(line(), &mut answer))?;
        Ok(())
    }

    /// Waits until the watcher has gone.
    pub(crate) fn wait_for_end(&self) {
        let mut end = [0; 1];
        let _gone = rustix::io::retry_on_intr(|| rustix::io::read(line(), &mut end));
    }

    /// Hands over what is at `path`, not following a last link.
    pub(crate) fn hand_path(&self, path: &std::path::Path) -> io::Result<()> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.hand(rustix::fs::open(path, flags, Mode::empty())?)
    }

    /// Hands a process over; whoever watches looks at the kernel's record of it.
    pub(crate) fn hand_process(&self, process: Pid) -> io::Result<()> {
        self.hand(rustix::process::pidfd_open(process, PidfdFlags::empty())?)
    }

    /// Hands this process over.
    pub(crate) fn hand_self(&self) -> io::Result<()> {
        self.hand_process(rustix::process::getpid())
    }

    /// The directories of processes in `/proc`: all that it lists, or, where it cannot be listed,
    /// those that somebody guesses who knows the own number and hears of the suite's.
    pub(crate) fn processes(&self) -> Vec<PathBuf> {
        const NEAR: i32 = 256;
        let proc = PathBuf::from("/proc");
        let Ok(listed) = std::fs::read_dir(&proc) else {
            let own = rustix::process::getpid().as_raw_nonzero().get();
            let near = |number: i32| number.saturating_sub(NEAR)..number.saturating_add(NEAR);
            let guessed = near(own).chain(near(self.number("SUITE_PID"))).filter(|it| *it > 0);
            return guessed.map(|number| proc.join(number.to_string())).collect();
        };
        let is_process = |path: &PathBuf| {
            path.file_name().is_some_and(|it| it.as_encoded_bytes().iter().all(u8::is_ascii_digit))
        };
        listed.flatten().map(|entry| entry.path()).filter(is_process).collect()
    }

    /// What whoever started this left open and is the suite's: whoever runs the suite may have left
    /// more. `name` is of the ground, and says which file or socket it is.
    pub(crate) fn left_open(&self, name: &str) -> Vec<OwnedFd> {
        let is_it = |it: &OwnedFd| identity(it).is_ok_and(|it| it == self.get(name));
        attempt::left_open().into_iter().filter(is_it).collect()
    }

    /// A descriptor that came with the request.
    pub(crate) fn given(&self, at: usize) -> io::Result<BorrowedFd<'_>> {
        let given = self.given.get(at).ok_or(io::ErrorKind::NotFound)?;
        Ok(given.as_fd())
    }

    /// Puts a place's own descriptor where the request's is.
    pub(crate) fn replace_given(&mut self, at: usize, with: OwnedFd) {
        if let Some(given) = self.given.get_mut(at) {
            *given = with;
        }
    }

    /// Says what is in a file.
    pub(crate) fn say_file(&self, mut file: File) -> io::Result<()> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(1 << 20).read_to_end(&mut bytes)?;
        self.say(&bytes)
    }
}

/// Device and inode, as the ground has them.
pub(crate) fn identity(of: impl AsFd) -> io::Result<String> {
    let facts = rustix::fs::fstat(of)?;
    Ok(format!("{}:{}", facts.st_dev, facts.st_ino))
}
