//! Privileged services of the kernel, namespaces, identity, and processes of the host.
//!
//! Success is seen in what the kernel gives: descriptors of its objects, and its records of
//! processes. What would touch the host itself (the clock, modules, a reboot) is not tried, since
//! no control could be harmless; `denials.md` has those rows.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use cofferdam_sandbox::attempt::{self, KEPT_BYTES, Keeper, Namespace};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsOpenFlags, MountFlags, OpenTreeFlags, UnmountFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal};
use rustix::thread::LinkNameSpaceType;

use crate::probe::{Open, Probe, Proof, code};
use crate::scene::Scene;

const FILTER: &str = "system-call filter";
const PIDS: &str = "process namespace";
const NAMESPACE: &str = "seccomp.namespace";
const MOUNT: &str = "seccomp.mount";
const KERNEL: &str = "seccomp.kernel";
const TRACE: &str = "seccomp.trace";
const OTHERS: &str = "seccomp.process";
const PRIVILEGE: &str = "seccomp.privilege";

#[rustfmt::skip]
pub(crate) const PROBES: &[Probe] = &[
    code("kernel.users", "a user namespace", FILTER, Proof::Differ, |s| unshare(s, Namespace::User)).told(NAMESPACE),
    code("kernel.mounts", "a mount namespace", FILTER, Proof::Differ, |s| unshare(s, Namespace::Mount)).told(NAMESPACE),
    code("kernel.processes", "a process namespace", FILTER, Proof::Differ, |s| {
        s.hand(attempt::namespace_of(own_pid(), Namespace::Pid, false)?)?;
        s.hand(attempt::clone_with(Namespace::Pid)?)
    }).told(NAMESPACE),
    code("kernel.network", "a network namespace", FILTER, Proof::Differ, |s| unshare(s, Namespace::Net)).told(NAMESPACE),
    code("kernel.ipc", "an IPC namespace", FILTER, Proof::Differ, |s| unshare(s, Namespace::Ipc)).told(NAMESPACE),
    code("kernel.names", "a host-name namespace", FILTER, Proof::Differ, |s| unshare(s, Namespace::Uts)).told(NAMESPACE),
    code("kernel.groups", "a control-group namespace", FILTER, Proof::Differ, |s| unshare(s, Namespace::Cgroup)).told(NAMESPACE),
    code("kernel.clocks", "a time namespace", FILTER, Proof::Differ, |s| unshare(s, Namespace::Time)).told(NAMESPACE),
    code("kernel.clone", "a network namespace by clone", FILTER, Proof::Differ, |s| {
        s.hand(own(Namespace::Net)?)?;
        s.hand(attempt::clone_with(Namespace::Net)?)
    }).told(NAMESPACE),
    code("kernel.clone3", "a network namespace by clone3, whose flags no filter sees", FILTER, Proof::Differ, |s| {
        s.hand(own(Namespace::Net)?)?;
        s.hand(attempt::clone3_with(Namespace::Net)?)
    }),
    code("kernel.enter", "entering a namespace whose descriptor it has", FILTER, Proof::Differ, |s| {
        s.hand(own(Namespace::Uts)?)?;
        let kind = Some(LinkNameSpaceType::HostNameAndNISDomainName);
        rustix::thread::move_into_link_name_space(s.given(1)?, kind)?;
        s.hand(own(Namespace::Uts)?)
    }).told(NAMESPACE),
    code("kernel.mount", "mounting a file system", FILTER, Proof::Differ, |s| {
        let at = s.new_path("mounted");
        std::fs::create_dir(&at)?;
        s.hand(directory(&at)?)?;
        rustix::mount::mount("none", &at, "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>)?;
        s.hand(directory(&at)?)
    }).told(MOUNT),
    code("kernel.new-mount", "making a file system without mounting it", FILTER, Proof::Kind("[fscontext]"), |s| {
        s.hand(rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?)
    }).told(MOUNT),
    code("kernel.mount-tree", "a copy of what is mounted", FILTER, Proof::Differ, |s| {
        s.hand(directory(&s.at("WORKSPACE", ""))?)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        s.hand(rustix::mount::open_tree(rustix::fs::CWD, s.at("WORKSPACE", ""), flags)?)
    }).told(MOUNT),
    code("kernel.unmount", "unmounting what is mounted in the session", FILTER, Proof::Differ, |s| {
        s.hand(directory(&s.at("OWN_MOUNT", ""))?)?;
        rustix::mount::unmount(s.at("OWN_MOUNT", ""), UnmountFlags::DETACH)?;
        s.hand(directory(&s.at("OWN_MOUNT", ""))?)
    }).told(MOUNT),
    code("kernel.chroot", "another root directory", FILTER, Proof::Differ, |s| {
        s.hand(directory("/".as_ref())?)?;
        rustix::process::chroot(s.at("WORKSPACE", ""))?;
        s.hand(directory("/".as_ref())?)
    }).told(MOUNT),
    code("kernel.pivot-root", "another root file system", FILTER, Proof::Differ, pivot).told(MOUNT),
    code("kernel.bpf", "a BPF map", FILTER, Proof::Kind("bpf-map"), |s| s.hand(attempt::bpf_map()?))
        .open(Open::Root).told(KERNEL),
    code("kernel.perf", "a performance counter", FILTER, Proof::Kind("[perf_event]"), |s| s.hand(attempt::perf_event()?))
        .needs("performance counters to users").told(KERNEL),
    code("kernel.faults", "handling its own page faults", FILTER, Proof::Kind("[userfaultfd]"), |s| s.hand(attempt::user_faults()?))
        .needs("user faults").told(KERNEL),
    code("kernel.ring", "io_uring, which goes round every filter", FILTER, Proof::Holds("[io_uring]"), |s| {
        // The kernel does not let a ring be handed over, so it is who holds it.
        let _ring = attempt::io_uring()?;
        s.hand_self()
    }).needs("io_uring"),
    code("kernel.fanotify", "watching a file system", FILTER, Proof::Kind("[fanotify]"), |s| s.hand(attempt::fanotify()?))
        .needs("fanotify to users").told(KERNEL),
    code("kernel.trace", "tracing a process", FILTER, Proof::Word("TracerPid", |it| it != "0"), |s| {
        let mut child = idle()?;
        let pid = Pid::from_child(&child);
        let traced = attempt::trace(pid.as_raw_nonzero().get());
        let handed = s.hand_process(pid);
        let _gone = child.kill();
        child.wait()?;
        traced.and(handed)
    }).needs("tracing to users").told(TRACE),
    code("kernel.memory", "the memory of another process", FILTER, Proof::Canary, |s| {
        let keeper = Keeper::of(s.given(0)?)?;
        s.say(&attempt::read_memory(keeper.pid(), keeper.address(), KEPT_BYTES)?)
    }).needs("tracing to users").told(TRACE),
    code("kernel.descriptor", "a descriptor of another process", FILTER, Proof::Canary, |s| {
        let keeper = Keeper::of(s.given(0)?)?;
        let pid = Pid::from_raw(keeper.pid()).ok_or(io::ErrorKind::NotFound)?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        let number = s.given(0)?.as_raw_fd();
        let taken = rustix::process::pidfd_getfd(process, number, PidfdGetfdFlags::empty())?;
        s.say_file(taken.into())
    }).needs("tracing to users").told(TRACE),
    code("kernel.kill", "killing a process of the host", PIDS, Proof::Victim, |s| {
        Ok(rustix::process::kill_process(victim(s)?, Signal::KILL)?)
    }),
    code("kernel.stop", "stopping it, by a descriptor of the process", PIDS, Proof::Victim, |s| {
        let process = rustix::process::pidfd_open(victim(s)?, PidfdFlags::empty())?;
        Ok(rustix::process::pidfd_send_signal(process, Signal::STOP)?)
    }),
    code("kernel.slow", "making it slower", FILTER, Proof::Victim, |s| {
        Ok(rustix::process::setpriority_process(Some(victim(s)?), 19)?)
    }).told(OTHERS),
    code("kernel.starve", "taking its limits away", FILTER, Proof::Victim, |s| {
        use rustix::process::{Resource, Rlimit};
        let few = Rlimit { current: Some(3), maximum: Some(3) };
        rustix::process::prlimit(Some(victim(s)?), Resource::Nofile, few)?;
        Ok(())
    }).told(OTHERS),
    code("kernel.host-name", "another host name", FILTER, Proof::Nonce, |s| {
        Ok(rustix::system::sethostname(s.get("NONCE").as_bytes())?)
    }).look("uname -n").told(PRIVILEGE),
    code("kernel.setting", "a setting of the kernel, of its own network", "read-only /proc/sys", Proof::Writable("ip_local_port_range"), |s| {
        s.hand(File::options().write(true).open("/proc/sys/net/ipv4/ip_local_port_range")?)
    }).open(Open::Network),
    code("kernel.user", "becoming another user", FILTER, Proof::Record("Uid"), |s| {
        s.hand_self()?;
        let tried = attempt::become_user(1, 1);
        s.hand_self()?;
        tried
    }).open(Open::Root).told(PRIVILEGE),
    code("kernel.capabilities", "every capability", "no capabilities", Proof::Word("CapEff", |it| !it.trim_matches('0').is_empty()), |s| {
        let tried = attempt::take_capabilities();
        s.hand_self()?;
        tried
    }),
    code("kernel.i386", "the 32-bit system calls, which have other numbers", FILTER, Proof::Mode(0o170_000, 0o040_000), |s| {
        let at = s.new_path("by-i386");
        attempt::make_directory_by_i386(&at.to_string_lossy())?;
        s.hand_path(&at)
    }).needs("32-bit system calls"),
    code("kernel.terminal", "typing into a terminal of the host (CVE-2017-5226)", FILTER, Proof::Typed, |s| {
        let terminal = s.given(2)?;
        let _no_terminal = rustix::process::ioctl_tiocsctty(terminal);
        attempt::type_into(terminal, b'x')
    }).needs("typing into terminals").told("seccomp.terminal"),
];

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn own(namespace: Namespace) -> io::Result<OwnedFd> {
    attempt::namespace_of(own_pid(), namespace, true)
}

fn unshare(scene: &Scene, namespace: Namespace) -> io::Result<()> {
    scene.hand(own(namespace)?)?;
    attempt::unshare(&[namespace])?;
    scene.hand(own(namespace)?)
}

fn directory(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn pivot(scene: &Scene) -> io::Result<()> {
    let at = scene.new_path("root");
    std::fs::create_dir(&at)?;
    scene.hand(directory("/".as_ref())?)?;
    let none = None::<&std::ffi::CStr>;
    let _refused = rustix::mount::mount("none", &at, "tmpfs", MountFlags::empty(), none);
    rustix::process::chdir(&at)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    scene.hand(directory("/".as_ref())?)
}

/// A process of the attempt's own that waits to be ended.
fn idle() -> io::Result<Child> {
    Command::new("/bin/sh").args(["-c", "kill -STOP $$"]).stdin(Stdio::null()).spawn()
}

fn victim(scene: &Scene) -> io::Result<Pid> {
    Pid::from_raw(scene.number("HOST_PID")).ok_or(io::ErrorKind::NotFound.into())
}
