//! From a forked child to the program of a call.
//!
//! Must never know which other calls there are.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::spec::{NotStarted, Resident};
use crate::sys::socket::Channel;
use crate::sys::{landlock, process};
use crate::wire::{Bytes, Environment, FromInit, Order, Runnable};

/// Exit code of a child that could not become its program; the message tells why.
const NOT_STARTED: i32 = 127;
/// Exit code of a resident program that panicked.
const PANICKED: i32 = 101;

/// What every call of a session shares.
pub(super) struct Shared {
    pub(super) socket: Channel,
    pub(super) environment: Environment,
    /// The Landlock layer that each call puts on.
    pub(super) layer: OwnedFd,
    pub(super) residents: &'static [Resident],
}

/// Becomes the program of `order`. Called in a child that has done nothing else yet.
pub(super) fn become_program(shared: &Shared, order: &Order, descriptors: &[OwnedFd]) -> ! {
    let why = match prepare(shared, order, descriptors) {
        Err(_) => NotStarted::NoRoom,
        Ok(()) if rustix::process::chdir(order.cwd.as_os()).is_err() => NotStarted::NoDirectory,
        Ok(()) => match &order.program {
            Runnable::Execute { executable, args } => execute(shared, order, executable, args),
            Runnable::Resident { name } => run_resident(shared, name),
        },
    };
    let message = FromInit::NotStarted { call: order.call.clone(), why };
    let _supervisor_gone = shared.socket.send(&message, &[]);
    process::exit(NOT_STARTED)
}

/// Session, descriptors, Landlock layer, and word to the supervisor.
fn prepare(shared: &Shared, order: &Order, descriptors: &[OwnedFd]) -> io::Result<()> {
    let _already_leader = rustix::process::setsid();
    process::reset_signals();
    let mut numbers = Vec::with_capacity(3);
    for descriptor in descriptors {
        // Out of the way of 0, 1 and 2, which are about to be replaced.
        numbers.push(rustix::io::fcntl_dupfd_cloexec(descriptor, 3)?);
    }
    for (at, descriptor) in numbers.iter().enumerate() {
        process::place(descriptor.as_raw_fd(), at as i32)?;
    }
    if order.terminal {
        // Where standard input is no terminal there is nothing to control.
        let _no_terminal = rustix::process::ioctl_tiocsctty(process::borrow(0));
    }
    process::close_from_on_exec(3)?;
    landlock::restrict_self(shared.layer.as_fd())?;
    shared.socket.send(&FromInit::Started { call: order.call.clone() }, &[])
}

fn execute(shared: &Shared, order: &Order, executable: &Bytes, args: &[Bytes]) -> NotStarted {
    let environment = merge(&shared.environment, &order.environment);
    let path = environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let envp: io::Result<Vec<CString>> = environment
        .into_iter()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            process::c_string(&name)
        })
        .collect();
    let argv: io::Result<Vec<CString>> =
        [executable].into_iter().chain(args).map(|arg| process::c_string(arg.as_os())).collect();
    let (Ok(envp), Ok(argv)) = (envp, argv) else { return NotStarted::NotExecutable };
    let mut why = NotStarted::NotFound;
    for candidate in candidates(executable.as_os(), &path) {
        let Ok(program) = process::c_string(candidate.as_os_str()) else { continue };
        let error = process::execute(&program, &argv, &envp);
        // A file that is there and gives ENOENT lacks its interpreter.
        let exists = std::fs::metadata(&candidate).is_ok();
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if !exists => {}
            Some(libc::EAGAIN | libc::ENOMEM) => return NotStarted::NoRoom,
            // A later directory may have one that can be executed, as execvp(3) has it.
            _ => why = NotStarted::NotExecutable,
        }
    }
    why
}

/// Later names win.
fn merge(session: &Environment, call: &Environment) -> BTreeMap<OsString, OsString> {
    let pairs = session.iter().chain(call);
    pairs.map(|(name, value)| (name.as_os().to_owned(), value.as_os().to_owned())).collect()
}

/// A name without a slash is looked up; an empty entry of `PATH` is not the current directory.
fn candidates(executable: &OsStr, path: &OsStr) -> Vec<std::path::PathBuf> {
    if executable.as_bytes().contains(&b'/') || executable.is_empty() {
        return vec![executable.into()];
    }
    let directories = path.as_bytes().split(|byte| *byte == b':');
    let named = directories.filter(|directory| !directory.is_empty());
    named.map(|directory| Path::new(OsStr::from_bytes(directory)).join(executable)).collect()
}

fn run_resident(shared: &Shared, name: &str) -> NotStarted {
    let Some(resident) = shared.residents.iter().find(|resident| resident.name == name) else {
        return NotStarted::NotFound;
    };
    // It reads what the session made, so it holds nothing but its three descriptors.
    if process::close_from(3).is_err() {
        process::exit(NOT_STARTED);
    }
    let run = resident.run;
    let code = std::panic::catch_unwind(run).unwrap_or(PANICKED);
    let _closed = io::Write::flush(&mut io::stdout());
    process::exit(code)
}

#[cfg(test)]
mod tests {
    use super::candidates;
    use std::path::PathBuf;

    #[test]
    fn an_empty_path_entry_is_not_the_current_directory() {
        let found = candidates("sh".as_ref(), ":/bin::usr:".as_ref());
        assert_eq!(found, ["/bin/sh", "usr/sh"].map(PathBuf::from));
        assert_eq!(candidates("./sh".as_ref(), "/bin".as_ref()), [PathBuf::from("./sh")]);
    }
}
