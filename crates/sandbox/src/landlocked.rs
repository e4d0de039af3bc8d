//! The Landlock layers of a session: one for all of it and one for each call.
//!
//! Behind a private root Landlock is the second wall: what the root already keeps out or keeps
//! read-only is refused once more. In a flat session it is the first. Must never know why a path
//! may be reached.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::{Boundary, Wall, WallName, WallStatus};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::sys::landlock::{self as kernel, Layer};

/// What is asked for; the kernel's own best is what is had.
const WANTED: ABI = ABI::V6;
/// Least that a flat session needs: without scopes it could signal the user's other processes.
pub(crate) const FLAT_ABI_MIN: u32 = 6;

/// What a session may reach. What is not there needs no rule.
pub(crate) struct Reach {
    pub(crate) boundary: Boundary,
    /// The kernel's audit is told of what is refused.
    pub(crate) audited: bool,
    /// May be listed, and nothing more.
    pub(crate) list: Vec<PathBuf>,
    /// Read and executed.
    pub(crate) read: Vec<PathBuf>,
    /// Read, and written where the kernel's own rules for them allow it.
    pub(crate) in_place: Vec<PathBuf>,
    /// The same, with their commands.
    pub(crate) devices: Vec<PathBuf>,
    /// Everything.
    pub(crate) write: Vec<PathBuf>,
    /// Parents of what will be mounted there, so that their rules hold for it (the walk goes up
    /// through mounts): files are read, and in the second also written. Nothing that the host could
    /// trip over is made there: no links, no sockets, no pipes; and nothing there is executed.
    pub(crate) lent: Vec<PathBuf>,
    pub(crate) lent_to_write: Vec<PathBuf>,
    /// Written, and nothing else.
    pub(crate) asked: Vec<PathBuf>,
    /// Read by init, and by no call.
    pub(crate) init_reads: Vec<PathBuf>,
}

/// Restricts this process, and all that it will ever start, to what the session may reach.
pub(crate) fn session(reach: &Reach) -> Result<Vec<Wall>, String> {
    let abi = kernel::abi();
    if abi == 0 {
        return Err("the kernel has no Landlock, or it is not enabled at boot".to_owned());
    }
    if reach.boundary == Boundary::Flat && abi < FLAT_ABI_MIN {
        return Err(format!(
            "a flat session needs Landlock ABI {FLAT_ABI_MIN} (Linux 6.12), and this is ABI {abi}"
        ));
    }
    let rules: Option<OwnedFd> = rules(reach, true).map_err(|error| error.to_string())?.into();
    let rules = rules.ok_or_else(|| "the kernel enforced none of it".to_owned())?;
    Layer::of_session(rules, reach.audited).put_on().map_err(|error| error.to_string())?;
    let scopes = if abi >= 6 {
        (WallStatus::Enforced, "abstract sockets and signals end at the session's domain")
    } else {
        (WallStatus::Absent, "before ABI 6; the namespaces stand for it")
    };
    Ok(vec![
        Wall {
            name: WallName::LandlockFilesystem,
            status: WallStatus::Enforced,
            detail: format!("ABI {abi}: reading the view, writing workspace and scratch"),
        },
        Wall { name: WallName::LandlockScopes, status: scopes.0, detail: scopes.1.to_owned() },
    ])
}

/// The rules of the session as a whole, which init is under as well, or those of a call.
fn rules(reach: &Reach, is_session: bool) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(WANTED);
    let read = AccessFs::from_read(WANTED);
    let mut rules = Ruleset::default().handle_access(all)?;
    if reach.boundary == Boundary::Flat {
        // There are no such sockets; this stands behind the filter.
        rules = rules.handle_access(AccessNet::from_all(WANTED))?;
    }
    if is_session {
        // Not in a call: calls signal what runs in the background.
        rules = rules.scope(Scope::from_all(WANTED))?;
    }
    let mut rules = rules.create()?;
    // A program may write to its own entries of /proc, such as `oom_score_adj`.
    let in_place = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile;
    let devices = in_place | AccessFs::IoctlDev | AccessFs::Truncate;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let files = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::MakeDir;
    let moving = AccessFs::RemoveFile | AccessFs::RemoveDir | AccessFs::Refer;
    let no_paths = Vec::new();
    let own = if is_session { &reach.init_reads } else { &no_paths };
    let kinds = [
        (&reach.list, AccessFs::ReadDir.into()),
        (&reach.read, read),
        (&reach.in_place, in_place),
        (&reach.devices, devices),
        (&reach.write, all),
        (&reach.lent, reading),
        (&reach.lent_to_write, reading | files | moving),
        (&reach.asked, AccessFs::WriteFile.into()),
        (own, reading),
    ];
    for (paths, access) in kinds {
        for path in uppermost(paths) {
            rules = allow(rules, path, access)?;
        }
    }
    Ok(rules)
}

/// Without those for which the rule of a directory above them holds: each call's domain copies every
/// rule of the session's, and 77 of them took 30 us. A link may lead elsewhere.
fn uppermost(paths: &[PathBuf]) -> Vec<&Path> {
    let mut sorted: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    // What lies beneath a directory comes right after it.
    sorted.sort_unstable();
    let mut above: Option<&Path> = None;
    sorted.retain(|&path| {
        if above.is_some_and(|above| path.starts_with(above)) {
            return path.is_symlink();
        }
        above = Some(path);
        true
    });
    sorted
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(rules) };
    let kind = rustix::fs::fstat(&opened).map(|it| rustix::fs::FileType::from_raw_mode(it.st_mode));
    let access = if kind.is_ok_and(|it| it.is_dir()) {
        access
    } else {
        access & AccessFs::from_file(WANTED)
    };
    rules.add_rule(PathBeneath::new(opened, access))
}

/// The layer that each call puts on: it gives the call a domain of its own, which other calls
/// cannot trace into. Prepared once.
///
/// In a native session it refuses nothing that is not refused already. In a flat one it takes away
/// what init alone may read. The kernel's audit names the innermost domain that refuses: where it
/// tells, that has to be the call's, so this layer then refuses all that the session's does.
///
/// Moving a file between directories is refused by any layer that does not say otherwise.
pub(crate) fn call_layer(reach: &Reach) -> Result<Layer, String> {
    let little = || -> Result<Option<OwnedFd>, RulesetError> {
        let rules =
            Ruleset::default().handle_access(AccessFs::MakeBlock | AccessFs::Refer)?.create()?;
        Ok(allow(rules, Path::new("/"), AccessFs::Refer.into())?.into())
    };
    let whole = reach.audited || reach.boundary == Boundary::Flat;
    // A call must be able to signal what the session runs in the background: no scope here.
    let made = if whole { rules(reach, false).map(Into::into) } else { little() };
    match made {
        Ok(Some(rules)) => Ok(Layer::of_call(rules, reach.audited)),
        Ok(None) => Err("the kernel made no rules for calls".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Each wall of Landlock's alone: in a session others answer first. A domain is a thread's.
#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// What lies outside of the domain.
    struct Outside {
        dir: tempfile::TempDir,
        tcp: TcpListener,
        socket: UnixListener,
        /// Ends when its standard input does.
        process: Child,
    }

    impl Outside {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("inside")).unwrap();
            for file in ["outside", "linked", "inside/file"] {
                std::fs::write(dir.path().join(file), "text").unwrap();
            }
            symlink(dir.path().join("linked"), dir.path().join("inside/link")).unwrap();
            let process = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
            let name = abstract_name("outside");
            Self {
                dir,
                tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
                socket: UnixListener::bind_addr(&name).unwrap(),
                process,
            }
        }

        fn reach(&self, boundary: Boundary) -> Reach {
            let none = Vec::new;
            let inside = self.dir.path().join("inside");
            Reach {
                boundary,
                audited: false,
                list: none(),
                // The link is not beneath what it seems to be.
                read: vec![inside.join("file"), inside.join("link"), inside],
                in_place: none(),
                devices: none(),
                write: none(),
                lent: none(),
                lent_to_write: none(),
                asked: none(),
                init_reads: none(),
            }
        }

        /// What is refused to this thread.
        fn refused(&self) -> Vec<&'static str> {
            let process = rustix::process::Pid::from_child(&self.process);
            let signal = rustix::process::test_kill_process(process).map_err(io::Error::from);
            let path = |name: &str| self.dir.path().join(name);
            let tries = [
                ("read outside", std::fs::read(path("outside")).map(drop)),
                ("read inside", std::fs::read(path("inside/file")).map(drop)),
                ("read by a link", std::fs::read(path("inside/link")).map(drop)),
                ("write inside", std::fs::write(path("inside/file"), "text")),
                ("connect", TcpStream::connect(self.tcp.local_addr().unwrap()).map(drop)),
                ("bind", TcpListener::bind("127.0.0.1:0").map(drop)),
                ("socket outside", to(&self.socket)),
                ("socket inside", to(&UnixListener::bind_addr(&abstract_name("inside")).unwrap())),
                ("signal outside", signal),
            ];
            let is_refusal = |tried: &io::Result<()>| match tried {
                Ok(()) => false,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => true,
                Err(error) => panic!("{error}"),
            };
            tries.into_iter().filter(|(_, tried)| is_refusal(tried)).map(|it| it.0).collect()
        }
    }

    impl Drop for Outside {
        fn drop(&mut self) {
            drop(self.process.stdin.take());
            self.process.wait().unwrap();
        }
    }

    fn abstract_name(name: &str) -> SocketAddr {
        let pid = std::process::id();
        let thread = std::thread::current().id();
        SocketAddr::from_abstract_name(format!("cofferdam-{pid}-{thread:?}-{name}")).unwrap()
    }

    fn to(socket: &UnixListener) -> io::Result<()> {
        UnixStream::connect_addr(&socket.local_addr()?).map(drop)
    }

    #[test]
    fn each_of_its_walls_holds_without_the_others() {
        let outside = Outside::new();
        assert!(outside.refused().is_empty(), "the control: a thread without a domain");
        let in_domain = |boundary| {
            let thread = || {
                rustix::thread::set_no_new_privs(true).unwrap();
                session(&outside.reach(boundary)).unwrap();
                outside.refused()
            };
            std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
        };
        let native = ["read outside", "write inside", "socket outside", "signal outside"];
        assert_eq!(in_domain(Boundary::Native), native);
        let flat =
            ["read outside", "write inside", "connect", "bind", "socket outside", "signal outside"];
        assert_eq!(in_domain(Boundary::Flat), flat);
    }
}
