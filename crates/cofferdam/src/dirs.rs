//! Where state, cache and configuration are: the XDG directories and their overrides.
//!
//! State must be private to its owner and on a file system whose locks work, since locks decide
//! who holds a run. Must never know what is kept there.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cofferdam_contract::problem::{Code, Problem};

/// The directories of one user of Cofferdam.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Dirs {
    /// Journal, keys, broker's store, sessions, locks.
    pub(crate) state: PathBuf,
    /// What can be made again: prepared bases.
    pub(crate) cache: PathBuf,
    /// `config.toml` and `profiles/`.
    pub(crate) config: PathBuf,
}

/// The environment variables that name a directory: override, XDG variable, default under `HOME`,
/// and what is kept there.
pub(crate) const VARIABLES: [(&str, &str, &str, &str); 3] = [
    ("COFFERDAM_STATE_DIR", "XDG_STATE_HOME", ".local/state", "journal, keys and open sessions"),
    ("COFFERDAM_CACHE_DIR", "XDG_CACHE_HOME", ".cache", "prepared bases; may be removed"),
    ("COFFERDAM_CONFIG_DIR", "XDG_CONFIG_HOME", ".config", "config.toml and profiles"),
];

impl Dirs {
    /// The directories that the environment names. Touches nothing.
    ///
    /// # Errors
    /// `configuration_invalid` if an override is not absolute or neither it nor `HOME` is there.
    pub(crate) fn find(var: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Problem> {
        let [state, cache, config] = VARIABLES.map(|(own, xdg, default, _)| {
            if let Some(dir) = var(own).filter(|dir| !dir.is_empty()) {
                let dir = PathBuf::from(dir);
                return if dir.is_absolute() { Ok(dir) } else { Err(invalid(own)) };
            }
            // XDG base directories 0.8: a relative path is to be ignored.
            let absolute = |dir: OsString| Some(PathBuf::from(dir)).filter(|dir| dir.is_absolute());
            let base = var(xdg)
                .and_then(absolute)
                .or_else(|| Some(var("HOME").and_then(absolute)?.join(default)));
            base.map(|base| base.join("cofferdam")).ok_or_else(|| no_home(own))
        });
        Ok(Self { state: state?, cache: cache?, config: config? })
    }

    /// Where the pool is mounted, if the host has one.
    pub(crate) fn pool(&self) -> PathBuf {
        self.state.join("pool")
    }

    /// Makes state and cache directories and checks that they can be relied on.
    ///
    /// # Errors
    /// `storage_failed`, naming the directory, the cause and the remedy.
    pub(crate) fn prepare(&self) -> Result<(), Problem> {
        make(&self.state, "COFFERDAM_STATE_DIR")?;
        make(&self.cache, "COFFERDAM_CACHE_DIR")?;
        refuse_without_locks(&self.state)
    }

    /// Checks what is there of the state directory, and makes nothing.
    ///
    /// # Errors
    /// As [`Dirs::prepare`].
    pub(crate) fn examine(&self) -> Result<(), Problem> {
        if self.state.symlink_metadata().is_ok() {
            check(&self.state, "COFFERDAM_STATE_DIR")?;
        }
        match self.state.ancestors().find(|dir| dir.is_dir()) {
            Some(dir) => refuse_without_locks(dir),
            None => Ok(()),
        }
    }
}

fn invalid(variable: &str) -> Problem {
    Problem::new(Code::ConfigurationInvalid, format!("{variable} is not an absolute path"))
        .at(Some(variable.to_owned()))
        .hint(format!("set {variable} to an absolute path, or unset it"))
}

fn no_home(variable: &str) -> Problem {
    Problem::new(Code::ConfigurationInvalid, "HOME is not set, so there is no place for state")
        .hint(format!("set HOME or {variable} to an absolute path"))
}

fn failed(dir: &Path, detail: &str) -> Problem {
    Problem::new(Code::StorageFailed, format!("{}: {detail}", shown(dir)))
}

/// A path as people may see it.
pub(crate) fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    cofferdam_contract::text::escape_bytes(path.as_os_str().as_bytes())
}

fn make(dir: &Path, variable: &str) -> Result<(), Problem> {
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| failed(dir, &reason(&error)).hint(remedy(&error, variable)))?;
    check(dir, variable)
}

/// Whether the directory is its owner's alone and can be written.
fn check(dir: &Path, variable: &str) -> Result<(), Problem> {
    let found = std::fs::metadata(dir).map_err(|error| failed(dir, &reason(&error)))?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(failed(dir, "it belongs to another user")
            .hint(format!("set {variable} to a directory of your own")));
    }
    if found.mode() & 0o077 != 0 {
        return Err(failed(dir, "other users can get into it")
            .hint(format!("run chmod 700 {}", shown(dir))));
    }
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(io::Error::from)
        .map_err(|error| failed(dir, &reason(&error)).hint(remedy(&error, variable)))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "it is on a read-only file system".to_owned(),
        io::ErrorKind::PermissionDenied => "it cannot be written".to_owned(),
        _ => error.to_string().to_lowercase(),
    }
}

fn remedy(error: &io::Error, variable: &str) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "make room, then run the command again".to_owned(),
        _ => format!("set {variable} to a directory that you can write"),
    }
}

/// File systems on which `flock` or the shared memory of SQLite's WAL does not work as it does on
/// a local disk (<https://www.sqlite.org/wal.html>): name and magic number (statfs(2)).
const WITHOUT_LOCKS: [(&str, u64); 6] = [
    ("9p (such as a Windows drive under WSL)", 0x0102_1997),
    ("drvfs (a Windows drive under WSL)", 0x5346_4846),
    ("nfs", 0x6969),
    ("smb", 0x517b),
    ("cifs", 0xff53_4d42),
    ("smb", 0xfe53_4d42),
];

fn refuse_without_locks(dir: &Path) -> Result<(), Problem> {
    let found =
        rustix::fs::statfs(dir).map_err(|error| failed(dir, &reason(&io::Error::from(error))))?;
    // The field's width and sign differ between architectures; the magic numbers are 32 bits.
    let magic = (found.f_type as u64) & 0xffff_ffff;
    match WITHOUT_LOCKS.iter().find(|(_, it)| *it == magic) {
        None => Ok(()),
        Some((name, _)) => {
            Err(failed(dir, &format!("it is on {name}, where locks cannot be relied on"))
                .hint("set COFFERDAM_STATE_DIR to a directory on a local disk"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::Dirs;

    fn of<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| pairs.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).into())
    }

    #[test]
    fn an_override_wins_over_xdg_and_that_over_home() {
        let pairs = [
            ("HOME", "/home/me"),
            ("XDG_CACHE_HOME", "/big"),
            ("XDG_CONFIG_HOME", "relative"),
            ("COFFERDAM_STATE_DIR", "/state"),
        ];
        let dirs = Dirs::find(&of(&pairs)).unwrap();
        assert_eq!(dirs.state, Path::new("/state"));
        assert_eq!(dirs.cache, Path::new("/big/cofferdam"));
        assert_eq!(dirs.config, Path::new("/home/me/.config/cofferdam"));
    }

    #[test]
    fn without_home_or_with_a_relative_override_the_cause_is_named() {
        assert!(Dirs::find(&of(&[])).unwrap_err().detail.contains("HOME"));
        let pairs = [("HOME", "/home/me"), ("COFFERDAM_STATE_DIR", "state")];
        let problem = Dirs::find(&of(&pairs)).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("COFFERDAM_STATE_DIR"));
    }

    #[test]
    fn state_is_made_private_and_refused_where_others_can_get_in() {
        let temp = tempfile::tempdir().unwrap();
        let dir = |name: &str| temp.path().join(name);
        let dirs = Dirs { state: dir("a/state"), cache: dir("cache"), config: dir("config") };
        dirs.prepare().unwrap();
        let mode = std::fs::metadata(&dirs.state).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::set_permissions(&dirs.state, std::fs::Permissions::from_mode(0o755)).unwrap();
        let problem = dirs.prepare().unwrap_err();
        assert!(problem.hint.starts_with("run chmod 700 "), "{problem:?}");
    }
}
