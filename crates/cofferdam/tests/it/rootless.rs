//! Whole runs once more as a user without privilege.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::world::{BINARY_VARIABLE, binary};

const NOBODY: u32 = 65534;

/// Runs the tests of these modules again as another user. Where the tests are not run by root,
/// they are without privilege already, and there is nothing to repeat.
fn again(modules: &[&str]) {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::copy(std::env::current_exe().unwrap(), at("tests")).unwrap();
    std::fs::copy(binary(), at("cofferdam")).unwrap();
    std::fs::create_dir(at("tmp")).unwrap();
    chown(at("tmp"), Some(NOBODY), Some(NOBODY)).unwrap();
    let output = Command::new(at("tests"))
        .arg("--test-threads=2")
        .args(modules)
        .env_clear()
        .env("TMPDIR", at("tmp"))
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env(BINARY_VARIABLE, at("cofferdam"))
        .current_dir(at("tmp"))
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    for module in modules {
        assert!(said.contains(&format!("test {module}")) && said.contains(" 0 ignored"), "{said}");
    }
}

#[test]
fn runs_are_governed_approved_killed_and_stopped() {
    again(&["killed::"]);
}

#[test]
fn sessions_are_opened_on_any_ground() {
    again(&["ground::", "supervised::"]);
}

#[test]
fn changes_are_checked_and_repositories_left_as_they_were() {
    again(&["modes::an_agent", "modes::a_c", "intact::", "terminal::"]);
}

#[test]
fn refusals_and_approvals_are_what_they_are() {
    again(&["attacks::refusals::", "attacks::approval::", "attacks::repository::"]);
}
