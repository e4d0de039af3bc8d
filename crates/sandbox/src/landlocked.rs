//! The Landlock layers of a session: one for all of it and one for each call.
//!
//! Behind a private root Landlock is the second wall: what the root already keeps out or keeps
//! read-only is refused once more. In a flat session it is the first. Must never know why a path
//! may be reached.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::{Boundary, Wall, WallName, WallStatus};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::sys::landlock::{self as kernel, Layer};

/// What is asked for; the kernel's own best is what is had.
const WANTED: ABI = ABI::V6;
/// Least that a flat session needs: without scopes it could signal the user's other processes.
pub(crate) const FLAT_ABI_MIN: u32 = 6;

/// What a session may reach. What is not there needs no rule.
pub(crate) struct Reach {
    pub(crate) boundary: Boundary,
    /// The kernel's audit is told of what is refused.
    pub(crate) audited: bool,
    /// May be listed, and nothing more.
    pub(crate) list: Vec<PathBuf>,
    /// Read and executed.
    pub(crate) read: Vec<PathBuf>,
    /// Read, and written where the kernel's own rules for them allow it.
    pub(crate) in_place: Vec<PathBuf>,
    /// The same, with their commands.
    pub(crate) devices: Vec<PathBuf>,
    /// Everything.
    pub(crate) write: Vec<PathBuf>,
    /// Parents of what will be mounted there, so that their rules hold for it (the walk goes up
    /// through mounts): files are read, and in the second also written. Nothing that the host could
    /// trip over is made there: no links, no sockets, no pipes; and nothing there is executed.
    pub(crate) lent: Vec<PathBuf>,
    pub(crate) lent_to_write: Vec<PathBuf>,
    /// Written, and nothing else.
    pub(crate) asked: Vec<PathBuf>,
    /// Read by init, and by no call.
    pub(crate) init_reads: Vec<PathBuf>,
}

/// Restricts this process, and all that it will ever start, to what the session may reach.
pub(crate) fn session(reach: &Reach) -> Result<Vec<Wall>, String> {
    let abi = kernel::abi();
    if abi == 0 {
        return Err("the kernel has no Landlock, or it is not enabled at boot".to_owned());
    }
    if reach.boundary == Boundary::Flat && abi < FLAT_ABI_MIN {
        return Err(format!(
            "a flat session needs Landlock ABI {FLAT_ABI_MIN} (Linux 6.12), and this is ABI {abi}"
        ));
    }
    let rules: Option<OwnedFd> = rules(reach, true).map_err(|error| error.to_string())?.into();
    let rules = rules.ok_or_else(|| "the kernel enforced none of it".to_owned())?;
    Layer::of_session(rules, reach.audited).put_on().map_err(|error| error.to_string())?;
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

/// The rules of the session as a whole, which init is under as well, or those of a call.
fn rules(reach: &Reach, is_session: bool) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(WANTED);
    let read = AccessFs::from_read(WANTED);
    let mut rules = Ruleset::default().handle_access(all)?;
    if reach.boundary == Boundary::Flat {
        // There are no such sockets; this stands behind the filter.
        rules = rules.handle_access(AccessNet::from_all(WANTED))?;
    }
    if is_session {
        // Not in a call: calls signal what runs in the background.
        rules = rules.scope(Scope::from_all(WANTED))?;
    }
    let mut rules = rules.create()?;
    // A program may write to its own entries of /proc, such as `oom_score_adj`.
    let in_place = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile;
    let devices = in_place | AccessFs::IoctlDev | AccessFs::Truncate;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let files = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::MakeDir;
    let moving = AccessFs::RemoveFile | AccessFs::RemoveDir | AccessFs::Refer;
    let no_paths = Vec::new();
    let own = if is_session { &reach.init_reads } else { &no_paths };
    let kinds = [
        (&reach.list, AccessFs::ReadDir.into()),
        (&reach.read, read),
        (&reach.in_place, in_place),
        (&reach.devices, devices),
        (&reach.write, all),
        (&reach.lent, reading),
        (&reach.lent_to_write, reading | files | moving),
        (&reach.asked, AccessFs::WriteFile.into()),
        (own, reading),
    ];
    for (paths, access) in kinds {
        for path in paths {
            rules = allow(rules, path, access)?;
        }
    }
    Ok(rules)
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(rules) };
    let kind = rustix::fs::fstat(&opened).map(|it| rustix::fs::FileType::from_raw_mode(it.st_mode));
    let access = if kind.is_ok_and(|it| it.is_dir()) {
        access
    } else {
        access & AccessFs::from_file(WANTED)
    };
    rules.add_rule(PathBeneath::new(opened, access))
}

/// The layer that each call puts on: it gives the call a domain of its own, which other calls
/// cannot trace into. Prepared once.
///
/// In a native session it refuses nothing that is not refused already. In a flat one it takes away
/// what init alone may read. The kernel's audit names the innermost domain that refuses: where it
/// tells, that has to be the call's, so this layer then refuses all that the session's does.
///
/// Moving a file between directories is refused by any layer that does not say otherwise.
pub(crate) fn call_layer(reach: &Reach) -> Result<Layer, String> {
    let little = || -> Result<Option<OwnedFd>, RulesetError> {
        let rules =
            Ruleset::default().handle_access(AccessFs::MakeBlock | AccessFs::Refer)?.create()?;
        Ok(allow(rules, Path::new("/"), AccessFs::Refer.into())?.into())
    };
    let whole = reach.audited || reach.boundary == Boundary::Flat;
    // A call must be able to signal what the session runs in the background: no scope here.
    let made = if whole { rules(reach, false).map(Into::into) } else { little() };
    match made {
        Ok(Some(rules)) => Ok(Layer::of_call(rules, reach.audited)),
        Ok(None) => Err("the kernel made no rules for calls".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
