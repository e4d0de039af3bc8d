//! Everything once more as a user without privilege.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::refused::{PROGRAM_VARIABLE, program_path};
use crate::support::{DELEGATED_VARIABLE, PROBE_VARIABLE, is_root, probe_path, text};

const NOBODY: u32 = 65534;

/// This binary of tests as another user, from copies that anybody can reach, which go with the
/// directory. Where the tests are not run by root, the user is the same.
pub(crate) fn as_nobody() -> (Command, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copies = [
        ("tests", std::env::current_exe().unwrap()),
        ("probe", probe_path().into()),
        ("refused", program_path()),
    ];
    for (name, from) in copies {
        std::fs::copy(from, dir.path().join(name)).unwrap();
    }
    let scratch = dir.path().join("tmp");
    std::fs::create_dir(&scratch).unwrap();
    let mut command = Command::new(dir.path().join("tests"));
    command
        .env_clear()
        .env("TMPDIR", &scratch)
        .env("PATH", "/usr/bin:/bin")
        .env(PROBE_VARIABLE, dir.path().join("probe"))
        .env(PROGRAM_VARIABLE, dir.path().join("refused"))
        .current_dir(&scratch);
    if is_root() {
        chown(&scratch, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    (command, dir)
}

/// Whether tests of `module` were run, and all of them.
pub(crate) fn is_clean(said: &str, module: &str) -> bool {
    said.contains(&format!("test {module}")) && said.contains(" 0 ignored")
}

/// Runs the tests of one module again as another user. Where the tests are not run by root, they
/// are without privilege already, and there is nothing to repeat.
fn again(module: &str) {
    if !is_root() {
        return;
    }
    let (command, _dir) = as_nobody();
    run(command, module);
}

fn run(mut command: Command, module: &str) {
    let output = command.args(["--test-threads=2", module]).output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(is_clean(&said, module), "{said}");
}

/// A group of the user's, as systemd delegates it. That without one, and on version 1, there is none to
/// be had, is tried wherever else these modules are run again. `cargo xtask guest` has version 2.
#[test]
fn limits_are_kept_by_groups_that_were_delegated() {
    if !is_root() || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return again("breaches::");
    }
    let (root, delegated) = (Path::new("/sys/fs/cgroup"), Path::new("/sys/fs/cgroup/delegated"));
    let within = delegated.join("tests");
    fs::create_dir_all(&within).unwrap();
    for above in [root, delegated] {
        fs::write(above.join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
    }
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        chown(delegated.join(file), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    for module in ["breaches::", "limits::", "deaths::", "spares::"] {
        let (mut command, _dir) = as_nobody();
        let members = File::options().write(true).open(within.join("cgroup.procs")).unwrap();
        // SAFETY: one system call. What was opened by root may be written (cgroups(7)).
        unsafe { command.pre_exec(move || Ok(rustix::io::write(&members, b"0").map(|_| ())?)) };
        command.env(DELEGATED_VARIABLE, "yes");
        run(command, module);
    }
}

#[test]
fn audit_is_said_to_be_absent() {
    again("audit::");
}

#[test]
fn breaches_are_told() {
    again("breaches::");
}

#[test]
fn calls_give_back_the_same() {
    again("calls::");
}

#[test]
fn deaths_leave_nothing() {
    again("deaths::");
}

#[test]
fn grants_widen_one_thing() {
    again("grants::");
}

#[test]
fn layers_share_nothing() {
    again("layers::");
}

#[test]
fn limits_hold() {
    again("limits::");
}

#[test]
fn refusals_are_told() {
    again("refused::");
}

#[test]
fn images_are_used() {
    again("rootfs::");
}

#[test]
fn run_times_run() {
    again("runtimes::");
}

/// A toolchain below root's home is there for root alone, so it is mounted where anybody can reach it,
/// for this one process and what it starts.
#[test]
fn rust_is_compiled() {
    if !is_root() {
        return;
    }
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    let (as_nobody, _dir) = as_nobody();
    let script = "mount -t tmpfs none /opt; mkdir /opt/rust; mount --bind \"$1\" /opt/rust; shift; \
                  exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh", text(&sysroot.stdout).trim()]);
    command.arg(as_nobody.get_program()).env_clear();
    command.envs(as_nobody.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", "/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.current_dir(as_nobody.get_current_dir().unwrap());
    run(command, "cargo::");
}

#[test]
fn soaked_nothing_is_left() {
    again("soak::");
}

#[test]
fn spares_are_like_others() {
    again("spares::");
}

#[test]
fn strays_die() {
    again("strays::");
}

#[test]
fn walls_stand() {
    again("walls::");
}
