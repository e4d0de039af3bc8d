//! An unpacked image in place of the host's own directories of programs.
//!
//! An image is somebody else's: no link in it leads out of it on the host, its `/etc` is the
//! synthesised one with what is the same for everybody, and neither its homes nor what it kept in
//! `/var`, `/run` or `/tmp` comes in. Must never show anything of the host's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Builder, CacheDir, View, etc};

/// Where images have programs, beside the directories of every system.
const MORE: &[&str] = &["/opt", "/nix", "/gnu"];
/// What a login would look in.
const PATH: &[&str] =
    &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

impl View {
    /// The view of an image that is unpacked at `rootfs`, which has a directory `usr` or `bin`, with
    /// the language caches that are given. Reads the file system. None if there is no such thing, or
    /// if it would show a home.
    pub fn of_rootfs(
        rootfs: &Path,
        home: &Path,
        caches: Vec<CacheDir>,
        var: &dyn Fn(&str) -> Option<OsString>,
    ) -> Option<Self> {
        let from = rootfs.canonicalize().ok()?;
        // The host's own root is no image, and nothing that a home is in can be one.
        if home.starts_with(&from) {
            return None;
        }
        let mut builder = Builder::new(&from, home, var);
        builder.system();
        if !["/usr", "/bin"].iter().any(|name| builder.covers(Path::new(name))) {
            return None;
        }
        for name in MORE {
            builder.bind(Path::new(name));
        }
        etc::add(&mut builder);
        builder.caches = caches;
        let there = PATH.iter().map(PathBuf::from).filter(|entry| builder.covers(entry));
        let path: Vec<_> = there.collect();
        Some(builder.finish(&path))
    }
}
