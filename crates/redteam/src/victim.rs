//! A process of the host that an attack may be after.
//!
//! Must never know what is tried on it.

use std::io::{self, Write as _};
use std::process::{Child, Command, Stdio};

/// A process of the host, and the kernel's record of it before the attempt.
pub(crate) struct Victim {
    child: Child,
    answers: std::process::ChildStdout,
    before: String,
}

impl Victim {
    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A process that answers what it reads and does nothing else.
    pub(crate) fn start() -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "while read -r line; do echo \"$line\"; done"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        rustix::io::ioctl_fionbio(&answers, true)?;
        let mut victim = Self { child, answers, before: String::new() };
        victim.answers()?;
        victim.before = victim.record();
        Ok(victim)
    }

    /// Asks it and waits for the answer. A signal that it was sent takes effect before it answers,
    /// so there is nothing to wait for where it does not: it has ended, or it stands still.
    fn answers(&mut self) -> io::Result<bool> {
        let asked = self.child.stdin.as_mut().map(|it| it.write_all(b"?\n"));
        if !matches!(asked, Some(Ok(()))) {
            return Ok(false);
        }
        let mut answer = [0; 2];
        loop {
            match rustix::io::read(&self.answers, &mut answer) {
                Ok(length) => return Ok(length > 0),
                Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
            if matches!(field(self.child.id(), 0).as_str(), "T" | "t" | "Z" | "X" | "") {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }

    /// Whether it stands still or is gone, or the kernel's record of it is another one.
    pub(crate) fn was_touched(&mut self) -> bool {
        !self.answers().unwrap_or(false) || self.record() != self.before
    }

    /// How nice it is, and what it may use.
    fn record(&self) -> String {
        let pid = self.child.id();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        format!("{} {limits}", field(pid, 16))
    }
}

/// A field of `/proc/PID/stat`, counted from the one after the name.
fn field(pid: u32, number: usize) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').nth(number).unwrap_or_default().to_owned()
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, Signal, kill_process};

    use super::Victim;

    #[test]
    fn a_victim_that_is_left_alone_is_untouched_and_one_that_gets_a_signal_is_not() {
        for signal in [None, Some(Signal::STOP), Some(Signal::KILL)] {
            let mut victim = Victim::start().unwrap();
            if let Some(signal) = signal {
                kill_process(Pid::from_child(&victim.child), signal).unwrap();
            }
            assert_eq!(victim.was_touched(), signal.is_some(), "{signal:?}");
        }
    }
}
