//! Where things are in a session without namespaces, and the plan of one.
//!
//! A plan is made for a private root: a home at a fixed place, links and files of its own. Here the
//! same plan is moved to where it can be had: what was below home goes into the session's own
//! directory, what was bound at its own place becomes something that may be read there, and what
//! was synthesised outside home is left out, since the host has its own. Must never touch a file.

use std::path::{Path, PathBuf};

use cofferdam_contract::mount::WorkspaceMount;

use crate::error::SandboxError;
use crate::view::{GIT_CONFIG, HOME};
use crate::wire::{Bytes, Environment, Groundwork, Own, Plan};

/// Names the file that tells a session of its denials.
pub(crate) const DENIALS_VARIABLE: &str = "COFFERDAM_DENIALS";

/// The directories, beneath the one that is a flat session's own, that it writes beside its
/// workspace.
pub const FLAT_DIRECTORIES: [&str; 2] = [HOME_DIRECTORY, TEMPORARY_DIRECTORY];
const HOME_DIRECTORY: &str = "user";
const TEMPORARY_DIRECTORY: &str = "tmp";

/// Files of the host's `/etc` that programs need and that everybody may read: accounts by name
/// among them, which a synthesised `/etc` would not tell.
const ETC: &[&str] = &[
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/passwd",
];

/// The session's directories beneath the one that is its own.
pub(crate) struct Places<'a> {
    dir: &'a Path,
}

impl<'a> Places<'a> {
    pub(crate) fn of(dir: &'a Path) -> Self {
        Self { dir }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.join(HOME_DIRECTORY)
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.dir.join(TEMPORARY_DIRECTORY)
    }

    /// What the boundary tells the session; never written by it.
    pub(crate) fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub(crate) fn denials(&self) -> PathBuf {
        self.run().join("denials.jsonl")
    }

    /// What came of what it asked, and what it was given.
    pub(crate) fn grants(&self) -> PathBuf {
        self.run().join("grants.jsonl")
    }

    /// Where it asks for grants; the one thing there that it writes.
    pub(crate) fn asked(&self) -> PathBuf {
        self.run().join("request-grant")
    }

    /// Files that would be in `/etc`; never written by the session.
    pub(crate) fn etc(&self) -> PathBuf {
        self.dir.join("etc")
    }

    fn git_config(&self) -> PathBuf {
        self.etc().join("gitconfig")
    }

    /// Where a path of a private root is here, if it is anywhere.
    fn moved(&self, path: &Path) -> Option<PathBuf> {
        if path == Path::new(GIT_CONFIG) {
            return Some(self.git_config());
        }
        let below = path.strip_prefix(HOME).ok()?;
        // Joining nothing would add a slash, which programs then show.
        let is_home = below.as_os_str().is_empty();
        Some(if is_home { self.home() } else { self.home().join(below) })
    }
}

/// The same session without a private root, in a directory of its own.
pub(crate) fn plan(plan: Plan, dir: &Path) -> Result<Plan, SandboxError> {
    let places = Places::of(dir);
    let Plan { groundwork, own } = plan;
    let WorkspaceMount::Directory { path, carries } = &own.workspace else {
        let detail = "a flat session's workspace is a copy".to_owned();
        return Err(SandboxError::Invalid { detail });
    };
    if !carries.is_empty() {
        let detail = "a flat session mounts nothing that is carried in".to_owned();
        return Err(SandboxError::Invalid { detail });
    }
    if own.workspace_path.as_path() != path {
        let detail = "a flat session's workspace is where it is on the host".to_owned();
        return Err(SandboxError::Invalid { detail });
    }
    Ok(Plan { groundwork: groundwork_in(&places, groundwork)?, own: own_in(&places, own) })
}

fn groundwork_in(places: &Places<'_>, from: Groundwork) -> Result<Groundwork, SandboxError> {
    let (mut binds, mut links) = (Vec::new(), Vec::new());
    // Read where they are: no layer of the session's own can lie over them.
    for (source, target) in from.binds.into_iter().chain(from.caches) {
        if source != target {
            let Some(moved) = places.moved(target.as_path()) else {
                let detail = format!("{} cannot be elsewhere", target.as_path().display());
                return Err(SandboxError::Invalid { detail });
            };
            links.push((moved.as_path().into(), source.clone()));
        }
        binds.push((source.clone(), source));
    }
    binds.extend(ETC.iter().map(|path| (Path::new(path).into(), Path::new(path).into())));
    let moved = |(path, content): (Bytes, Bytes)| {
        Some((places.moved(path.as_path())?.as_path().into(), content))
    };
    links.extend(from.links.into_iter().filter_map(moved));
    let files = from.files.into_iter().filter_map(moved).collect();
    let flat = Some(places.dir.into());
    Ok(Groundwork { binds, caches: Vec::new(), files, links, flat, ..from })
}

fn own_in(places: &Places<'_>, from: Own) -> Own {
    let mut environment: Environment = from.environment;
    for (name, value) in &mut environment {
        if name.as_os() == "TMPDIR" {
            *value = places.temporary().as_path().into();
        } else if let Some(moved) = places.moved(value.as_path()) {
            *value = moved.as_path().into();
        }
    }
    let denials = (DENIALS_VARIABLE.as_ref(), places.denials());
    environment.push((Bytes::from(denials.0 as &std::ffi::OsStr), denials.1.as_path().into()));
    let decoys = from.decoys.into_iter();
    let decoys = decoys
        .filter_map(|(path, content)| {
            Some((places.moved(path.as_path())?.as_path().into(), content))
        })
        .collect();
    Own { decoys, environment, ..from }
}

#[cfg(test)]
mod tests {
    use super::{Places, plan};
    use crate::wire::{Bytes, Groundwork, Own, Plan};
    use cofferdam_contract::limits::Limits;
    use cofferdam_contract::mount::WorkspaceMount;
    use std::path::Path;

    fn bytes(text: &str) -> Bytes {
        Path::new(text).into()
    }

    fn of(binds: &[(&str, &str)], workspace: WorkspaceMount) -> Plan {
        let pair = |(one, other): &(&str, &str)| (bytes(one), bytes(other));
        Plan {
            groundwork: Groundwork {
                binds: binds.iter().map(pair).collect(),
                caches: Vec::new(),
                files: [("/etc/passwd", ""), ("/etc/gitconfig", "g"), ("/home/agent/.x/y", "y")]
                    .iter()
                    .map(pair)
                    .collect(),
                links: [("/bin", "usr/bin"), ("/home/agent/.l", "/usr/l")]
                    .iter()
                    .map(pair)
                    .collect(),
                limits: Limits::default(),
                debug: false,
                tells_writes: false,
                audited: false,
                flat: None,
            },
            own: Own {
                decoys: [("/home/agent/.aws/credentials", "c")].iter().map(pair).collect(),
                workspace,
                workspace_path: bytes("/s/workspace/tree"),
                environment: [
                    ("HOME", "/home/agent"),
                    ("PATH", "/usr/bin:/bin"),
                    ("TMPDIR", "/tmp"),
                    ("CARGO_HOME", "/home/agent/.cargo"),
                    ("GIT_CONFIG_SYSTEM", "/etc/gitconfig"),
                ]
                .iter()
                .map(pair)
                .collect(),
            },
        }
    }

    #[test]
    fn what_was_below_home_is_in_the_sessions_directory_and_the_rest_is_the_hosts() {
        let workspace = WorkspaceMount::directory("/s/workspace/tree");
        let binds = [("/usr", "/usr"), ("/h/.cargo/registry", "/home/agent/.cargo/registry")];
        let Plan { groundwork, own } = plan(of(&binds, workspace), Path::new("/s")).unwrap();
        let texts = |pairs: &[(Bytes, Bytes)]| -> Vec<String> {
            let text = |it: &Bytes| it.as_path().display().to_string();
            pairs.iter().map(|(one, other)| format!("{} {}", text(one), text(other))).collect()
        };
        let read = texts(&groundwork.binds);
        assert!(read.contains(&"/usr /usr".to_owned()), "{read:?}");
        assert!(read.contains(&"/h/.cargo/registry /h/.cargo/registry".to_owned()), "{read:?}");
        assert_eq!(
            texts(&groundwork.links),
            ["/s/user/.cargo/registry /h/.cargo/registry", "/s/user/.l /usr/l"]
        );
        assert_eq!(texts(&groundwork.files), ["/s/etc/gitconfig g", "/s/user/.x/y y"]);
        assert_eq!(texts(&own.decoys), ["/s/user/.aws/credentials c"]);
        assert_eq!(
            texts(&own.environment),
            [
                "HOME /s/user",
                "PATH /usr/bin:/bin",
                "TMPDIR /s/tmp",
                "CARGO_HOME /s/user/.cargo",
                "GIT_CONFIG_SYSTEM /s/etc/gitconfig",
                "COFFERDAM_DENIALS /s/run/denials.jsonl",
            ]
        );
        assert_eq!(Places::of(Path::new("/s")).home(), Path::new("/s/user"));
    }

    #[test]
    fn what_cannot_be_had_without_mounts_is_refused() {
        let overlay = WorkspaceMount::Overlay {
            lowers: Vec::new(),
            upper: "/u".into(),
            work: "/w".into(),
            carries: Vec::new(),
        };
        assert!(plan(of(&[], overlay), Path::new("/s")).is_err());
        let elsewhere = WorkspaceMount::directory("/other");
        assert!(plan(of(&[], elsewhere), Path::new("/s")).is_err());
        let workspace = || WorkspaceMount::directory("/s/workspace/tree");
        assert!(plan(of(&[("/opt/a", "/opt/b")], workspace()), Path::new("/s")).is_err());
        assert!(plan(of(&[("/opt/a", "/opt/a")], workspace()), Path::new("/s")).is_ok());
    }
}
