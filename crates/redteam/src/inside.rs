//! The attacker's process: a program of the session, or one of the host for a control.
//!
//! A control first leaves for throwaway namespaces, in which it may do what a session may not;
//! what it reaches there are the suite's own files, ports and processes. Must never know what the
//! attempt proves.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode};

use cofferdam_sandbox::attempt::{self, Namespace};

use crate::probe::{Attempt, Open, Probe, Stage};
use crate::registry;
use crate::scene::{Request, Scene, receive_request, send, word};

/// Others' addresses, by the attempts: the first of those that are reserved for documentation
/// (RFC 5737), and where clouds answer with credentials.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where a descriptor of a host name's namespace is in what a request brings.
const GIVEN_NAMESPACE: usize = 1;

/// What the hidden argument starts: one attempt. Called first thing in `main`, with one thread.
pub fn attempt_main() -> ExitCode {
    let Ok((request, given)) = receive_request() else { return ExitCode::from(2) };
    // A control leads a group, so that the suite can end all of it; a call of a session does.
    let _leads_one_already = rustix::process::setsid();
    ExitCode::from(u8::from(carry_out(request, given).is_err()))
}

fn carry_out(request: Request, given: Vec<OwnedFd>) -> io::Result<()> {
    let Request { probe, ground, open, plants } = request;
    // Before it is root in a namespace of its own.
    let is_user = !rustix::process::geteuid().is_root();
    let mut scene = Scene::new(ground, given);
    let Some(probe) = registry::find(&probe) else {
        return send(word::NO_PLACE, "there is no such probe", &[]);
    };
    if let Some(open) = open
        && let Err(error) = enter(open, &mut scene)
    {
        if !is_user || open == Open::Root {
            return send(word::NO_PLACE, &error.to_string(), &[]);
        }
        send(word::NO_NAMESPACES, &error.to_string(), &[])?;
        if open == Open::Network {
            return Ok(());
        }
        rustix::process::chdir(scene.at("WORKSPACE", ""))?;
    }
    if plants {
        return plant(probe, &scene);
    }
    let looks = open.is_some();
    let tried = attempt(probe, &scene, looks);
    if let Err(error) = &tried {
        send(word::FAILED, &error.to_string(), &[])?;
    }
    tried
}

/// Has what a neighbour wants, for as long as somebody watches.
fn plant(probe: &Probe, scene: &Scene) -> io::Result<()> {
    let Stage::Neighbours(plant) = probe.stage else { return Ok(()) };
    let mut canary = [0; 64];
    let length = rustix::io::pread(scene.given(0)?, &mut canary, 0)?;
    let kept = plant(scene, canary[..length].trim_ascii());
    if let Err(error) = &kept {
        send(word::NO_PLACE, &error.to_string(), &[])?;
    }
    scene.hand(scene.given(1)?)?;
    scene.wait_for_end();
    kept.map(drop)
}

/// Scripts and looks come here in controls only; a session runs them as programs.
fn attempt(probe: &Probe, scene: &Scene, looks: bool) -> io::Result<()> {
    match probe.attempt {
        Attempt::Code(code) => code(scene)?,
        Attempt::Script(script) => shell(script, scene)?,
    }
    probe.look.filter(|_| looks).map_or(Ok(()), |look| shell(look, scene))
}

fn shell(script: &str, scene: &Scene) -> io::Result<()> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).envs(&scene.ground).stdin(std::process::Stdio::null());
    command.status().map(drop)
}

/// Leaves for namespaces without walls.
fn enter(open: Open, scene: &mut Scene) -> io::Result<()> {
    use Namespace::{Ipc, Mount, Net, User, Uts};
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    match open {
        Open::Plain => attempt::unshare(&[User, Mount, Ipc, Uts])?,
        Open::Network => attempt::unshare(&[User, Mount, Ipc, Uts, Net])?,
        Open::Root => attempt::unshare(&[Mount, Ipc, Uts])?,
    }
    if open != Open::Root {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
        std::fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))?;
    }
    furnish(scene)?;
    if open == Open::Network { listen() } else { Ok(()) }
}

/// What a session has and an attempt may want to get rid of: a mount of its own; and another
/// namespace of a kind that it is in, to enter.
fn furnish(scene: &mut Scene) -> io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags as Propagation};
    rustix::mount::mount_change("/", Propagation::PRIVATE | Propagation::REC)?;
    let own = scene.at("OWN_MOUNT", "");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("none", &own, "tmpfs", flags, None::<&std::ffi::CStr>)?;
    rustix::process::chdir(scene.at("WORKSPACE", ""))?;
    let other = std::fs::File::open("/proc/self/ns/uts")?;
    attempt::unshare(&[Namespace::Uts])?;
    scene.replace_given(GIVEN_NAMESPACE, other.into());
    Ok(())
}

/// Others' addresses in a network of one's own, and listeners there, which the suite gets.
fn listen() -> io::Result<()> {
    attempt::loopback_up()?;
    for (number, address) in (1..).zip([FAR, METADATA]) {
        attempt::add_loopback_address(number, address)?;
    }
    let listeners = [TcpListener::bind((FAR, 443))?, TcpListener::bind((METADATA, 80))?];
    for listener in &listeners {
        send(word::LISTENER, "", &[listener.as_fd()])?;
    }
    send(word::LISTENER, "", &[UdpSocket::bind((FAR, 53))?.as_fd()])
}
