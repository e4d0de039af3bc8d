//! What the probe does with what a session was granted: holds on to it, or traces.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

pub(crate) fn attack(args: &[&str]) -> io::Result<String> {
    match args {
        ["hold-nothing", marker] => hold(marker, ()),
        ["hold-open", path, marker] => hold(marker, File::open(path)?),
        ["hold-mapped", path, marker] => hold(marker, map(path)?),
        ["hold-watched", path, marker] => hold(marker, watch(path)?),
        ["hold-watched-apart", path, marker] => hold_apart(marker, || watch(path)),
        ["hold-written", path, marker] => hold(marker, File::options().write(true).open(path)?),
        ["hold-in-flight", path, marker] => hold(marker, in_flight(path)?),
        ["hold-directory", path, marker] => {
            std::env::set_current_dir(path)?;
            hold(marker, ())
        }
        ["link", path] => std::os::unix::fs::symlink("/etc/passwd", path).map(|()| "made".into()),
        ["socket", path] => std::os::unix::net::UnixListener::bind(path).map(|_| "made".to_owned()),
        ["pipe", path] => {
            let (mode, kind) = (rustix::fs::Mode::RUSR, rustix::fs::FileType::Fifo);
            rustix::fs::mknodat(rustix::fs::CWD, *path, kind, mode, 0)?;
            Ok("made".to_owned())
        }
        ["trace-child"] => trace_child(),
        ["trace", pid] => {
            ptrace(libc::PTRACE_SEIZE, pid.parse().unwrap_or(0)).map(|()| "traced".to_owned())
        }
        ["hold-traced-apart", marker] => hold_apart(marker, || {
            let child = std::process::Command::new("/bin/sleep").arg("1000").spawn()?;
            ptrace(libc::PTRACE_SEIZE, child.id() as i32).map(|()| child)
        }),
        ["hold-traced", marker] => {
            let child = std::process::Command::new("/bin/sleep").arg("1000").spawn()?;
            ptrace(libc::PTRACE_SEIZE, child.id() as i32)?;
            hold(marker, child)
        }
        _ => Err(io::Error::other("unknown probe")),
    }
}

/// Says that it holds, and does so until it is killed.
fn hold<T>(marker: &str, held: T) -> io::Result<String> {
    std::fs::write(marker, "held")?;
    loop {
        std::thread::sleep(Duration::from_secs(1000));
        std::hint::black_box(&held);
    }
}

/// The same by a thread that has descriptors of its own.
fn hold_apart<T>(marker: &str, get: impl Fn() -> io::Result<T> + Sync) -> io::Result<String> {
    let held = || {
        // SAFETY: this thread holds no descriptor of the others'.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES) }?;
        hold(marker, get()?)
    };
    std::thread::scope(|threads| threads.spawn(held).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// A mapping that outlives its descriptor. Nothing unmaps it but the end of the process.
fn map(path: &str) -> io::Result<()> {
    let file = File::open(path)?;
    // SAFETY: a new mapping where the kernel likes, which nobody looks into.
    let mapped = unsafe {
        libc::mmap(std::ptr::null_mut(), 1, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn watch(path: &str) -> io::Result<std::os::fd::OwnedFd> {
    use rustix::fs::inotify;
    let watcher = inotify::init(inotify::CreateFlags::empty())?;
    inotify::add_watch(&watcher, path, inotify::WatchFlags::CREATE)?;
    Ok(watcher)
}

/// A descriptor that nobody has: it lies between the two ends of a socket.
fn in_flight(path: &str) -> io::Result<impl Sized> {
    let ends = std::os::unix::net::UnixStream::pair()?;
    let file = File::open(path)?;
    let sent = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&sent));
    let parts = [io::IoSlice::new(b"x")];
    rustix::net::sendmsg(&ends.0, &parts, &mut control, SendFlags::empty())?;
    Ok(ends)
}

fn ptrace(request: libc::c_uint, pid: i32) -> io::Result<()> {
    // SAFETY: these requests take numbers only.
    let result = unsafe { libc::ptrace(request, pid, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// As a debugger starts its program: the child asks to be traced, stops as it executes, goes on.
fn trace_child() -> io::Result<String> {
    let program = CString::new("/bin/true")?;
    let argv = [program.as_ptr(), std::ptr::null()];
    // SAFETY: one thread; the child makes system calls only.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = match ptrace(libc::PTRACE_TRACEME, 0) {
            // SAFETY: both arguments end with null and outlive the call.
            Ok(()) => unsafe { libc::execv(program.as_ptr(), argv.as_ptr()) },
            Err(error) => error.raw_os_error().unwrap_or(1),
        };
        // SAFETY: ends the copy without running anything of the parent's.
        unsafe { libc::_exit(code) }
    }
    let wait = || {
        let mut status = 0;
        // SAFETY: the status is a number that outlives the call.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        status
    };
    let stopped = wait();
    if !libc::WIFSTOPPED(stopped) {
        return Err(io::Error::from_raw_os_error(libc::WEXITSTATUS(stopped)));
    }
    ptrace(libc::PTRACE_CONT, child)?;
    let ended = wait();
    if libc::WIFEXITED(ended) && libc::WEXITSTATUS(ended) == 0 {
        Ok("traced".to_owned())
    } else {
        Err(io::Error::other("it did not go on"))
    }
}
