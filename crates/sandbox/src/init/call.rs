//! From an order to the first process of its call.
//!
//! Must never know which other calls there are.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::Pid;

use crate::spec::{NotStarted, Resident};
use crate::sys::landlock::Layer;
use crate::sys::process;
use crate::sys::socket::{Channel, encode};
use crate::sys::spawn::{self, Beginning, Failure, NOT_STARTED, Program};
use crate::wire::{Bytes, Environment, FromInit, Order, Runnable};

/// Exit code of a resident program that panicked.
const PANICKED: i32 = 101;

/// What every call of a session shares.
pub(super) struct Shared {
    pub(super) socket: Channel,
    environment: Environment,
    /// The same as the kernel takes it.
    plain: Variables,
    /// The Landlock layer that each call puts on.
    layer: Layer,
    residents: &'static [Resident],
    /// The session's own null device.
    null: OwnedFd,
}

impl Shared {
    pub(super) fn new(
        socket: Channel,
        environment: Environment,
        layer: Layer,
        residents: &'static [Resident],
    ) -> io::Result<Self> {
        let plain = Variables::of(&environment, &[])?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
        Ok(Self { socket, environment, plain, layer, residents, null })
    }

    /// A call's descriptor, or the session's null device for that of the host: through it the host's
    /// own file could be watched and locked.
    fn own<'a>(&'a self, descriptor: &'a OwnedFd) -> BorrowedFd<'a> {
        let is_null = rustix::fs::fstat(descriptor).is_ok_and(|it| {
            FileType::from_raw_mode(it.st_mode) == FileType::CharacterDevice
                && it.st_rdev == rustix::fs::makedev(1, 3)
        });
        if is_null { self.null.as_fd() } else { descriptor.as_fd() }
    }
}

/// An environment for the kernel, and the `PATH` in it.
struct Variables {
    envp: Vec<CString>,
    path: OsString,
}

impl Variables {
    fn of(session: &Environment, call: &[(Bytes, Bytes)]) -> io::Result<Self> {
        let environment = merge(session, call);
        let path = environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let envp: io::Result<_> = environment
            .into_iter()
            .map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                process::c_string(&name)
            })
            .collect();
        Ok(Self { envp: envp?, path })
    }
}

/// The first process of a call, and what kept it from becoming the program, which it then is not.
pub(super) type Begun = (Pid, Option<NotStarted>);

/// Starts the first process of a call. With an error there is none.
pub(super) fn start(
    shared: &Shared,
    order: &Order,
    descriptors: &[OwnedFd],
) -> Result<Begun, NotStarted> {
    let standard: Vec<BorrowedFd<'_>> = descriptors.iter().map(|it| shared.own(it)).collect();
    let birth = encode(&FromInit::Started { call: order.call.clone() });
    let (Ok(standard), Ok(birth)) = (standard.try_into(), birth) else {
        return Err(NotStarted::NoRoom);
    };
    let cwd = process::c_string(order.cwd.as_os()).map_err(|_| NotStarted::NoDirectory)?;
    let beginning = Beginning {
        standard,
        terminal: order.terminal,
        layer: &shared.layer,
        birth: (shared.socket.as_fd(), &birth),
        cwd: &cwd,
    };
    match &order.program {
        Runnable::Execute { executable, args } => {
            let words: Vec<&OsStr> =
                [executable].into_iter().chain(args).map(|arg| arg.as_os()).collect();
            execute(shared, order, &beginning, &words)
        }
        Runnable::Resident { name } => {
            let resident = shared.residents.iter().find(|resident| resident.name == name);
            let resident = resident.ok_or(NotStarted::NotFound)?;
            match process::fork() {
                Ok(None) => become_resident(shared, order, &beginning, resident),
                Ok(Some(pid)) => Ok((pid, None)),
                Err(_) => Err(NotStarted::NoRoom),
            }
        }
    }
}

fn execute(
    shared: &Shared,
    order: &Order,
    beginning: &Beginning<'_>,
    words: &[&OsStr],
) -> Result<Begun, NotStarted> {
    let of_call = match order.environment.as_slice() {
        [] => None,
        added => Some(Variables::of(&shared.environment, added)),
    };
    let of_call = of_call.transpose().map_err(|_| NotStarted::NotExecutable)?;
    let variables = of_call.as_ref().unwrap_or(&shared.plain);
    let argv = words.iter().map(|word| process::c_string(word)).collect::<io::Result<Vec<_>>>();
    let argv = argv.map_err(|_| NotStarted::NotExecutable)?;
    let executable = words.first().copied().unwrap_or_default();
    let candidates = candidates(executable, &variables.path);
    let candidates: Vec<CString> =
        candidates.iter().filter_map(|it| process::c_string(it.as_os_str()).ok()).collect();
    let program = Program { candidates: &candidates, argv: &argv, envp: &variables.envp };
    let (pid, failure) = spawn::spawn(beginning, &program).map_err(|_| NotStarted::NoRoom)?;
    Ok((pid, failure.map(NotStarted::from)))
}

impl From<Failure> for NotStarted {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound => Self::NotFound,
            Failure::NotExecutable => Self::NotExecutable,
            Failure::Directory => Self::NoDirectory,
            Failure::NoRoom => Self::NoRoom,
        }
    }
}

/// Becomes a resident. Called in a forked child that has done nothing else yet.
fn become_resident(
    shared: &Shared,
    order: &Order,
    beginning: &Beginning<'_>,
    resident: &Resident,
) -> ! {
    if let Err(failure) = beginning.enter() {
        let message = FromInit::NotStarted { call: order.call.clone(), why: failure.into() };
        let _supervisor_gone = shared.socket.send(&message, &[]);
        process::exit(NOT_STARTED)
    }
    // It reads what the session made, so it holds nothing but its three descriptors.
    if process::close_from(3).is_err() {
        process::exit(NOT_STARTED);
    }
    let code = std::panic::catch_unwind(resident.run).unwrap_or(PANICKED);
    let _closed = io::Write::flush(&mut io::stdout());
    process::exit(code)
}

/// Later names win.
fn merge(session: &Environment, call: &[(Bytes, Bytes)]) -> BTreeMap<OsString, OsString> {
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
