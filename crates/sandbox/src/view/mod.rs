//! What of the host a session sees, read-only: system directories, toolchains, a synthesised /etc.
//!
//! Everything is named: nothing is under a bind that was not asked for by an allow-list, so a file
//! with credentials is absent and not refused. Tools keep the paths that they have on the host,
//! since shebangs, shims and virtual environments hold those; home is another, private one. Must
//! never know how a bind is made, and never bind a home, its ancestors or a configuration
//! directory. Where a profile names an image, the directories of the system are the image's.

mod caches;
mod etc;
mod rootfs;
mod toolchains;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

pub use caches::CacheDir;

/// Home directory inside a session.
pub const HOME: &str = "/home/agent";
/// Name of the session's one user.
pub const USER: &str = "agent";
/// User id inside, in the synthesised `/etc/passwd`.
pub const UID: u32 = 1000;
/// Group id inside.
pub const GID: u32 = 1000;

pub(crate) use self::etc::GIT_CONFIG;

/// Most binds of one view: each is a mount of each session.
const BINDS_MAX: usize = 512;

/// One read-only bind of a directory or file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bind {
    /// On the host; exists, and is no symbolic link.
    pub source: PathBuf,
    /// Inside.
    pub target: PathBuf,
}

/// What of the host a session sees. All paths inside are absolute and without `..`.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Read-only binds, in the order in which to mount them. Those below [`HOME`] go into the
    /// private home, so that must be mounted before.
    pub binds: Vec<Bind>,
    /// Language caches of the host; a session gets those that it is allowed.
    pub caches: Vec<CacheDir>,
    /// Synthesised files.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Symbolic links: where, and to what.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// `PATH` inside: entries of the host's that exist inside.
    pub path: OsString,
    variables: Vec<(OsString, OsString)>,
}

impl View {
    /// The view of this host for a user whose `PATH`, home directory and environment are given.
    /// Reads the file system; what is not there is left out.
    pub fn of_host(path_var: &OsStr, home: &Path, var: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let mut builder = Builder::new(Path::new("/"), home, var);
        builder.system();
        etc::add(&mut builder);
        let mut path = Vec::new();
        for entry in std::env::split_paths(path_var) {
            if toolchains::add_entry(&mut builder, &entry) && !path.contains(&entry) {
                path.push(entry);
            }
        }
        toolchains::add_homes(&mut builder);
        caches::add(&mut builder);
        for entry in ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from) {
            if builder.covers(&entry) && !path.contains(&entry) {
                path.push(entry);
            }
        }
        builder.finish(&path)
    }

    /// What of it shows something of `dir`, or of what is above or beneath.
    pub fn shows(&self, dir: &Path) -> Option<&Path> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let dir = real(dir);
        let caches = self.caches.iter().map(|cache| &cache.source);
        let mut sources = self.binds.iter().map(|bind| &bind.source).chain(caches);
        let shown = |source: &Path| {
            let source = real(source);
            dir.starts_with(&source) || source.starts_with(&dir)
        };
        sources.find(|source| shown(source)).map(PathBuf::as_path)
    }

    /// The environment that belongs to the view: nothing else of the host's comes in.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment = vec![(OsString::from("PATH"), self.path.clone())];
        environment.extend(self.variables.iter().cloned());
        environment
    }
}

/// Directory names that hold configuration or keys, never programs: nothing at or below one is
/// bound, however it came into `PATH`.
pub(crate) const NEVER: &[&str] = &[
    ".ssh",
    ".aws",
    ".azure",
    ".gnupg",
    ".config",
    ".docker",
    ".kube",
    ".password-store",
    ".git",
    ".mozilla",
    ".thunderbird",
    ".claude",
    ".codex",
    ".gemini",
    ".m2",
    ".gradle",
    ".npm",
    "Desktop",
    "Documents",
    "Downloads",
];

/// A view in the making.
struct Builder<'a> {
    /// Where the directories of the system are: `/`, or those of an image. No link leads out of it.
    from: PathBuf,
    home: PathBuf,
    var: &'a dyn Fn(&str) -> Option<OsString>,
    binds: BTreeSet<Bind>,
    caches: Vec<CacheDir>,
    links: BTreeSet<(PathBuf, PathBuf)>,
    files: Vec<(PathBuf, Vec<u8>)>,
    variables: Vec<(OsString, OsString)>,
}

impl<'a> Builder<'a> {
    fn new(from: &Path, home: &Path, var: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        let mut builder = Self {
            from: from.to_owned(),
            home: home.to_owned(),
            var,
            binds: BTreeSet::new(),
            caches: Vec::new(),
            links: BTreeSet::new(),
            files: Vec::new(),
            variables: Vec::new(),
        };
        builder.base_variables();
        builder
    }

    fn base_variables(&mut self) {
        let shell =
            if self.source(Path::new("/usr/bin/bash")).exists() { "/bin/bash" } else { "/bin/sh" };
        for (name, value) in [
            ("HOME", HOME),
            ("USER", USER),
            ("LOGNAME", USER),
            ("SHELL", shell),
            ("TMPDIR", "/tmp"),
            ("GIT_CONFIG_SYSTEM", etc::GIT_CONFIG),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
            ("npm_config_update_notifier", "false"),
        ] {
            self.set(name, value);
        }
        // Only what says how text is shown, and only if it is plain.
        for (name, default) in [("LANG", Some("C.UTF-8")), ("TERM", Some("dumb")), ("TZ", None)] {
            let plain = |value: &OsString| {
                let text = value.as_encoded_bytes();
                (1..=64).contains(&text.len())
                    && text.iter().all(|b| b.is_ascii_alphanumeric() || b"-_./+@".contains(b))
            };
            if let Some(value) = (self.var)(name).filter(plain).or(default.map(OsString::from)) {
                self.set(name, value);
            }
        }
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        let (name, value) = (OsString::from(name), value.into());
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value));
    }

    /// A path that a variable names, or else one below home.
    fn dir(&self, variable: &str, below_home: &str) -> PathBuf {
        let named = (self.var)(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        named.unwrap_or_else(|| self.home.join(below_home))
    }

    /// The distribution's own directories; on a merged /usr the others are links into it.
    fn system(&mut self) {
        self.bind(Path::new("/usr"));
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            self.bind(&Path::new("/").join(name));
        }
    }

    /// Where on the host a path of the system is.
    fn source(&self, path: &Path) -> PathBuf {
        self.from.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Binds a path at its own place; a symbolic link becomes the same link. False if that is not
    /// allowed or there is nothing.
    fn bind(&mut self, path: &Path) -> bool {
        self.bind_at(&self.source(path), path)
    }

    fn bind_at(&mut self, source: &Path, target: &Path) -> bool {
        if !self.may_bind(source) || self.binds.len() == BINDS_MAX {
            return false;
        }
        let Ok(metadata) = source.symlink_metadata() else { return false };
        if metadata.is_symlink() {
            let Ok(to) = std::fs::read_link(source) else { return false };
            self.links.insert((target.to_owned(), to));
            return true;
        }
        if !metadata.is_dir() && !metadata.is_file() {
            return false;
        }
        // Where a parent is bound already, this is there.
        let (source, target) = (source.to_owned(), target.to_owned());
        let is_there = |bind: &Bind| {
            target.strip_prefix(&bind.target).is_ok_and(|rest| bind.source.join(rest) == source)
        };
        if !self.binds.iter().any(is_there) {
            self.binds.insert(Bind { source, target });
        }
        true
    }

    /// Whether binding `path` could show more than programs. Judged on the path with its links
    /// resolved as well as without: a link in a tools' directory must not lead to keys.
    fn may_bind(&self, path: &Path) -> bool {
        if !self.is_within(path) {
            return false;
        }
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        [path, &resolved].into_iter().all(|path| {
            let plain = path.is_absolute()
                && path.components().all(|part| !matches!(part, Component::ParentDir));
            let below_home = path.strip_prefix(&self.home);
            let hidden = below_home.is_ok_and(|rest| {
                rest.components().any(|part| NEVER.iter().any(|never| part.as_os_str() == *never))
            });
            let system_secret = ["/etc/shadow", "/proc", "/sys", "/dev", "/run", "/var/run"];
            plain
                && !hidden
                && !self.home.starts_with(path)
                && path.components().count() > 1
                && !system_secret.iter().any(|secret| path.starts_with(secret))
        })
    }

    /// Whether what a path leads to is where the directories of the system are. A link as such is
    /// followed inside alone, so it may be anywhere.
    fn is_within(&self, path: &Path) -> bool {
        if self.from == Path::new("/") {
            return true;
        }
        let followed = if path.is_symlink() { path.parent() } else { Some(path) };
        let resolved = followed.and_then(|path| path.canonicalize().ok());
        resolved.is_some_and(|it| it.starts_with(&self.from))
    }

    /// Whether a path of the system is there inside, under the same name.
    fn covers(&self, path: &Path) -> bool {
        let bound = |path: &Path| {
            self.binds.iter().any(|bind| {
                bind.source == self.source(&bind.target) && path.starts_with(&bind.target)
            })
        };
        // Links at the top, such as /bin, lead into what is bound.
        let linked = |path: &Path| {
            self.links.iter().any(|(link, to)| {
                path.strip_prefix(link).is_ok_and(|rest| bound(&Path::new("/").join(to).join(rest)))
            })
        };
        self.source(path).is_dir() && (bound(path) || linked(path))
    }

    fn finish(self, path: &[PathBuf]) -> View {
        let binds: Vec<_> = self.binds.into_iter().collect();
        // A directory that came after something in it: the directory alone is enough.
        let redundant = |bind: &Bind| {
            binds.iter().any(|other| {
                other != bind
                    && bind
                        .target
                        .strip_prefix(&other.target)
                        .is_ok_and(|rest| other.source.join(rest) == bind.source)
            })
        };
        let mut kept: Vec<_> = binds.iter().filter(|bind| !redundant(bind)).cloned().collect();
        kept.sort_by(|a, b| a.target.cmp(&b.target));
        // A colon in an entry cannot be: it came out of a list split at colons.
        let path = std::env::join_paths(path).unwrap_or_default();
        let links = self.links.into_iter().collect();
        let Self { caches, files, variables, .. } = self;
        View { binds: kept, caches, files, links, path, variables }
    }
}

#[cfg(test)]
mod tests;
