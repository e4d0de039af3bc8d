//! The Landlock layers of a session: one for all of it and one for each call.
//!
//! Landlock stands behind the private root: what the root already keeps out or keeps read-only is
//! refused a second time. Must never know why a path is in the root.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::{Wall, WallName, WallStatus};
use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};

use crate::init::SCRATCH;
use crate::sys::landlock::{self as kernel, Layer};

/// What is asked for; the kernel's own best is what is had.
const WANTED: ABI = ABI::V6;

/// Restricts this process, and all that it will ever start, to the session's root.
pub(crate) fn session(
    view: &[(PathBuf, bool)],
    workspace: &Path,
    audited: bool,
) -> Result<Vec<Wall>, String> {
    let abi = kernel::abi();
    if abi == 0 {
        return Err("the kernel has no Landlock, or it is not enabled at boot".to_owned());
    }
    let rules = rules(view, workspace, Scope::from_all(WANTED));
    let rules = rules.map_err(|error| error.to_string())?;
    let rules = rules.ok_or_else(|| "the kernel enforced none of it".to_owned())?;
    Layer::of_session(rules, audited).put_on().map_err(|error| error.to_string())?;
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

/// What a session may do with files; with `scope`, how far it reaches otherwise.
fn rules(
    view: &[(PathBuf, bool)],
    workspace: &Path,
    scope: BitFlags<Scope>,
) -> Result<Option<OwnedFd>, RulesetError> {
    let all = AccessFs::from_all(WANTED);
    let read = AccessFs::from_read(WANTED);
    let mut rules = Ruleset::default().handle_access(all)?;
    if !scope.is_empty() {
        rules = rules.scope(scope)?;
    }
    let mut rules = rules.create()?;
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
    Ok(rules.into())
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
/// The kernel's audit names the innermost domain that refuses. Where it tells, that has to be the
/// call's, so this layer then refuses all that the session's does.
///
/// Moving a file between directories is refused by any layer that does not say otherwise.
pub(crate) fn call_layer(
    view: &[(PathBuf, bool)],
    workspace: &Path,
    audited: bool,
) -> Result<Layer, String> {
    let little = || -> Result<Option<OwnedFd>, RulesetError> {
        let rules =
            Ruleset::default().handle_access(AccessFs::MakeBlock | AccessFs::Refer)?.create()?;
        Ok(allow(rules, Path::new("/"), AccessFs::Refer.into(), true)?.into())
    };
    // A call must be able to signal what the session runs in the background: no scope here.
    let made = if audited { rules(view, workspace, BitFlags::EMPTY) } else { little() };
    match made {
        Ok(Some(rules)) => Ok(Layer::of_call(rules, audited)),
        Ok(None) => Err("the kernel made no rules for calls".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
