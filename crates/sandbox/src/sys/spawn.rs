//! Starting a program without copying the process that starts it.
//!
//! The child runs in its parent's memory, on a stack of its own, while the parent stands still
//! (`CLONE_VM | CLONE_VFORK`, clone(2)): no page table is copied, and that it failed is told by a
//! value. Everything it needs is made before; it makes system calls only. Must never know what a
//! call is.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::Pid;

use super::landlock::Layer;
use super::process;

/// Room for the frames of the child: system calls alone need a fraction of it.
const STACK_BYTES: usize = 64 << 10;
/// Exit code of a child that did not become what it was to; its parent tells why.
pub(crate) const NOT_STARTED: i32 = 127;

/// How a child of this process begins, whatever it becomes.
pub(crate) struct Beginning<'a> {
    /// Its descriptors 0, 1 and 2; their numbers here are above these.
    pub(crate) standard: [BorrowedFd<'a>; 3],
    /// Whether standard input becomes its controlling terminal.
    pub(crate) terminal: bool,
    /// The Landlock layer that it puts on.
    pub(crate) layer: &'a Layer,
    /// Where it says that it is born, and in which words: a packet from the child itself carries
    /// the child's credentials.
    pub(crate) birth: (BorrowedFd<'a>, &'a [u8]),
    /// Where it starts.
    pub(crate) cwd: &'a CStr,
}

/// What a child is to become.
pub(crate) struct Program<'a> {
    /// Where it may be, the best place first.
    pub(crate) candidates: &'a [CString],
    /// Its arguments, its name first.
    pub(crate) argv: &'a [CString],
    /// Its environment.
    pub(crate) envp: &'a [CString],
}

/// Why a child did not become what it was to. Nothing of it ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// It cannot be in that directory.
    Directory,
    /// There is no such program.
    NotFound,
    /// There is, and the kernel does not execute it.
    NotExecutable,
    /// The kernel has no room for it.
    NoRoom,
}

/// What the child reads, and the one thing that it writes.
struct Shared<'a> {
    beginning: &'a Beginning<'a>,
    candidates: &'a [CString],
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    /// Why it did not become its program, once it knows.
    failure: Option<Failure>,
}

/// Starts a program; with a failure, the child that did not become it has ended and is to be
/// reaped like any other. The caller has one thread, and every signal is blocked in it.
///
/// # Errors
/// The kernel's, if there is no child at all.
pub(crate) fn spawn(
    beginning: &Beginning<'_>,
    program: &Program<'_>,
) -> io::Result<(Pid, Option<Failure>)> {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let mut shared = Shared {
        beginning,
        candidates: program.candidates,
        argv: pointers(program.argv),
        envp: pointers(program.envp),
        failure: None,
    };
    let mut stack = [MaybeUninit::<u8>::uninit(); STACK_BYTES];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack grows down from its end, which clone aligns, and it and `shared` outlive
    // the child's use of them: with CLONE_VFORK this returns when the child has executed or ended.
    // Until then nothing else uses this memory, since the caller has one thread.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        libc::clone(become_program, top, flags, (&raw mut shared).cast())
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?;
    // SAFETY: it is initialised. Volatile, since the compiler did not see the child write it.
    let failure = unsafe { std::ptr::read_volatile(&raw const shared.failure) };
    Ok((pid, failure))
}

/// The child. Async-signal-safe and without allocation, since all memory is its parent's.
extern "C" fn become_program(shared: *mut libc::c_void) -> libc::c_int {
    let shared = shared.cast::<Shared<'_>>();
    // SAFETY: `spawn` passed its `Shared`, which nobody writes to while this reference lives.
    let failure = execute(unsafe { &*shared });
    // SAFETY: as above, and the reference is gone.
    unsafe { std::ptr::write_volatile(&raw mut (*shared).failure, Some(failure)) };
    process::exit(NOT_STARTED)
}

impl Beginning<'_> {
    /// What a child does first: session, signals, descriptors, Landlock layer, the word that it is
    /// born, and its directory. System calls only.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        self.prepare().map_err(|_| Failure::NoRoom)?;
        rustix::process::chdir(self.cwd).map_err(|_| Failure::Directory)
    }

    fn prepare(&self) -> io::Result<()> {
        let _already_leader = rustix::process::setsid();
        process::reset_signals();
        for (number, descriptor) in self.standard.iter().enumerate() {
            process::place(descriptor.as_raw_fd(), number as i32)?;
        }
        if self.terminal {
            // Where standard input is no terminal there is nothing to control.
            let _no_terminal = rustix::process::ioctl_tiocsctty(process::borrow(0));
        }
        process::close_from_on_exec(3)?;
        self.layer.put_on()?;
        let (socket, word) = self.birth;
        rustix::net::send(socket, word, rustix::net::SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Becomes the program; returns only why not.
fn execute(shared: &Shared<'_>) -> Failure {
    if let Err(failure) = shared.beginning.enter() {
        return failure;
    }
    let mut failure = Failure::NotFound;
    for candidate in shared.candidates {
        // SAFETY: both arrays end with a null pointer and, like the texts, outlive the call.
        unsafe { libc::execve(candidate.as_ptr(), shared.argv.as_ptr(), shared.envp.as_ptr()) };
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // A file that is there and gives ENOENT lacks its interpreter.
            Some(libc::ENOENT | libc::ENOTDIR)
                if rustix::fs::stat(candidate.as_c_str()).is_err() => {}
            Some(libc::EAGAIN | libc::ENOMEM) => return Failure::NoRoom,
            // A later directory may have one that can be executed, as execvp(3) has it.
            _ => failure = Failure::NotExecutable,
        }
    }
    failure
}
