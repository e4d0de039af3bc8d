//! Services of the kernel that a session has no use for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{c_string, check, owned};

/// An empty BPF map (`bpf(2)`, `BPF_MAP_CREATE` of an array with one entry).
///
/// # Errors
/// The kernel's.
pub fn bpf_map() -> io::Result<OwnedFd> {
    let mut attributes = [0_u32; 18];
    attributes[..4].copy_from_slice(&[2, 4, 4, 1]);
    // SAFETY: the attributes outlive the call and their size is given.
    owned(unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), size_of_val(&attributes)) })
}

/// A clock of this process's own user time (`perf_event_open(2)`).
///
/// # Errors
/// The kernel's.
pub fn perf_event() -> io::Result<OwnedFd> {
    const SOFTWARE: u64 = 1;
    const EXCLUDE_KERNEL_AND_HYPERVISOR: u64 = (1 << 5) | (1 << 6);
    let mut attributes = [0_u64; 16];
    attributes[0] = SOFTWARE | ((size_of_val(&attributes) as u64) << 32);
    attributes[5] = EXCLUDE_KERNEL_AND_HYPERVISOR;
    // SAFETY: the attributes outlive the call and hold their own size.
    owned(unsafe {
        libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0_usize)
    })
}

/// A handler of this process's own page faults (`userfaultfd(2)`, user mode only).
///
/// # Errors
/// The kernel's.
pub fn user_faults() -> io::Result<OwnedFd> {
    const USER_MODE_ONLY: i32 = 1;
    // SAFETY: takes flags only.
    owned(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) })
}

/// A ring of one entry (`io_uring_setup(2)`).
///
/// # Errors
/// The kernel's.
pub fn io_uring() -> io::Result<OwnedFd> {
    let mut parameters = [0_u64; 16];
    // SAFETY: `struct io_uring_params` is 120 bytes, which the array has.
    owned(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) })
}

/// A watch over a file system (`fanotify_init(2)`), as an ordinary user may have it.
///
/// # Errors
/// The kernel's.
pub fn fanotify() -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLOEXEC | libc::FAN_REPORT_FID;
    // SAFETY: takes flags only.
    owned(unsafe { libc::syscall(libc::SYS_fanotify_init, flags, libc::O_RDONLY) })
}

/// Makes that many timers, which stay for as long as this process does. Each takes a signal out of
/// what the kernel keeps for the user (`timer_create(2)`).
///
/// # Errors
/// The kernel's, for the first that cannot be had.
pub fn timers(count: usize) -> io::Result<()> {
    for _ in 0..count {
        let mut timer: libc::timer_t = std::ptr::null_mut();
        // SAFETY: without an event the usual signal is sent, when a timer is set, which none is.
        let made = unsafe {
            libc::timer_create(libc::CLOCK_MONOTONIC, std::ptr::null_mut(), &raw mut timer)
        };
        check(made.into())?;
    }
    Ok(())
}

/// Room for a handle, as `struct file_handle` has it: length, type, bytes.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    handle: [u8; HANDLE_BYTES_MAX],
}

/// `MAX_HANDLE_SZ` of the kernel.
const HANDLE_BYTES_MAX: usize = 128;

/// The handle of a file (`name_to_handle_at(2)`): its type and its bytes.
///
/// # Errors
/// The kernel's.
pub fn file_handle(path: &str) -> io::Result<(i32, Vec<u8>)> {
    let path = c_string(path)?;
    let mut handle =
        Handle { bytes: HANDLE_BYTES_MAX as u32, kind: 0, handle: [0; HANDLE_BYTES_MAX] };
    let mut mount = 0_i32;
    // SAFETY: the handle says how much room it has; all pointers outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    })?;
    let length = (handle.bytes as usize).min(HANDLE_BYTES_MAX);
    Ok((handle.kind, handle.handle[..length].to_vec()))
}

/// Opens a file by its handle, on the file system of `on` (`open_by_handle_at(2)`).
///
/// # Errors
/// The kernel's.
pub fn open_by_handle(on: BorrowedFd<'_>, kind: i32, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut handle = Handle { bytes: bytes.len() as u32, kind, handle: [0; HANDLE_BYTES_MAX] };
    let room = handle.handle.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(bytes);
    // SAFETY: the handle outlives the call and says how long it is.
    owned(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            on.as_raw_fd(),
            &raw const handle,
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    })
}

/// Pushes one byte into the terminal's input (`TIOCSTI`).
///
/// # Errors
/// The kernel's.
pub fn type_into(terminal: BorrowedFd<'_>, byte: u8) -> io::Result<()> {
    // SAFETY: the byte outlives the call.
    check(unsafe {
        libc::syscall(libc::SYS_ioctl, terminal.as_raw_fd(), libc::TIOCSTI, &raw const byte)
    })
    .map(drop)
}

/// Makes a directory by the 32-bit system-call interface, whose numbers are other ones: what a
/// filter that compares numbers alone does not see.
///
/// # Errors
/// The kernel's.
pub fn make_directory_by_i386(path: &str) -> io::Result<()> {
    const MKDIR: u64 = 39;
    const PAGE: usize = 4096;
    let path = c_string(path)?;
    let path = path.as_bytes_with_nul();
    if path.len() > PAGE {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: asks for fresh memory at an address that 32 bits can name.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let mut pointer = page as u64;
    let mut result = MKDIR;
    // SAFETY: the page is ours, writable and long enough. The interrupt takes its arguments from
    // eax, ebx and ecx, and may change r8 to r11; rbx is put back.
    unsafe {
        std::ptr::copy_nonoverlapping(path.as_ptr(), page.cast::<u8>(), path.len());
        std::arch::asm!(
            "xchg rbx, {pointer}",
            "int 0x80",
            "xchg rbx, {pointer}",
            pointer = inout(reg) pointer,
            inout("rax") result,
            in("rcx") 0o755_u64,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
        libc::munmap(page, PAGE);
    }
    let _put_back = pointer;
    match result as i32 {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
