//! The only place that runs git.
//!
//! The environment is built from nothing, the system's and the user's configuration are not read,
//! whatever a repository's own configuration could make git execute is overridden, no transport is
//! allowed unless asked for, time and output are bounded, and a process group that overstays is
//! killed. Only plumbing is run. Must never know what a command means: that is its caller's.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::RepositoryError;
use crate::process::GitCommand;

/// Debian 12's. `merge-tree --write-tree` came with 2.38; older than this is not tried.
pub const VERSION_MIN: (u32, u32) = (2, 39);
/// The same for people.
pub(crate) const VERSION_MIN_TEXT: &str = "2.39";

/// Overrides that leave nothing to execute and keep output the same everywhere. The command line
/// wins over every file (git-config(1)).
const OVERRIDES: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.pager=cat",
    "core.editor=false",
    "core.sshCommand=false",
    "core.askPass=false",
    "core.gitProxy=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.alternateRefsCommand=true",
    "core.logAllRefUpdates=false",
    "core.filesRefLockTimeout=1000",
    "core.quotePath=true",
    "core.precomposeUnicode=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.bigFileThreshold=32m",
    "core.fsync=committed,reference",
    "core.fsyncMethod=batch",
    "core.multiPackIndex=true",
    "credential.helper=",
    "gpg.program=false",
    "gpg.ssh.program=false",
    "gpg.x509.program=false",
    "commit.gpgSign=false",
    "log.showSignature=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "safe.directory=*",
    "diff.external=",
    "diff.ignoreSubmodules=none",
    "diff.orderFile=/dev/null",
    "diff.renames=false",
    "diff.indentHeuristic=true",
    "merge.renames=true",
    "merge.directoryRenames=false",
    "merge.conflictStyle=merge",
    "protocol.allow=never",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "transfer.bundleURI=false",
    "advice.detachedHead=false",
];

/// A git that is new enough.
#[derive(Clone, Debug)]
pub struct Git {
    program: PathBuf,
    path: OsString,
    version: String,
}

impl Git {
    /// Finds git along `path_var` (in the form of `PATH`) and asks its version.
    ///
    /// # Errors
    /// [`RepositoryError::GitUnusable`] if there is none or it is older than 2.39.
    pub fn find(path_var: &OsStr) -> Result<Self, RepositoryError> {
        let unusable = |text: &str| RepositoryError::GitUnusable(text.to_owned());
        let program = std::env::split_paths(path_var)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("git"))
            .find(|file| file.is_file())
            .ok_or_else(|| unusable("there is no git on the path"))?;
        let mut git = Self { program, path: path_var.to_owned(), version: String::new() };
        let answer = git.command(&Place::Nowhere, "version").text()?;
        git.version = answer.trim().trim_start_matches("git version ").to_owned();
        let mut numbers = git.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < VERSION_MIN {
            let text = format!("git {} is older than {VERSION_MIN_TEXT}", git.version);
            return Err(RepositoryError::GitUnusable(text));
        }
        Ok(git)
    }

    /// Makes a clone of its own of what is committed in `source`. `source` is only read.
    ///
    /// # Errors
    /// [`RepositoryError::Git`] with what git says against it.
    pub fn clone_of(&self, source: &Path, target: &Path) -> Result<(), RepositoryError> {
        self.command(&Place::Discover(Path::new("/")), "clone")
            .config("protocol.file.allow=always")
            .env("GIT_ALLOW_PROTOCOL", "file")
            .long()
            .args(["--quiet", "--no-hardlinks", "--template=", "--"])
            .arg(source)
            .arg(target)
            .bytes()
            .map(|_| ())
    }

    /// The version as git tells it, such as `2.47.3`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// `git SUBCOMMAND` at `place`.
    pub(crate) fn command(&self, place: &Place<'_>, subcommand: &'static str) -> GitCommand {
        let mut command = Command::new(&self.program);
        command.env_clear().process_group(0).env("PATH", &self.path);
        for (name, value) in ENVIRONMENT {
            command.env(name, value);
        }
        place.enter(&mut command);
        for pair in OVERRIDES {
            command.arg("-c").arg(pair);
        }
        GitCommand::new(command, subcommand)
    }
}

const ENVIRONMENT: &[(&str, &str)] = &[
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_SYSTEM", "/dev/null"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_NO_LAZY_FETCH", "1"),
    // Wins over protocol.*.allow of any file; no transport has this name.
    ("GIT_ALLOW_PROTOCOL", "none"),
    // A path is a path, whatever it begins with.
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "false"),
    ("GIT_ASKPASS", "false"),
    ("GIT_ADVICE", "0"),
    ("GIT_AUTHOR_NAME", "Cofferdam"),
    ("GIT_AUTHOR_EMAIL", "cofferdam@localhost"),
    ("GIT_COMMITTER_NAME", "Cofferdam"),
    ("GIT_COMMITTER_EMAIL", "cofferdam@localhost"),
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
    // Must be set, or a `~` in a repository's configuration is fatal; must not exist.
    ("HOME", "/nonexistent"),
    ("XDG_CONFIG_HOME", "/nonexistent"),
];

/// Which repository a command runs in, and which objects it sees.
pub(crate) enum Place<'a> {
    /// In none.
    Nowhere,
    /// In whatever is found from this directory upwards.
    Discover(&'a Path),
    /// In the user's repository: for its refs only.
    Refs(&'a Path),
    /// In a repository of ours, reading other object directories as well.
    Objects {
        /// Ours.
        git_dir: &'a Path,
        /// Theirs, only read.
        alternates: &'a [&'a Path],
        /// Where their history is cut, if it is.
        shallow: Option<&'a Path>,
    },
}

impl Place<'_> {
    fn enter(&self, command: &mut Command) {
        match self {
            Self::Nowhere => {
                command.current_dir("/").env("GIT_DIR", "/nonexistent");
            }
            Self::Discover(dir) => {
                command.current_dir(dir);
            }
            // A work tree is named so that core.worktree is not looked at.
            Self::Refs(git_dir) => {
                command.current_dir(git_dir).env("GIT_DIR", git_dir).env("GIT_WORK_TREE", git_dir);
            }
            Self::Objects { git_dir, alternates, shallow } => {
                command.current_dir(git_dir).env("GIT_DIR", git_dir);
                if !alternates.is_empty() {
                    command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted_list(alternates));
                }
                if let Some(file) = shallow {
                    command.env("GIT_SHALLOW_FILE", file);
                }
            }
        }
    }
}

/// Paths as GIT_ALTERNATE_OBJECT_DIRECTORIES takes them whatever bytes they have (git(1)).
fn quoted_list(paths: &[&Path]) -> OsString {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut text = String::new();
    for path in paths {
        text.push_str(if text.is_empty() { "\"" } else { ":\"" });
        for &byte in path.as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"/._-+,@ ".contains(&byte) {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
        text.push('"');
    }
    text.into()
}
