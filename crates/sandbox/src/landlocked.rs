//! The Landlock layers of a session: one for all of it and one for each call.
//!
//! Landlock stands behind the private root: what the root already keeps out or keeps read-only is
//! refused a second time. Must never know why a path is in the root.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::{Wall, WallName, WallStatus};
use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::init::SCRATCH;
use crate::sys::landlock as kernel;

/// What is asked for; the kernel's own best is what is had.
const WANTED: ABI = ABI::V6;

/// Restricts this process, and all that it will ever start, to the session's root.
pub(crate) fn session(view: &[(PathBuf, bool)], workspace: &Path) -> Result<Vec<Wall>, String> {
    let abi = kernel::abi();
    if abi == 0 {
        return Err("the kernel has no Landlock, or it is not enabled at boot".to_owned());
    }
    let status = restrict(view, workspace).map_err(|error| error.to_string())?;
    if status == RulesetStatus::NotEnforced {
        return Err("the kernel enforced none of it".to_owned());
    }
    let scopes = if abi >= 6 {
        (WallStatus::Enforced, "abstract sockets and signals end at the session's domain")
    } else {
        (WallStatus::Absent, "before ABI 6; the namespaces stand for it")
    };
    Ok(vec![
        Wall {
            name: WallName::LandlockFilesystem,
            status: WallStatus::Enforced,
            detail: format!("ABI {abi}: reading the view, writing workspace and scratch"),
        },
        Wall { name: WallName::LandlockScopes, status: scopes.0, detail: scopes.1.to_owned() },
    ])
}

fn restrict(view: &[(PathBuf, bool)], workspace: &Path) -> Result<RulesetStatus, RulesetError> {
    let all = AccessFs::from_all(WANTED);
    let read = AccessFs::from_read(WANTED);
    let mut rules =
        Ruleset::default().handle_access(all)?.scope(Scope::from_all(WANTED))?.create()?;
    // Names of what is there may be listed anywhere; there is nothing but what was put there.
    rules = allow(rules, Path::new("/"), AccessFs::ReadDir.into(), true)?;
    for (path, is_directory) in view {
        rules = allow(rules, path, read, *is_directory)?;
    }
    for path in ["/etc", "/run"] {
        rules = allow(rules, Path::new(path), read, true)?;
    }
    // A program may write to its own entries there, such as `oom_score_adj`.
    let in_place = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile;
    rules = allow(rules, Path::new("/proc"), in_place, true)?;
    let devices = in_place | AccessFs::IoctlDev | AccessFs::Truncate;
    rules = allow(rules, Path::new("/dev"), devices, true)?;
    for path in SCRATCH.iter().map(Path::new).chain([workspace]) {
        rules = allow(rules, path, all, true)?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
    is_directory: bool,
) -> Result<RulesetCreated, RulesetError> {
    let access = if is_directory { access } else { access & AccessFs::from_file(WANTED) };
    match PathFd::new(path) {
        Ok(opened) => rules.add_rule(PathBeneath::new(opened, access)),
        // What is not there needs no rule.
        Err(_) => Ok(rules),
    }
}

/// A layer that refuses nothing that is not refused already, prepared once and put on by each
/// call: it gives the call a domain of its own, which other calls cannot trace into.
///
/// Moving a file between directories is refused by any layer that does not say otherwise.
pub(crate) fn call_layer() -> Result<OwnedFd, String> {
    let made = || -> Result<Option<OwnedFd>, RulesetError> {
        let rules =
            Ruleset::default().handle_access(AccessFs::MakeBlock | AccessFs::Refer)?.create()?;
        Ok(allow(rules, Path::new("/"), AccessFs::Refer.into(), true)?.into())
    };
    match made() {
        Ok(Some(rules)) => Ok(rules),
        Ok(None) => Err("the kernel made no rules for calls".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
