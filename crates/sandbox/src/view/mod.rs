//! The toolchain view of the host that a session sees.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// One read-only bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// Inside.
    pub target: PathBuf,
}

/// What of the host a session sees, read-only.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Read-only binds.
    pub binds: Vec<Bind>,
    /// Synthesised files.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Symbolic links.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// `PATH` inside.
    pub path: OsString,
}

impl View {
    /// The view of this host.
    pub fn of_host(
        _path_var: &std::ffi::OsStr,
        _home: &Path,
        _var: &dyn Fn(&str) -> Option<OsString>,
    ) -> Self {
        let mut view = Self { path: "/usr/local/bin:/usr/bin:/bin".into(), ..Self::default() };
        view.binds.push(Bind { source: "/usr".into(), target: "/usr".into() });
        for dir in ["bin", "sbin", "lib", "lib64"] {
            view.links.push((PathBuf::from("/").join(dir), PathBuf::from("usr").join(dir)));
        }
        view
    }

    /// The environment that belongs to the view.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![("PATH".into(), self.path.clone())]
    }
}
