//! The launcher process as the supervisor holds it.
//!
//! A thread of its own starts the process and stays until it ends, because the parent-death signal
//! is tied to the thread that forked. Must never know what is in a session.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::lock;
use crate::error::SandboxError;
use crate::launcher::{CONTROL, SUBCOMMAND};
use crate::privilege;
use crate::sys::socket::Channel;
use crate::sys::{memfd, process as kernel};
use crate::wire::{FromLauncher, Plan, ToLauncher, Widening};

/// How long the launcher may take to clone a session while it clones others.
const ANSWER_WITHIN: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// How long a killed process may take to end.
const ENDED_WITHIN: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// A running launcher.
pub(crate) struct Process {
    channel: Mutex<Channel>,
    pidfd: OwnedFd,
}

/// A cloned session.
pub(super) struct Opened {
    pub(super) process: Arc<Process>,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) rootless: bool,
    pub(super) groups: Vec<PathBuf>,
    /// Its mounts, where they could be had.
    pub(super) mounts: Option<OwnedFd>,
}

/// Copies the executable to where nobody can change it: a session that got hold of a descriptor
/// of the running program could otherwise overwrite it (CVE-2019-5736).
pub(super) fn image(executable: &Path) -> Result<OwnedFd, SandboxError> {
    let copy = || {
        let mut program = File::open(executable)?;
        memfd::sealed("cofferdam", true, |image| io::copy(&mut program, image).map(drop))
    };
    copy().map_err(SandboxError::system("copying the launcher"))
}

impl Process {
    /// Executes the image as a launcher.
    pub(super) fn start(image: BorrowedFd<'_>) -> Result<Self, SandboxError> {
        let failed = || SandboxError::system("starting the launcher");
        let (ours, theirs) = Channel::pair().map_err(failed())?;
        let image = image.try_clone_to_owned().map_err(failed())?;
        let (tell, told) = mpsc::channel();
        let holder = move || {
            let tie = Tie { arguments: &[], to_the_thread: true };
            let mut child = match spawn(&image, &theirs, &tie) {
                Ok((child, pidfd)) => {
                    drop(theirs);
                    let _supervisor_gone = tell.send(Ok(pidfd));
                    child
                }
                Err(error) => return drop(tell.send(Err(error))),
            };
            let _status = child.wait();
        };
        std::thread::Builder::new().name("launcher".to_owned()).spawn(holder).map_err(failed())?;
        let pidfd = told
            .recv()
            .map_err(|_| SandboxError::LauncherLost { detail: "its thread ended".to_owned() })?;
        Ok(Self { channel: Mutex::new(ours), pidfd: pidfd.map_err(failed())? })
    }

    /// Whether it has not ended.
    pub(super) fn is_alive(&self) -> bool {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut polled, Some(&now)), Ok(0))
    }

    /// Ends it and with it every session that it cloned.
    pub(crate) fn kill(&self) {
        let _gone = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits, for a while, until it has ended.
    pub(super) fn wait_for_end(&self) {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ended = poll(&mut polled, Some(&ENDED_WITHIN));
    }

    /// Has a session killed that this process may not signal.
    pub(super) fn kill_session(&self, pid: i32) {
        let _launcher_gone = lock(&self.channel).send(&ToLauncher::Kill { pid }, &[]);
    }

    /// Has a session widened; the answer comes over the first of the descriptors.
    pub(super) fn widen(
        &self,
        order: &Widening,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SandboxError> {
        let sent = lock(&self.channel).send(&ToLauncher::Widen(order.clone()), descriptors);
        sent.map_err(unheard)
    }

    /// Has a session cloned; `socket` becomes init's. `then_spare`: and the next one's groundwork laid.
    pub(super) fn open(
        self: Arc<Self>,
        plan: &Plan,
        then_spare: bool,
        socket: &Channel,
    ) -> Result<Opened, SandboxError> {
        let lost = |detail: &str| SandboxError::LauncherLost { detail: detail.to_owned() };
        let order = ToLauncher::Open { plan: Box::new(plan.clone()), then_spare };
        let packet = {
            let channel = lock(&self.channel);
            channel.send(&order, &[socket.as_fd()]).map_err(unheard)?;
            let mut polled = [PollFd::new(&*channel, PollFlags::IN)];
            if !matches!(poll(&mut polled, Some(&ANSWER_WITHIN)), Ok(1..)) {
                // It is stopped or stuck, so whatever it did half is undone by its end.
                self.kill();
                return Err(lost("it did not answer in time"));
            }
            channel.receive().map_err(unheard)?
        };
        let packet = packet.ok_or_else(|| lost("it ended while it cloned a session"))?;
        let mut descriptors = packet.descriptors.into_iter();
        match (packet.message, descriptors.next()) {
            (FromLauncher::Opened { pid, rootless, groups }, Some(pidfd)) => {
                let mounts = descriptors.next();
                Ok(Opened { process: self, pid, pidfd, rootless, groups, mounts })
            }
            (FromLauncher::Refused(refusal), _) => Err(refusal.into()),
            (FromLauncher::Opened { .. }, None) => Err(lost("it sent no process descriptor")),
        }
    }
}

/// Why nothing came of talking to the launcher. It may live and be well where this process has no
/// descriptor left.
fn unheard(error: io::Error) -> SandboxError {
    match SandboxError::is_out_of_files(&error) {
        true => SandboxError::system("hearing the launcher")(error),
        false => SandboxError::LauncherLost { detail: error.to_string() },
    }
}

/// How a process of this binary's own hangs together with this one.
pub(super) struct Tie {
    /// Behind the hidden subcommand.
    pub(super) arguments: &'static [&'static str],
    /// Whether it dies with the thread that starts it.
    pub(super) to_the_thread: bool,
}

pub(super) fn spawn(
    image: &OwnedFd,
    socket: &Channel,
    tie: &Tie,
) -> io::Result<(std::process::Child, OwnedFd)> {
    let tied = tie.to_the_thread;
    // Not at the number that the socket is to have: that would be what is executed (EACCES).
    let image = rustix::io::fcntl_dupfd_cloexec(image, CONTROL + 1)?;
    let socket = socket.as_fd().as_raw_fd();
    let mut command = Command::new(format!("/proc/self/fd/{}", image.as_raw_fd()));
    command
        .arg0("cofferdam-launcher")
        .arg(SUBCOMMAND)
        .args(tie.arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let prepare = move || {
        privilege::take_back()?;
        rustix::process::setsid()?;
        if tied {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        }
        match kernel::new_keyring() {
            // A kernel without key rings has none to inherit. Where the filter of a container engine
            // forbids it, init is forbidden too, and judges what that means.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                return Err(error);
            }
            _ => {}
        }
        kernel::close_from_on_exec(3)?;
        kernel::place(socket, CONTROL)
    };
    // SAFETY: only system calls are made between fork and execution; nothing is allocated and no
    // lock is taken. What `close_from_on_exec` marks, the parent still owns in its own table.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok((child, pidfd))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: &str = "COFFERDAM_TEST_ALONE";

    /// A process whose descriptor 3 was free when the image was copied. In a process of its own,
    /// since the number is taken from whoever has it.
    #[test]
    fn an_image_at_the_sockets_number_is_executed_all_the_same() {
        if std::env::var_os(ALONE).is_none() {
            let name = "an_image_at_the_sockets_number_is_executed_all_the_same";
            let mut alone = Command::new(std::env::current_exe().unwrap());
            let output = alone.args(["--nocapture", name]).env(ALONE, "").output().unwrap();
            let said =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let image = std::os::fd::IntoRawFd::into_raw_fd(image(Path::new("/bin/true")).unwrap());
        kernel::place(image, CONTROL).unwrap();
        // SAFETY: nothing else in this process has the number.
        let at_three = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(CONTROL) };
        let (_ours, theirs) = Channel::pair().unwrap();
        let tie = Tie { arguments: &[], to_the_thread: false };
        let (mut child, _pidfd) = spawn(&at_three, &theirs, &tie).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
