//! Tries one operation that a session should not be able to do, and prints the kernel's answer.
//!
//! Run inside a session by the table of refusals (`tests/it/refused.rs`). Every operation is safe
//! to be refused only: never run this outside a session as root.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some((_, attempt)) = OPERATIONS.iter().find(|(known, _)| *known == name) else {
        println!("unknown");
        return;
    };
    // What a path without a directory is in.
    if let Err(error) = std::env::set_current_dir(std::env::temp_dir()) {
        println!("no scratch: {error}");
        return;
    }
    match attempt() {
        Ok(()) => println!("0"),
        Err(error) => println!("{}", error.raw_os_error().unwrap_or(-1)),
    }
}

type Attempt = fn() -> io::Result<()>;

fn call(number: libc::c_long, args: [usize; 5]) -> io::Result<()> {
    let [a, b, c, d, e] = args;
    // SAFETY: pointers are constants or null, and the kernel refuses before it would write.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One byte of where a program of the host usually lies.
fn read_init() -> io::Result<()> {
    let mut byte = [0_u8; 1];
    let local = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: 0x40_0000 as *mut libc::c_void, iov_len: 1 };
    // SAFETY: both vectors outlive the call, which writes at most the one byte.
    let read = unsafe { libc::process_vm_readv(1, &raw const local, 1, &raw const remote, 1, 0) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    call(libc::SYS_socket, [family as usize, kind as usize, protocol as usize, 0, 0])
}

fn own_file(mode: usize) -> io::Result<()> {
    let file = fs::File::create("own")?;
    call(libc::SYS_fchmod, [file.as_raw_fd() as usize, mode, 0, 0, 0])
}

fn send(address: &str) -> io::Result<()> {
    UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", address).map(drop)
}

fn abstract_socket() -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name("cofferdam-nobody")?;
    std::os::unix::net::UnixStream::connect_addr(&address).map(drop)
}

fn many_files() -> io::Result<()> {
    let mut held = Vec::new();
    loop {
        held.push(fs::File::open("/dev/null")?);
    }
}

fn terminal() -> io::Result<()> {
    call(libc::SYS_ioctl, [0, libc::TIOCSTI as usize, c"x".as_ptr() as usize, 0, 0])
}

/// `BTRFS_IOC_SUBVOL_CREATE`, which a btrfs does for anybody.
fn subvolume() -> io::Result<()> {
    let directory = fs::File::open(".")?;
    call(libc::SYS_ioctl, [directory.as_raw_fd() as usize, 0x5000_940e, 0, 0, 0])
}

fn change_root() -> io::Result<()> {
    call(libc::SYS_chroot, [c".".as_ptr() as usize, 0, 0, 0, 0])
}

fn mount() -> io::Result<()> {
    let kind = c"tmpfs".as_ptr() as usize;
    call(libc::SYS_mount, [kind, c".".as_ptr() as usize, kind, 0, 0])
}

fn device(kind: u32) -> io::Result<()> {
    let number = libc::makedev(8, 0) as usize;
    call(libc::SYS_mknod, [c"device".as_ptr() as usize, (kind | 0o600) as usize, number, 0, 0])
}

fn capabilities() -> io::Result<()> {
    static HEADER: [u32; 2] = [0x2008_0522, 0];
    static ALL: [u32; 6] = [u32::MAX; 6];
    call(libc::SYS_capset, [HEADER.as_ptr() as usize, ALL.as_ptr() as usize, 0, 0, 0])
}

fn file_capabilities() -> io::Result<()> {
    // `struct vfs_cap_data` of revision 2 with every capability.
    static ALL: [u32; 5] = [0x0200_0001, u32::MAX, 0, 0x1ff, 0];
    fs::write("capable", "")?;
    let (path, name) = (c"capable".as_ptr(), c"security.capability".as_ptr());
    call(libc::SYS_setxattr, [path as usize, name as usize, ALL.as_ptr() as usize, 20, 0])
}

fn raise_a_limit() -> io::Result<()> {
    static MORE: [u64; 2] = [1 << 20, 1 << 20];
    let limit = MORE.as_ptr() as usize;
    call(libc::SYS_setrlimit, [libc::RLIMIT_NOFILE as usize, limit, 0, 0, 0])
}

fn clone_flags() -> io::Result<()> {
    call(libc::SYS_clone, [libc::CLONE_NEWNET as usize | libc::SIGCHLD as usize, 0, 0, 0, 0])
}

fn something(path: &str) -> io::Result<()> {
    match fs::read(path)?.is_empty() {
        true => Err(io::Error::from_raw_os_error(libc::ENODATA)),
        false => Ok(()),
    }
}

fn decoy() -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".aws/credentials")
}

fn denials() -> PathBuf {
    let told = std::env::var_os("COFFERDAM_DENIALS");
    told.map_or_else(|| "/run/cofferdam/denials.jsonl".into(), PathBuf::from)
}

const EXEC: &str = "/opt/none/program";

#[rustfmt::skip]
const OPERATIONS: &[(&str, Attempt)] = &[
    ("read /etc/shadow", || fs::read("/etc/shadow").map(drop)),
    ("read another home", || fs::read("/root/.ssh/id_ed25519").map(drop)),
    ("read a socket of the host", || std::os::unix::net::UnixStream::connect("/var/run/docker.sock").map(drop)),
    ("read a decoy", || fs::read(decoy()).map(drop)),
    ("read kernel addresses", || something("/proc/kallsyms")),
    ("read init's environment", || fs::read("/proc/1/environ").map(drop)),
    ("list init's descriptors", || fs::read_dir("/proc/1/fd").map(drop)),
    ("read kernel messages", || something("/proc/kmsg")),
    ("open by file handle", || call(libc::SYS_open_by_handle_at, [usize::MAX, 0, 0, 0, 0])),
    ("write below /usr", || fs::write("/usr/bin/planted", "x")),
    ("write /etc/passwd", || fs::write("/etc/passwd", "x")),
    ("truncate /etc/passwd", || call(libc::SYS_truncate, [c"/etc/passwd".as_ptr() as usize, 0, 0, 0, 0])),
    ("change the mode of /etc/passwd", || call(libc::SYS_chmod, [c"/etc/passwd".as_ptr() as usize, 0o600, 0, 0, 0])),
    ("change the times of /etc/passwd", || call(libc::SYS_utimensat, [libc::AT_FDCWD as usize, c"/etc/passwd".as_ptr() as usize, 0, 0, 0])),
    ("create in /", || fs::write("/planted", "x")),
    ("make a directory in /", || fs::create_dir("/planted")),
    ("make a link in /etc", || std::os::unix::fs::symlink("passwd", "/etc/planted")),
    ("link a program to /tmp", || fs::hard_link("/usr/bin/env", "env")),
    ("write a decoy", || fs::write(decoy(), "x")),
    ("remove a program", || fs::remove_file("/usr/bin/env")),
    ("rename /etc/passwd", || fs::rename("/etc/passwd", "/etc/other")),
    ("write core_pattern", || fs::write("/proc/sys/kernel/core_pattern", "x")),
    ("write the denials file", || fs::write(denials(), "x")),
    ("write a disk", || fs::write("/dev/sda", "x")),
    ("set a setuid bit", || own_file(0o4755)),
    ("make a block device", || device(libc::S_IFBLK)),
    ("make a character device", || device(libc::S_IFCHR)),
    ("execute what is not there", || std::process::Command::new(EXEC).status().map(drop)),
    ("execute on a mount for data", || std::process::Command::new(denials()).status().map(drop)),
    ("connect by TCP", || TcpStream::connect("192.0.2.7:443").map(drop)),
    ("connect by TCP over IPv6", || TcpStream::connect("[2001:db8::7]:443").map(drop)),
    ("send by UDP", || send("192.0.2.7:53")),
    ("connect to a closed loopback port", || TcpStream::connect("127.0.0.1:9").map(drop)),
    ("connect to an abstract socket", abstract_socket),
    ("listen on a privileged port", || std::net::TcpListener::bind("127.0.0.1:80").map(drop)),
    ("look up a name", || TcpStream::connect("cofferdam.invalid:80").map(drop)),
    ("vsock socket", || socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("packet socket", || socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("kernel crypto socket", || socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    ("raw IP socket", || socket(libc::AF_INET, libc::SOCK_RAW, 1)),
    ("audit netlink socket", || socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)),
    ("new user namespace", || call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0])),
    ("new namespace by clone", clone_flags),
    ("new namespace by clone3", || call(libc::SYS_clone3, [0; 5])),
    ("enter a namespace", || call(libc::SYS_setns, [usize::MAX, 0, 0, 0, 0])),
    ("mount", mount),
    ("mount by the newer calls", || call(libc::SYS_fsopen, [c"tmpfs".as_ptr() as usize, 0, 0, 0, 0])),
    ("unmount", || call(libc::SYS_umount2, [c"/proc".as_ptr() as usize, 2, 0, 0, 0])),
    ("open a mount tree", || call(libc::SYS_open_tree, [libc::AT_FDCWD as usize, c"/".as_ptr() as usize, 1, 0, 0])),
    ("change root", change_root),
    ("trace init", || call(libc::SYS_ptrace, [libc::PTRACE_ATTACH as usize, 1, 0, 0, 0])),
    ("read init's memory", read_init),
    ("take a descriptor", || call(libc::SYS_pidfd_getfd, [usize::MAX, 0, 0, 0, 0])),
    ("kill init", || call(libc::SYS_kill, [1, libc::SIGKILL as usize, 0, 0, 0])),
    ("load a BPF program", || call(libc::SYS_bpf, [5, 0, 0, 0, 0])),
    ("performance counters", || call(libc::SYS_perf_event_open, [0; 5])),
    ("user faults", || call(libc::SYS_userfaultfd, [0; 5])),
    ("io_uring", || call(libc::SYS_io_uring_setup, [1, 0, 0, 0, 0])),
    ("load a module", || call(libc::SYS_finit_module, [usize::MAX, 0, 0, 0, 0])),
    ("load another kernel", || call(libc::SYS_kexec_load, [0; 5])),
    ("set the clock", || call(libc::SYS_clock_settime, [0; 5])),
    ("reboot", || call(libc::SYS_reboot, [0; 5])),
    ("kernel log", || call(libc::SYS_syslog, [3, 0, 0, 0, 0])),
    ("key ring", || call(libc::SYS_keyctl, [0, usize::MAX - 2, 0, 0, 0])),
    ("add a key", || call(libc::SYS_add_key, [0; 5])),
    ("become root", || call(libc::SYS_setuid, [0; 5])),
    ("set groups", || call(libc::SYS_setgroups, [0; 5])),
    ("give a file away", || fs::write("given", "").and_then(|()| std::os::unix::fs::chown("given", Some(0), Some(0)))),
    ("take capabilities", capabilities),
    ("give a file capabilities", file_capabilities),
    ("set the host name", || call(libc::SYS_sethostname, [c"x".as_ptr() as usize, 1, 0, 0, 0])),
    ("type into the terminal", terminal),
    ("make a subvolume", subvolume),
    ("open too many files", many_files),
    ("raise a limit", raise_a_limit),
];
