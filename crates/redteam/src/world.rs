//! The world that the attacks are after: files, ports, a process and a terminal of the suite's own.
//!
//! Everything is beneath one directory, on loopback, or a child of this process, and goes with it.
//! What is planted is new for every attempt, so that nothing of another can prove one. Must never
//! tell an attempt what it is to find.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cofferdam_sandbox::attempt;
use rustix::fs::{Mode, OFlags};

use crate::listen::heard;
use crate::scene::{Ground, identity};
use crate::victim::Victim;

/// Files of a home that hold a credential, by the tools that read them.
const CREDENTIALS: &[&str] = &[
    ".aws/credentials",
    ".ssh/id_ed25519",
    ".config/gh/hosts.yml",
    ".git-credentials",
    ".docker/config.json",
    ".kube/config",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".cargo/credentials.toml",
    ".config/tool/token",
    ".gnupg/private-keys-v1.d/key",
];

/// The places of the world beneath its directory.
pub struct Places;

impl Places {
    /// A home with credentials in it.
    pub fn home(dir: &Path) -> PathBuf {
        dir.join("home")
    }

    /// A directory for `PATH`, with a program of the host in it.
    pub fn tools(dir: &Path) -> PathBuf {
        dir.join("toolchain/bin")
    }

    /// A directory for `PATH`, with this program in it: so it is a program of the session, and
    /// what a session's walls do to programs is done to the attacker.
    pub fn attacker(dir: &Path) -> PathBuf {
        dir.join("attacker/bin/attacker")
    }
}

/// What only the suite knows during one attempt.
pub(crate) struct Secrets {
    /// What the planted files hold.
    pub(crate) canary: String,
    /// What this attempt is to deliver.
    pub(crate) nonce: String,
}

/// The world.
pub(crate) struct World {
    dir: PathBuf,
    /// What the environment, an argument and a key of this process hold.
    pub(crate) planted: String,
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    udp: UdpSocket,
    named: UnixListener,
    named_datagrams: UnixDatagram,
    at_path: UnixListener,
    in_tools: UnixListener,
    datagrams_in_tools: UnixDatagram,
    terminal: (OwnedFd, OwnedFd),
    /// Open across execution, as a careless program leaves them: to read, to write, to send.
    inherited: [OwnedFd; 3],
    inherited_end: OwnedFd,
    random: fn() -> String,
}

fn at(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}

/// A name of an abstract socket that is this process's.
fn abstract_name(kind: &str) -> String {
    format!("cofferdam-redteam-{kind}-{}", std::process::id())
}

impl World {
    /// Plants everything beneath `dir`, which is there and empty but for the suite's own state.
    pub(crate) fn plant(dir: &Path, planted: String, random: fn() -> String) -> io::Result<Self> {
        for name in ["secret", "outside", "home", "toolchain/bin", "base", "open", "own"] {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir.join(name))?;
        }
        symlink(at(dir, "secret/file"), at(dir, "base/link-to-secret"))?;
        symlink(at(dir, "outside"), at(dir, "base/link-to-outside"))?;
        let listener = |name: &Path| UnixListener::bind(name);
        let address = SocketAddr::from_abstract_name(abstract_name("stream"))?;
        let datagrams = SocketAddr::from_abstract_name(abstract_name("datagram"))?;
        let world = Self {
            planted,
            tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            tcp6: TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok(),
            udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            named: UnixListener::bind_addr(&address)?,
            named_datagrams: UnixDatagram::bind_addr(&datagrams)?,
            at_path: listener(&at(dir, "secret/socket"))?,
            in_tools: listener(&at(dir, "toolchain/bin/socket"))?,
            datagrams_in_tools: UnixDatagram::bind(at(dir, "toolchain/bin/datagram"))?,
            terminal: terminal()?,
            inherited: careless(dir)?,
            inherited_end: null()?,
            random,
            dir: dir.to_owned(),
        };
        world.share_a_socket_carelessly()
    }

    fn share_a_socket_carelessly(mut self) -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let flags = SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::io::fcntl_setfd(&one, rustix::io::FdFlags::CLOEXEC)?;
        (self.inherited_end, self.inherited[2]) = (one, other);
        Ok(self)
    }

    /// Makes everything new for one attempt.
    pub(crate) fn renew(&self) -> io::Result<Secrets> {
        let secrets = Secrets { canary: (self.random)(), nonce: (self.random)() };
        let canary = format!("{}\n", secrets.canary);
        self.write("secret/file", &canary, 0o600)?;
        for dir in ["outside", "open", "home"] {
            empty(&at(&self.dir, dir), &[])?;
        }
        empty(&at(&self.dir, "toolchain/bin"), &["socket", "datagram"])?;
        empty(&at(&self.dir, "base"), &["link-to-secret", "link-to-outside"])?;
        for dir in ["outside", "open", "toolchain/bin", "base"] {
            self.write(&format!("{dir}/kept"), "kept\n", 0o644)?;
        }
        self.write("toolchain/bin/tool", "#!/bin/sh\necho tool\n", 0o755)?;
        for credential in CREDENTIALS {
            self.write(&format!("home/{credential}"), &canary, 0o600)?;
        }
        let for_git = format!("https://agent:{}@example.invalid\n", secrets.canary);
        self.write("home/.git-credentials", &for_git, 0o600)?;
        symlink(at(&self.dir, "secret/file"), at(&self.dir, "open/link-to-secret"))?;
        symlink(at(&self.dir, "outside"), at(&self.dir, "open/link-to-outside"))?;
        let _nothing_left = heard(&self.listeners(), "");
        Ok(secrets)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> io::Result<()> {
        let path = at(&self.dir, name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
    }

    /// What an attempt may know.
    pub(crate) fn ground(&self, secrets: &Secrets, victim: Option<&Victim>) -> Ground {
        let path = |name: &str| at(&self.dir, name).to_string_lossy().into_owned();
        let port = |address: io::Result<std::net::SocketAddr>| {
            address.map_or(0, |address| address.port()).to_string()
        };
        let victim = victim.map_or_else(String::new, |it| it.id().to_string());
        let identity = |of: BorrowedFd<'_>| identity(of).unwrap_or_default();
        let number =
            secrets.nonce.bytes().fold(7_u32, |sum, byte| sum * 31 % 9973 + u32::from(byte));
        let (kind, handle) =
            attempt::file_handle(&path("secret/file")).unwrap_or_else(|_| (0, Vec::new()));
        let handle: Vec<String> = handle.iter().map(u8::to_string).collect();
        [
            ("SECRET", path("secret/file")),
            ("SECRET_HANDLE", handle.join(",")),
            ("SECRET_HANDLE_TYPE", kind.to_string()),
            ("SECRET_DIR", path("secret")),
            ("OUTSIDE", path("outside")),
            ("TOOLS", path("toolchain/bin")),
            ("BASE", path("base")),
            ("HOST_HOME", path("home")),
            ("SOCKET", path("secret/socket")),
            ("TOOLS_SOCKET", path("toolchain/bin/socket")),
            ("TOOLS_DATAGRAM", path("toolchain/bin/datagram")),
            ("PORT", port(self.tcp.local_addr())),
            ("PORT6", self.tcp6.as_ref().map_or("0".to_owned(), |it| port(it.local_addr()))),
            ("UDP_PORT", port(self.udp.local_addr())),
            ("ABSTRACT", abstract_name("stream")),
            ("ABSTRACT_DATAGRAM", abstract_name("datagram")),
            ("NONCE", secrets.nonce.clone()),
            ("NUMBER", (2000 + number).to_string()),
            ("HOST_PID", victim),
            ("SUITE_PID", std::process::id().to_string()),
            ("SECRET_IDENTITY", identity(self.inherited[0].as_fd())),
            ("SOCKET_IDENTITY", identity(self.inherited[2].as_fd())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Where the workspace of a control is, and a mount of its own.
    pub(crate) fn open_ground(&self) -> [(String, String); 8] {
        let path = |name: &str| at(&self.dir, name).to_string_lossy().into_owned();
        [
            ("WORKSPACE", path("open")),
            ("OWN_MOUNT", path("own")),
            ("SHARED", path("base")),
            ("SESSION_HOME", path("home")),
            ("SCRATCH", path("open")),
            ("SCRATCH_SHM", path("open")),
            ("SCRATCH_HOME", path("open")),
            ("LATE_MS", "50".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }

    /// The base of every session's workspace.
    pub(crate) fn base(&self) -> PathBuf {
        at(&self.dir, "base")
    }

    fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        let mut all = vec![
            self.tcp.as_fd(),
            self.udp.as_fd(),
            self.named.as_fd(),
            self.named_datagrams.as_fd(),
            self.at_path.as_fd(),
            self.in_tools.as_fd(),
            self.datagrams_in_tools.as_fd(),
            self.inherited_end.as_fd(),
        ];
        all.extend(self.tcp6.as_ref().map(AsFd::as_fd));
        all
    }

    /// Whether the nonce reached one of the host's listeners, or of those given.
    pub(crate) fn was_reached(&self, nonce: &str, more: &[OwnedFd]) -> bool {
        let mut all = self.listeners();
        all.extend(more.iter().map(AsFd::as_fd));
        heard(&all, nonce)
    }

    /// The canary in a file without a name, the host's own host name, and a terminal: for attempts
    /// that are about reaching them by another way.
    pub(crate) fn given(&self, secrets: &Secrets) -> io::Result<Vec<OwnedFd>> {
        let mut kept =
            std::fs::File::from(rustix::fs::memfd_create("kept", rustix::fs::MemfdFlags::CLOEXEC)?);
        writeln!(kept, "{}", secrets.canary)?;
        io::Seek::rewind(&mut kept)?;
        let name = std::fs::File::open("/proc/self/ns/uts")?;
        Ok(vec![kept.into(), name.into(), rustix::io::dup(&self.terminal.1)?])
    }

    /// Whether something was typed into the terminal.
    pub(crate) fn was_typed(&self) -> bool {
        let mut byte = [0; 16];
        rustix::io::read(&self.terminal.1, &mut byte).is_ok_and(|length| length > 0)
    }

    /// What only a program of the host can make, for a probe.
    pub(crate) fn mark(&self, probe: &str) -> PathBuf {
        at(&self.dir, &format!("outside/ran-{probe}"))
    }

    /// A repository of one commit that ordinary git made, for governed runs.
    pub(crate) fn repository(&self) -> io::Result<PathBuf> {
        let dir = at(&self.dir, "repository");
        if !dir.exists() {
            std::fs::create_dir(&dir)?;
            make_repository(&dir)?;
        }
        Ok(dir)
    }

    /// A store of git's beside the secret that has it, and the secret's name there, as somebody has it
    /// who knows what it could be.
    pub(crate) fn store(&self) -> io::Result<[(String, String); 2]> {
        let (secret, store) = (at(&self.dir, "secret"), at(&self.dir, "secret/store"));
        git(&secret, &["init", "-q", "--bare", "--template=", "store"])?;
        let name = git(&store, &["hash-object", "-w", "../file"])?;
        let name = String::from_utf8_lossy(&name).trim().to_owned();
        let store = store.to_string_lossy().into_owned();
        Ok([("SECRET_STORE".to_owned(), store), ("SECRET_BLOB".to_owned(), name)])
    }

    /// Makes a control's workspace such a repository.
    pub(crate) fn open_repository(&self) -> io::Result<()> {
        let dir = at(&self.dir, "open");
        empty(&dir, &[])?;
        make_repository(&dir)
    }

    /// Everything that must not change: path, kind, mode, size, time, content, attributes.
    pub(crate) fn fingerprint(&self) -> io::Result<BTreeMap<PathBuf, String>> {
        let mut found = BTreeMap::new();
        let mut dirs: Vec<_> =
            ["secret", "outside", "home", "toolchain", "base"].map(|it| at(&self.dir, it)).into();
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(&dir)? {
                let path = entry?.path();
                let facts = path.symlink_metadata()?;
                let mut print = format!(
                    "{:o} {} {} {} {} {}.{}",
                    facts.mode(),
                    facts.uid(),
                    facts.nlink(),
                    facts.len(),
                    facts.ino(),
                    facts.mtime(),
                    facts.mtime_nsec()
                );
                if facts.is_file() {
                    let bytes = std::fs::read(&path)?;
                    let mut names = vec![0; 1024];
                    let attributes = rustix::fs::llistxattr(&path, &mut names).unwrap_or_default();
                    let _infallible = write!(print, " {attributes} {bytes:?}");
                } else if facts.is_dir() {
                    dirs.push(path.clone());
                }
                found.insert(path, print);
            }
        }
        Ok(found)
    }
}

fn make_repository(dir: &Path) -> io::Result<()> {
    std::fs::write(dir.join("kept"), "kept\n")?;
    for args in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "one"]]
    {
        git(dir, args)?;
    }
    std::fs::create_dir_all(dir.join(".git/hooks"))
}

/// What ordinary git puts out.
fn git(dir: &Path, args: &[&str]) -> io::Result<Vec<u8>> {
    let done = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.invalid"])
        .args(["-c", "core.hooksPath=/dev/null"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .output()?;
    if !done.status.success() {
        return Err(io::Error::other("git could not make a repository"));
    }
    Ok(done.stdout)
}

/// Ends the processes that have `nonce` in their arguments; whether there was one. This process
/// and its children do not.
pub(crate) fn end_left(nonce: &str) -> bool {
    let mut found = false;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let has = |argument: &[u8]| argument == nonce.as_bytes();
        let pid = entry.file_name().to_str().and_then(|it| it.parse().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw)
            && line.split(|byte| *byte == 0).any(has)
        {
            found = true;
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    found
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Descriptors that are open across execution: whoever starts a program without closing them
/// gives them away.
fn careless(dir: &Path) -> io::Result<[OwnedFd; 3]> {
    std::fs::write(at(dir, "secret/file"), "")?;
    std::fs::write(at(dir, "outside/kept"), "")?;
    let open = |name: &str, flags| rustix::fs::open(at(dir, name), flags, Mode::empty());
    Ok([open("secret/file", OFlags::RDONLY)?, open("secret/file", OFlags::WRONLY)?, null()?])
}

/// A terminal of the suite's own: what is typed can be read at once, and without waiting.
fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let slave = rustix::fs::open(name, flags, Mode::empty())?;
    let mut settings = rustix::termios::tcgetattr(&slave)?;
    settings.make_raw();
    rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &settings)?;
    Ok((master, slave))
}

/// Removes what is in a directory but these.
fn empty(dir: &Path, but: &[&str]) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if but.iter().any(|kept| path.ends_with(kept)) {
            continue;
        }
        if path.symlink_metadata()?.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
