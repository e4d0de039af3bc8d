//! What the tests of the boundary run: a launcher, a supervisor that can be killed, and attacks.
//!
//! Each attack prints what it got and exits with 0 if it succeeded, 1 if it was refused.

// One of the programs that it offers is there to panic, and one attack has no safe wrapper.
#![allow(clippy::panic, unsafe_code)]

#[path = "support/granted.rs"]
mod granted;
#[path = "support/soak.rs"]
mod soak;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cofferdam_contract::capability::{Boundary, WorkspaceKind};
use cofferdam_contract::denial::Denial;
use cofferdam_contract::ids::{CallId, SessionId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::mount::WorkspaceMount;
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::time::UtcTime;
use cofferdam_sandbox::view::Bind;
use cofferdam_sandbox::{
    CallIo, CallSpec, DenialSink, Launcher, LauncherOptions, Program, Resident, SandboxSpec,
    Session, View,
};

const RESIDENTS: &[Resident] = &[
    Resident { name: "upper", run: upper },
    Resident { name: "panic", run: || panic!("as asked") },
    Resident { name: "descriptors", run: print_descriptors },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if args.first() == Some(&"__launcher") {
        cofferdam_sandbox::launcher_main(RESIDENTS);
    }
    if let ["supervise", dir, sessions, ref spare @ ..] = args[..] {
        return supervise(dir.as_ref(), sessions.parse().unwrap_or(1), *spare == ["spare"]);
    }
    if let ["soak", dir] = args[..] {
        return said(&soak::soak(dir.as_ref()));
    }
    match attack(&args) {
        Ok(got) => {
            println!("{got}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("refused: {error}");
            ExitCode::FAILURE
        }
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UtcTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UtcTime::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or_default())
    }
}

/// Different at every use; nothing here needs more.
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state =
            (u64::from(std::process::id()) << 32) ^ self.0.fetch_add(1, Ordering::Relaxed);
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
    }
}

struct Nowhere;

impl DenialSink for Nowhere {
    fn denied(&self, _denial: Denial) {}

    fn lost(&self, _count: u64, _source: &str) {}
}

/// Holds sessions beneath `dir`, in each of which a daemon runs, and does what it reads:
/// `open [N]`, `rest [N]` (the daemon of such a one does nothing), `try`, `end`. With `spare`, the groundwork of the next one is laid in advance.
fn supervise(dir: &Path, sessions: usize, spare: bool) -> ExitCode {
    said(&supervise_on(dir, sessions, spare))
}

fn said(done: &Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    if let Err(error) = done {
        println!("{error:?}");
    }
    ExitCode::from(u8::from(done.is_err()))
}

fn supervise_on(
    dir: &Path,
    sessions: usize,
    spare: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let clock = Arc::new(SystemClock);
    let entropy = Arc::new(Counter(AtomicU64::new(1)));
    let executable = std::env::current_exe()?;
    let landlock_audit = std::env::var_os("COFFERDAM_TEST_AUDIT").is_some();
    let options = LauncherOptions { executable, clock, entropy, spare, landlock_audit };

    let (clock, entropy) = (Arc::clone(&options.clock), Arc::clone(&options.entropy));
    let launcher = Launcher::start(options)?;
    let start = |session: &Session, args: [&str; 2]| -> Result<(), Box<dyn std::error::Error>> {
        let call = CallId::generate(&*clock, &*entropy);
        let program = Program::Execute {
            executable: "/opt/probe".into(),
            args: args.map(Into::into).to_vec(),
        };
        let spec = CallSpec {
            id: call,
            program,
            environment: Vec::new(),
            cwd: "/workspace".into(),
            timeout_ms: 60_000,
            output_bytes_max: 1 << 20,
            background: true,
            is_agent: false,
            terminal: false,
        };
        let result = session.call(spec, CallIo::Captured { stdin: Vec::new() })?.wait();
        if result.exit_code == Some(0) { Ok(()) } else { Err(format!("{result:?}").into()) }
    };
    let open = |daemon| -> Result<Session, Box<dyn std::error::Error>> {
        let id = SessionId::generate(&*clock, &*entropy);
        let session = launcher.open(specification(dir, id)?, Arc::new(Nowhere))?;
        start(&session, [daemon, "/workspace/beats"])?;
        Ok(session)
    };
    let mut held = Vec::new();
    for _ in 0..sessions {
        held.push(open("daemon")?);
    }
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line?;
        let (word, count) = line.split_once(' ').unwrap_or((&line, "1"));
        match word {
            "open" | "rest" => {
                let daemon = if word == "open" { "daemon" } else { "resting-daemon" };
                for _ in 0..count.parse::<usize>()? {
                    held.push(open(daemon)?);
                }
                println!("opened");
            }
            "try" => {
                held.iter().try_for_each(|it| start(it, ["trying-daemon", "/workspace/tries"]))?;
                println!("trying");
            }
            _ => {
                held.clear();
                println!("ended");
            }
        }
    }
    Ok(())
}

fn specification(dir: &Path, session: SessionId) -> std::io::Result<SandboxSpec> {
    let scratch = dir.join("sessions").join(session.as_str());
    let (base, upper, work) = (dir.join("base"), scratch.join("upper"), scratch.join("work"));
    for path in [&base, &upper, &work] {
        std::fs::create_dir_all(path)?;
    }
    let mut view = View::of_host("/usr/bin:/bin".as_ref(), Path::new("/nonexistent"), &|_| None);
    view.binds.push(Bind { source: std::env::current_exe()?, target: "/opt/probe".into() });
    let workspace =
        WorkspaceMount::Overlay { lowers: vec![base], upper, work, carries: Vec::new() };
    Ok(SandboxSpec {
        session,
        run: None,
        boundary: Boundary::Native,
        view,
        workspace,
        workspace_kind: WorkspaceKind::Overlay,
        caches: Default::default(),
        workspace_path: "/workspace".into(),
        environment: Vec::new(),
        limits: Limits { pids: 50, memory_bytes: 1 << 30, ..Limits::default() },
        decoys: true,
        debug: false,
        tells_writes: false,
        scratch,
    })
}

/// Copies input to output in capitals.
fn upper() -> i32 {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    let written = std::io::stdout().write_all(text.to_uppercase().as_bytes());
    i32::from(read.is_err() || written.is_err())
}

fn print_descriptors() -> i32 {
    match descriptors() {
        Ok(found) => {
            println!("{found}");
            0
        }
        Err(_) => 1,
    }
}

fn attack(args: &[&str]) -> std::io::Result<String> {
    match args {
        ["read", path] => std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into()),
        ["write", path] => std::fs::write(path, "written").map(|()| "written".to_owned()),
        ["append", path] => {
            let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
            file.write_all(b"appended").map(|()| "appended".to_owned())
        }
        ["connect", address] => TcpStream::connect(address).map(|_| "connected".to_owned()),
        ["connect-abstract", name] => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            UnixStream::connect_addr(&address).map(|_| "connected".to_owned())
        }
        ["connect-path", path] => UnixStream::connect(path).map(|_| "connected".to_owned()),
        ["trace", pid] => trace(pid.parse().unwrap_or(0)).map(|()| "traced".to_owned()),
        ["trace-own"] => {
            let mut child = Command::new("/bin/sleep").arg("1000").spawn()?;
            let traced = trace(child.id().cast_signed());
            child.kill()?;
            child.wait()?;
            traced.map(|()| "traced".to_owned())
        }
        ["descriptors"] => descriptors(),
        ["sleep", seconds] => {
            std::thread::sleep(Duration::from_secs(seconds.parse().unwrap_or(1)));
            Ok("slept".to_owned())
        }
        ["daemon", marker] => daemon("beat", marker).map(|()| "started".to_owned()),
        ["resting-daemon", marker] => daemon("rest", marker).map(|()| "started".to_owned()),
        ["rest", marker] => {
            std::fs::write(marker, ".")?;
            std::thread::sleep(Duration::from_secs(3600));
            Ok("rested".to_owned())
        }
        ["headless-daemon", marker] => daemon("headless", marker).map(|()| "started".to_owned()),
        ["headless", marker] => headless(marker),
        ["trying-daemon", marker] => daemon("try", marker).map(|()| "started".to_owned()),
        ["try", marker] => keep_trying(marker),
        ["beat", marker] => beat(marker),
        ["processes", first] => Ok(processes(first)?.to_string()),
        ["bomb"] => bomb(),
        ["memory", mib] => memory(mib.parse().unwrap_or(1)),
        ["files", directory, count] => {
            for number in 0..count.parse::<u32>().unwrap_or(1) {
                std::fs::write(format!("{directory}/{number}"), "")?;
            }
            Ok("made".to_owned())
        }
        ["plant", path, count] => {
            let times = count.parse::<u32>().unwrap_or(1);
            let refused = (0..times).filter(|_| std::fs::write(path, "").is_err()).count();
            Ok(format!("{refused} refused"))
        }
        ["reap", rest @ ..] => soak::reap(rest).map(|()| "nothing is left".to_owned()),
        ["flood", mib] => flood(mib.parse().unwrap_or(1)),
        other => granted::attack(other),
    }
}

/// Becomes the tracer of a process, until the end of this one.
fn trace(pid: i32) -> std::io::Result<()> {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: takes numbers; this request reads no memory.
    let traced = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, nothing) };
    if traced < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn descriptors() -> std::io::Result<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        // The one that lists them.
        if !target.to_string_lossy().starts_with("/proc/") {
            found.push(format!("{}={}", entry.file_name().display(), target.display()));
        }
    }
    found.sort();
    Ok(found.join("\n"))
}

/// A process that nobody waits for, in a session of its own, which keeps writing to `marker`.
fn daemon(what: &str, marker: &str) -> std::io::Result<()> {
    let exe = std::env::current_exe()?;
    let inner =
        format!("setsid '{}' {what} '{marker}' >/dev/null 2>&1 </dev/null &", exe.display());
    let ended = Command::new("/bin/sh").args(["-c", &inner]).stdin(Stdio::null()).status()?;
    while std::fs::metadata(marker).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    if ended.success() { Ok(()) } else { Err(std::io::Error::other("not started")) }
}

/// How many processes have `first` as their first argument; all, if it is empty.
fn processes(first: &str) -> std::io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")? {
        let line = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let argument = line.split(|byte| *byte == 0).nth(1);
        count += usize::from(argument.is_some_and(|it| first.is_empty() || it == first.as_bytes()));
    }
    Ok(count)
}

/// Keeps trying what is refused by notification, and writes how each attempt came out.
fn keep_trying(marker: &str) -> std::io::Result<String> {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(marker)?;
    loop {
        let connected = TcpStream::connect("192.0.2.7:443").is_ok();
        file.write_all(if connected { b"c" } else { b"r" })?;
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn beat(marker: &str) -> std::io::Result<String> {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(marker)?;
    loop {
        file.write_all(b".")?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Beats in a process whose first thread is gone, and not before it is.
fn headless(marker: &str) -> std::io::Result<String> {
    let marker = marker.to_owned();
    std::thread::spawn(move || {
        while !std::fs::read_to_string("/proc/self/stat").is_ok_and(|it| it.contains(") Z ")) {
            std::thread::sleep(Duration::from_millis(1));
        }
        beat(&marker)
    });
    // SAFETY: ends this thread and no other; what it has on its stack is never used again.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Err(std::io::Error::other("a thread does not outlive its end"))
}

/// Starts itself twice, for ever; what cannot be started is tried again.
fn bomb() -> std::io::Result<String> {
    let exe = std::env::current_exe()?;
    loop {
        for _ in 0..2 {
            let child = Command::new(&exe).arg("bomb").stdin(Stdio::null()).spawn();
            if let Err(error) = child {
                // The first to be refused says so.
                let _closed = writeln!(std::io::stdout(), "limit: {error}");
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn memory(mib: usize) -> std::io::Result<String> {
    let mut held = Vec::new();
    for _ in 0..mib {
        let mut piece = vec![0_u8; 1 << 20];
        for page in piece.chunks_mut(4096) {
            page[0] = 1;
        }
        held.push(piece);
    }
    Ok(format!("held {} MiB", held.len()))
}

fn flood(mib: usize) -> std::io::Result<String> {
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..mib {
        std::io::stdout().write_all(&piece)?;
    }
    Ok("end".to_owned())
}
