//! What the tests of the boundary run: a launcher, a supervisor that can be killed, and attacks.
//!
//! Each attack prints what it got and exits with 0 if it succeeded, 1 if it was refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use cofferdam_sandbox::Resident;

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
        ["descriptors"] => descriptors(),
        ["sleep", seconds] => {
            std::thread::sleep(Duration::from_secs(seconds.parse().unwrap_or(1)));
            Ok("slept".to_owned())
        }
        ["daemon", marker] => daemon(marker).map(|()| "started".to_owned()),
        ["beat", marker] => beat(marker),
        ["bomb"] => bomb(),
        ["memory", mib] => memory(mib.parse().unwrap_or(1)),
        ["files", directory, count] => {
            for number in 0..count.parse::<u32>().unwrap_or(1) {
                std::fs::write(format!("{directory}/{number}"), "")?;
            }
            Ok("made".to_owned())
        }
        ["flood", mib] => flood(mib.parse().unwrap_or(1)),
        _ => Err(std::io::Error::other("unknown probe")),
    }
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
fn daemon(marker: &str) -> std::io::Result<()> {
    let exe = std::env::current_exe()?;
    let inner = format!("setsid '{}' beat '{marker}' >/dev/null 2>&1 </dev/null &", exe.display());
    let ended = Command::new("/bin/sh").args(["-c", &inner]).stdin(Stdio::null()).status()?;
    while std::fs::metadata(marker).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    if ended.success() { Ok(()) } else { Err(std::io::Error::other("not started")) }
}

fn beat(marker: &str) -> std::io::Result<String> {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(marker)?;
    loop {
        file.write_all(b".")?;
        std::thread::sleep(Duration::from_millis(1));
    }
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
