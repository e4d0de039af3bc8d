//! What the product needs of a host, with the command that gets it.
//!
//! Must never run anything as root, nor anything but `git --version`.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cofferdam_contract::capability::Boundary;
use cofferdam_contract::limits::Limits;

use super::probe::{Answer, attempt, call, map_to_root, mkdir, mount, unshare};
use super::{Requirement, Surroundings};
use crate::filter::{Wanted, program};
use crate::landlocked::FLAT_ABI_MIN;
use crate::launcher::Groups;
use crate::sys::landlock;

pub(super) fn all(surroundings: &Surroundings<'_>) -> Vec<Requirement> {
    let mut all = vec![
        git(surroundings),
        user_namespaces(surroundings.executable),
        seccomp(),
        landlock_abi(),
        overlay(),
        state(surroundings.state),
        cgroups(),
        audit(),
        flat(),
    ];
    all.sort_by_key(|requirement| !requirement.required);
    all
}

fn met(name: &'static str, required: bool, detail: impl Into<String>) -> Requirement {
    Requirement { name, ok: true, required, detail: detail.into(), remedy: String::new() }
}

fn unmet(
    name: &'static str,
    required: bool,
    detail: impl Into<String>,
    remedy: impl Into<String>,
) -> Requirement {
    Requirement { name, ok: false, required, detail: detail.into(), remedy: remedy.into() }
}

fn git(surroundings: &Surroundings<'_>) -> Requirement {
    let (major, minor) = surroundings.git_version_min;
    let remedy = format!("sudo apt-get install git  # {major}.{minor} or later");
    let Some(found) = find("git", surroundings.path_var) else {
        return unmet("git", true, "there is no git in PATH", remedy);
    };
    let mut command = Command::new(&found);
    command.arg("--version").env_clear().current_dir("/").stdin(Stdio::null());
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output).trim().to_owned();
    match version(&text) {
        Some(version) if version >= surroundings.git_version_min => met("git", true, text),
        Some(_) => unmet("git", true, text, remedy),
        None => unmet("git", true, format!("{} told no version", found.display()), remedy),
    }
}

fn find(name: &str, path_var: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path_var)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// Major and minor of `git version 2.39.5`.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("git version ")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A namespace that gives no right to mount is what Ubuntu's restriction leaves.
fn user_namespaces(executable: &Path) -> Requirement {
    let name = "user_namespaces";
    let private = mount("", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "");
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
    match attempt(&[&unshare(flags), &map_to_root(), &private]) {
        Ok(()) => met(name, true, "they can be made, and give the right to mount within"),
        Err(error) => {
            let (detail, remedy) = userns_remedy(executable, &setting);
            unmet(name, true, format!("{detail}: {error}"), remedy)
        }
    }
}

fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim().to_owned())
}

/// Which of the known switches is off, and how to turn it on.
pub(super) fn userns_remedy(
    executable: &Path,
    setting: &dyn Fn(&str) -> Option<String>,
) -> (String, String) {
    let is = |name: &str, value: &str| setting(name).as_deref() == Some(value);
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        let detail = "AppArmor gives user namespaces of ordinary programs no rights".to_owned();
        return (detail, apparmor_command(executable));
    }
    if is("kernel/unprivileged_userns_clone", "0") {
        let detail = "kernel.unprivileged_userns_clone is 0".to_owned();
        return (detail, sysctl_command("kernel.unprivileged_userns_clone=1"));
    }
    if is("user/max_user_namespaces", "0") {
        let detail = "user.max_user_namespaces is 0".to_owned();
        return (detail, sysctl_command("user.max_user_namespaces=15000"));
    }
    let remedy = "in a container, run it with user namespaces allowed (podman: --security-opt \
                  seccomp=unconfined --security-opt unmask=ALL)";
    ("this kernel or container refuses them".to_owned(), remedy.to_owned())
}

fn sysctl_command(assignment: &str) -> String {
    format!(
        "echo {assignment} | sudo tee /etc/sysctl.d/60-cofferdam.conf && sudo sysctl -p /etc/sysctl.d/60-cofferdam.conf"
    )
}

/// The profile that allows this one program user namespaces, and how to load it. The launcher is
/// executed from memory and keeps the profile, since an unconfined one passes to what it executes.
pub(super) fn apparmor_command(executable: &Path) -> String {
    // Quotes end at a quote, and AppArmor reads glob characters: such a path is left to the reader.
    let text = executable.to_string_lossy();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c));
    let path = if plain { &*text } else { "/path/to/cofferdam" };
    format!(
        "sudo tee /etc/apparmor.d/cofferdam >/dev/null <<'PROFILE'\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\
         profile cofferdam {path} flags=(unconfined) {{\n  userns,\n  include if exists <local/cofferdam>\n}}\n\
         PROFILE\n\
         sudo apparmor_parser -r /etc/apparmor.d/cofferdam"
    )
}

fn seccomp() -> Requirement {
    let name = "seccomp_notification";
    let remedy = "Linux 5.5 or later; in a container, no outer filter with a listener of its own";
    let Ok(program) = program(Wanted::PLAIN) else {
        return unmet(name, false, "the filter cannot be compiled", remedy);
    };
    let privs = [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0];
    let steps: [&dyn Fn() -> libc::c_long; 2] =
        [&super::probe::call(libc::SYS_prctl, privs), &super::probe::filter(&program, true)];
    match attempt(&steps) {
        Ok(()) => met(name, false, "refusals of system calls are told"),
        Err(error) => unmet(name, false, format!("no listener can be had: {error}"), remedy),
    }
}

fn landlock_abi() -> Requirement {
    let abi = landlock::abi();
    if abi == 0 {
        let active = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        return unmet("landlock", true, "the kernel has no Landlock", landlock_command(&active));
    }
    met("landlock", true, format!("ABI {abi}"))
}

/// Linux 5.13 or later has it; distributions may leave it out of the modules that are started.
pub(super) fn landlock_command(active: &str) -> String {
    let named = |c: char| c.is_ascii_alphanumeric() || c == ',' || c == '_';
    let modules = match active.trim() {
        known if !known.is_empty() && known.chars().all(named) => known,
        _ => "lockdown,capability,yama,apparmor",
    };
    format!(
        "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX lsm=landlock,{modules}\"' | \
         sudo tee /etc/default/grub.d/60-cofferdam.cfg && sudo update-grub && sudo reboot  # Linux 5.13 or later"
    )
}

/// A writable layer over another directory, mounted without privilege on the host (Linux 5.11).
fn overlay() -> Requirement {
    let layers = "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr";
    let answer: Answer = attempt(&[
        &unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS),
        &map_to_root(),
        &mount("", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, ""),
        &mount("tmpfs", Path::new("/tmp"), "tmpfs", 0, ""),
        &mkdir(c"/tmp/lower"),
        &mkdir(c"/tmp/upper"),
        &mkdir(c"/tmp/work"),
        &mkdir(c"/tmp/merged"),
        &mount("overlay", Path::new("/tmp/merged"), "overlay", 0, layers),
    ]);
    match answer {
        Ok(()) => met("overlay", false, "overlayfs can be mounted in a user namespace"),
        Err(error) => {
            let remedy =
                "sudo modprobe overlay  # Linux 5.11 or later; until then workspaces are copies";
            unmet("overlay", false, format!("overlayfs cannot be mounted: {error}"), remedy)
        }
    }
}

/// Whether `dir`, which is there and is the caller's own, can hold the writable layer of an
/// overlay. Makes directories in it, which the caller removes.
///
/// # Errors
/// The kernel's answer.
pub fn overlay_in(dir: &Path) -> std::io::Result<()> {
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(dir.join(name))?;
    }
    let into = CString::new(dir.as_os_str().as_bytes())?;
    let layers = "lowerdir=lower,upperdir=upper,workdir=work,userxattr";
    attempt(&[
        &unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS),
        &map_to_root(),
        &mount("", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, ""),
        &call(libc::SYS_chdir, [into.as_ptr() as usize, 0, 0, 0]),
        &mount("overlay", Path::new("merged"), "overlay", 0, layers),
    ])
}

/// An upper layer cannot lie on another overlay, on FAT or on most network file systems; nor can
/// those give root's files to another user, as a session of root's needs.
fn state(state: &Path) -> Requirement {
    let there = state.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let root = rustix::process::geteuid().is_root() && knows_others();
    let remedy = "export XDG_STATE_HOME=DIR  # a directory on ext4, xfs, btrfs or tmpfs";
    match rustix::fs::statfs(there) {
        Ok(found) => {
            let kind = file_system(found.f_type.cast_unsigned());
            let fits = !matches!(kind, "overlay" | "nfs" | "fat" | "9p" | "fuse");
            match (fits, root) {
                (true, _) => met("state_directory", false, format!("on {kind}")),
                (false, false) => {
                    let detail = format!("on {kind}: workspaces are copies");
                    unmet("state_directory", false, detail, remedy)
                }
                (false, true) => {
                    let detail = format!("on {kind}: root's sessions cannot work there");
                    unmet("state_directory", true, detail, remedy)
                }
            }
        }
        Err(error) => unmet("state_directory", false, error.to_string(), remedy),
    }
}

/// Whether there are users to whom root can give a session's files; in most containers there are
/// not, and a session is the container's root without its rights.
fn knows_others() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    counts.max().is_some_and(|count| count > u64::from(u32::MAX) / 2)
}

/// Names by `linux/magic.h`.
fn file_system(magic: u64) -> &'static str {
    match magic {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x2FC1_2FC1 => "zfs",
        0x794C_7630 => "overlay",
        0x6969 => "nfs",
        0x4D44 => "fat",
        0x0102_1997 => "9p",
        0x6573_5546 => "fuse",
        _ => "another file system",
    }
}

/// Makes groups with limits, as a session does, and removes them.
fn cgroups() -> Requirement {
    let groups = Groups::create(&Limits::default());
    let (memory, pids) = (groups.limits_memory(), groups.limits_pids());
    groups.remove();
    if memory && pids {
        return met("control_groups", false, "limits of a whole session can be set");
    }
    let detail = match (memory, pids) {
        (true, false) => "no control group for the number of processes can be made",
        _ => "no control group can be made: memory is limited for each process only",
    };
    let remedy = match rustix::process::geteuid().is_root() {
        false => "systemd-run --user --scope -p Delegate=yes cofferdam …  # or as root",
        true => "sudo mount -t cgroup2 none /sys/fs/cgroup",
    };
    unmet("control_groups", false, detail, remedy)
}

/// Sessions of the profile `flat`, which need no namespaces.
fn flat() -> Requirement {
    let (name, abi) = ("flat_sessions", landlock::abi());
    if rustix::process::geteuid().is_root() {
        let detail = "refused to root: without a user namespace its sessions would own the host";
        return unmet(name, false, detail, "run cofferdam as an ordinary user");
    }
    if abi < FLAT_ABI_MIN {
        let detail =
            format!("Landlock ABI {abi}, and signals end at a domain since {FLAT_ABI_MIN}");
        return unmet(name, false, detail, "Linux 6.12 or later with Landlock enabled");
    }
    let wanted = Wanted { boundary: Boundary::Flat, ..Wanted::PLAIN };
    let Ok(program) = program(wanted) else {
        return unmet(name, false, "the filter cannot be compiled", "report it as a defect");
    };
    let privs = [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0];
    let steps: [&dyn Fn() -> libc::c_long; 2] =
        [&super::probe::call(libc::SYS_prctl, privs), &super::probe::filter(&program, true)];
    match attempt(&steps) {
        Ok(()) => met(name, false, "--profile flat works without namespaces, with fewer walls"),
        Err(error) => {
            let remedy = "no outer filter with a listener of its own";
            unmet(name, false, format!("no listener can be had: {error}"), remedy)
        }
    }
}

/// Landlock's own records need the audit system, which only the host's root may listen to.
fn audit() -> Requirement {
    let root = rustix::process::geteuid().is_root();
    let abi = landlock::abi();
    let detail = format!("Landlock ABI {abi}, {}", if root { "root" } else { "not root" });
    if root && abi >= 7 {
        return met("landlock_audit", false, detail);
    }
    let remedy = "run as root on Linux 6.15 or later; without it refused opens of files are silent";
    unmet("landlock_audit", false, detail, remedy)
}
