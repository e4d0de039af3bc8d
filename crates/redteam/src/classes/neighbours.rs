//! Two sessions at once: one has something, the other wants it. The control is the same attempt by
//! another call of the session that has it.

use std::any::Any;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cofferdam_contract::capability::WallName;
use cofferdam_sandbox::attempt;
use rustix::fs::FlockOperation;

use crate::probe::{Probe, Proof, code};
use crate::scene::Scene;

const LAYERS: &str = "layers over the host's files";
const DEVICES: &str = "own device files";
const NULL: &str = "/dev/null";
const MOUNTS: &str = "own file systems";
const LAYER: &str = "the workspace's own layer";
const NET: &str = "network namespace";
const IPC: &str = "IPC namespace";
const PIDS: &str = "process namespace";

/// What has to be kept for as long as the neighbour has what is wanted.
pub(crate) type Kept = Box<dyn Any>;

#[rustfmt::skip]
pub(crate) const PROBES: &[Probe] = &[
    code("neighbour.tmp", "a file in its /tmp", MOUNTS, Proof::Canary, |s| read(s, s.get("SCRATCH")))
        .plants(|s, c| write(s, s.get("SCRATCH"), c)),
    code("neighbour.shm", "a file in its /dev/shm", MOUNTS, Proof::Canary, |s| read(s, "/dev/shm"))
        .plants(|s, c| write(s, "/dev/shm", c)).of(WallName::MountNamespace),
    code("neighbour.home", "a file in its home", MOUNTS, Proof::Canary, |s| read(s, s.get("SESSION_HOME")))
        .plants(|s, c| write(s, s.get("SESSION_HOME"), c)),
    code("neighbour.workspace", "a file in its workspace, of the same base", LAYER, Proof::Canary, |s| read(s, s.get("WORKSPACE")))
        .plants(|s, c| write(s, s.get("WORKSPACE"), c)),
    code("neighbour.process-root", "a file, through the root of every process that /proc shows", PIDS, Proof::Canary, |s| {
        each_process(s, &format!("root{}", left(s, s.get("SCRATCH")).display()))
    }).plants(|s, c| {
        write(s, s.get("SCRATCH"), c)?;
        waiting(c)
    }),
    code("neighbour.arguments", "the arguments of its processes", PIDS, Proof::Canary, |s| each_process(s, "cmdline"))
        .plants(|_, c| waiting(c)).of(WallName::PidNamespace),
    code("neighbour.abstract", "its abstract socket", NET, Proof::Canary, |s| {
        listen_to(s, UnixStream::connect_addr(&SocketAddr::from_abstract_name(s.get("NONCE"))?)?)
    }).plants(|s, c| {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(s.get("NONCE"))?)?;
        serve(c, move || listener.accept().map(|(stream, _)| stream))
    }).of(WallName::NetworkNamespace),
    code("neighbour.socket-file", "its socket file in /tmp", MOUNTS, Proof::Canary, |s| {
        listen_to(s, UnixStream::connect(left(s, s.get("SCRATCH")))?)
    }).plants(|s, c| {
        let listener = UnixListener::bind(left(s, s.get("SCRATCH")))?;
        serve(c, move || listener.accept().map(|(stream, _)| stream))
    }).of(WallName::NetworkNamespace),
    code("neighbour.server", "its server on loopback", NET, Proof::Canary, |s| {
        listen_to(s, TcpStream::connect((Ipv4Addr::LOCALHOST, port(s)))?)
    }).plants(|s, c| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port(s)))?;
        serve(c, move || listener.accept().map(|(stream, _)| stream))
    }).of(WallName::NetworkNamespace),
    code("neighbour.datagrams", "its datagram server on loopback", NET, Proof::Canary, |s| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect((Ipv4Addr::LOCALHOST, port(s)))?;
        socket.send(b"?")?;
        let mut answer = [0; 256];
        let length = socket.recv(&mut answer)?;
        s.say(&answer[..length])
    }).plants(|s, c| {
        let (socket, canary) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, port(s)))?, c.to_vec());
        std::thread::Builder::new().spawn(move || {
            let mut question = [0; 16];
            while let Ok((_, from)) = socket.recv_from(&mut question) {
                let _gone = socket.send_to(&canary, from);
            }
        })?;
        Ok(Box::new(()))
    }).of(WallName::NetworkNamespace),
    code("neighbour.locks", "what it says by locking files of the system, a bit each", LAYERS, Proof::Canary, |s| {
        s.say(&read_locks(&lockable()?)?)
    }).plants(|_, c| lock_bits(&lockable()?, c)).requires(WallName::PrivateRoot),
    code("neighbour.devices", "what it says by locking a device file, a bit each", DEVICES, Proof::Canary, |s| {
        s.say(&attempt::locked_ranges(Path::new(NULL), LOCKED_BYTES_MAX)?)
    }).plants(|_, c| Ok(Box::new(attempt::lock_ranges(Path::new(NULL), c)?))).requires(WallName::Devices),
    code("neighbour.shared-memory", "its System V shared memory", IPC, Proof::Canary, |s| {
        s.say(&attempt::shared_memory(s.number("NUMBER"))?)
    }).plants(|s, c| Ok(Box::new(attempt::share_memory(s.number("NUMBER"), c)?))).of(WallName::IpcNamespace),
    code("neighbour.messages", "its System V messages", IPC, Proof::Canary, |s| {
        s.say(&attempt::receive_message(s.number("NUMBER"))?)
    }).plants(|s, c| Ok(Box::new(attempt::send_message(s.number("NUMBER"), c)?))).of(WallName::IpcNamespace),
];

/// Longest text that is said by locks.
const LOCKED_BYTES_MAX: usize = 32;

/// Files of the system that both see, the same in both, a bit of a text each.
fn lockable() -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir("/usr/bin")?.filter_map(Result::ok);
    // With one name each: a file that has two can be locked only once.
    let is_one = |it: std::fs::Metadata| it.is_file() && it.nlink() == 1;
    let files = entries.filter(|entry| entry.metadata().is_ok_and(is_one));
    let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    files.retain(|file| File::open(file).is_ok());
    files.sort();
    files.truncate(LOCKED_BYTES_MAX * 8);
    Ok(files)
}

fn lock_bits(files: &[PathBuf], text: &[u8]) -> io::Result<Kept> {
    if files.len() < text.len() * 8 {
        return Err(io::Error::other("there are too few files in /usr/bin"));
    }
    let is_set = |at: usize| text.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
    let mut held = Vec::new();
    for (_, file) in files.iter().enumerate().filter(|(at, _)| is_set(*at)) {
        let file = File::open(file)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        held.push(file);
    }
    Ok(Box::new(held))
}

fn read_locks(files: &[PathBuf]) -> io::Result<Vec<u8>> {
    let mut text = vec![0; files.len() / 8];
    for (at, file) in files.iter().enumerate() {
        let asked = rustix::fs::flock(File::open(file)?, FlockOperation::NonBlockingLockExclusive);
        if let (Err(rustix::io::Errno::WOULDBLOCK), Some(byte)) = (asked, text.get_mut(at / 8)) {
            *byte |= 1 << (at % 8);
        }
    }
    Ok(text)
}

fn left(scene: &Scene, dir: &str) -> PathBuf {
    PathBuf::from(dir).join(format!("left-{}", scene.get("NONCE")))
}

fn write(scene: &Scene, dir: &str, canary: &[u8]) -> io::Result<Kept> {
    std::fs::write(left(scene, dir), canary)?;
    Ok(Box::new(()))
}

fn read(scene: &Scene, dir: &str) -> io::Result<()> {
    scene.say_file(File::open(left(scene, dir))?)
}

/// In the range that no system gives by itself.
fn port(scene: &Scene) -> u16 {
    scene.number::<u16>("NUMBER").saturating_add(10_000)
}

/// A process that has the canary in its arguments.
fn waiting(canary: &[u8]) -> io::Result<Kept> {
    let canary = String::from_utf8_lossy(canary);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "kill -STOP $$"]).stdin(Stdio::null()).stdout(Stdio::null());
    command.arg(&*canary);
    Ok(Box::new(command.spawn()?))
}

fn each_process(scene: &Scene, file: &str) -> io::Result<()> {
    for process in scene.processes() {
        let mut bytes = Vec::new();
        if let Ok(kept) = File::open(process.join(file)) {
            let _gone = kept.take(1 << 20).read_to_end(&mut bytes);
        }
        scene.say(&bytes)?;
    }
    Ok(())
}

/// Tells the canary to everybody who connects, until the process ends.
fn serve<S: io::Write>(
    canary: &[u8],
    accept: impl Fn() -> io::Result<S> + Send + 'static,
) -> io::Result<Kept> {
    let canary = canary.to_vec();
    std::thread::Builder::new().spawn(move || {
        while let Ok(mut stream) = accept() {
            let _gone = stream.write_all(&canary);
        }
    })?;
    Ok(Box::new(()))
}

fn listen_to(scene: &Scene, mut stream: impl io::Read) -> io::Result<()> {
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    scene.say(&said)
}
