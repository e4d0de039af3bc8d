//! The pool of this host: a btrfs in a file, mounted through a loop device in the state directory.
//!
//! Root makes it, grows it and removes it with the system's own tools. Everything in it can be made
//! again, so it is mounted without write barriers and formatted anew after a boot. Must never know
//! what is kept in it; that is `workspace`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::escape_bytes;
use cofferdam_workspace::Pool;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, open};

use crate::dirs::{Dirs, shown};
use crate::output::objects::PoolObject;

/// The smallest pool, in bytes: btrfs itself needs a tenth of it.
const BYTES_MIN: u64 = 1 << 30;
/// The largest that is made unless another size is asked for.
const DEFAULT_BYTES_MAX: u64 = 64 << 30;
/// Nothing in it outlives a boot, so it is not kept against a power cut: a snapshot takes a
/// seventh of the time without barriers, and single metadata halves what it writes. Nor need its
/// trees be shallow: a commit checks every node that it writes item by item, and in nodes of a page
/// there are fewer beside the one that changed, so that a snapshot takes half the time.
const FORMAT: [&str; 8] =
    ["--quiet", "--force", "--metadata", "single", "--data", "single", "--nodesize", "4096"];
const MOUNT_OPTIONS: &str = "loop,noatime,nobarrier,nosuid,nodev";

/// Where the system's own tools are, whatever `PATH` says.
const TOOLS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The pool's places on this host.
pub(crate) struct HostPool {
    image: PathBuf,
    dir: PathBuf,
}

impl HostPool {
    pub(crate) fn of(dirs: &Dirs) -> Self {
        Self { image: dirs.state.join("pool.img"), dir: dirs.pool() }
    }

    /// Makes it, or formats anew what a boot left; whether it was there already.
    ///
    /// # Errors
    /// `boundary_unavailable` for whoever is not root or lacks a tool, `storage_failed` from the
    /// host, each with the remedy.
    pub(crate) fn create(&self, bytes: Option<u64>) -> Result<bool, Problem> {
        needs_root()?;
        if Pool::at(&self.dir).is_some() {
            return Ok(true);
        }
        if is_mounted(&self.dir)? {
            let detail = format!("something that is no pool is mounted at {}", shown(&self.dir));
            return Err(Problem::new(Code::StorageFailed, detail)
                .hint(format!("run umount {}", shown(&self.dir))));
        }
        let bytes = match (bytes, self.image_bytes()) {
            (Some(bytes), _) | (None, Some(bytes)) => bytes,
            (None, None) => self.default_bytes()?,
        };
        check_size(bytes)?;
        let made = self.reserve(bytes).and_then(|()| self.mount());
        if made.is_err() {
            let _ = self.remove();
        }
        made.map(|()| false)
    }

    /// Makes it larger.
    ///
    /// # Errors
    /// As [`HostPool::create`]; `request_invalid` if it is not larger than it is.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), Problem> {
        needs_root()?;
        self.mounted()?;
        let now = self.image_bytes().unwrap_or(0);
        if bytes <= now {
            let detail = format!("the pool has {now} bytes already");
            return Err(Problem::new(Code::RequestInvalid, detail)
                .hint("name a larger size, or remove the pool and create it anew"));
        }
        self.reserve(bytes)?;
        let device = self.device()?;
        tool("losetup", &[OsStr::new("--set-capacity"), device.as_os_str()])?;
        let resize = ["filesystem", "resize", "max"].map(OsStr::new);
        tool("btrfs", &[&resize[..], &[self.dir.as_os_str()]].concat())
    }

    /// Unmounts it and gives its space back.
    ///
    /// # Errors
    /// `not_in_state` while a session is in it.
    pub(crate) fn remove(&self) -> Result<(), Problem> {
        needs_root()?;
        if is_mounted(&self.dir)? {
            let busy = |problem: Problem| {
                Problem::new(Code::NotInState, problem.detail)
                    .hint("end the open sessions (cofferdam session list) and runs, then try again")
            };
            tool("umount", &[self.dir.as_os_str()]).map_err(busy)?;
        }
        for removed in [std::fs::remove_file(&self.image), std::fs::remove_dir(&self.dir)] {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&self.image, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What it is, and whether it can be relied on.
    ///
    /// # Errors
    /// The host's.
    pub(crate) fn look(&self) -> Result<PoolObject, Problem> {
        let mut object = PoolObject {
            mounted: Pool::at(&self.dir).is_some(),
            path: shown(&self.dir),
            size_bytes: self.image_bytes(),
            ..PoolObject::default()
        };
        if !object.mounted {
            object.remedy = "cofferdam pool create  # as root".to_owned();
            return Ok(object);
        }
        let space = rustix::fs::statvfs(&self.dir).map_err(|it| failed(&self.dir, &it.into()))?;
        object.free_bytes = Some(space.f_bavail * space.f_frsize);
        let entries = |name| std::fs::read_dir(self.dir.join(name)).map_or(0, Iterator::count);
        object.bases = entries("bases") as u64;
        object.sessions = entries("sessions") as u64;
        let stats = ["device", "stats", "--check"].map(OsStr::new);
        let healthy = tool("btrfs", &[&stats[..], &[self.dir.as_os_str()]].concat());
        object.ok = healthy.is_ok();
        if !object.ok {
            object.remedy = "cofferdam pool remove && cofferdam pool create".to_owned();
        }
        Ok(object)
    }

    fn mounted(&self) -> Result<(), Problem> {
        match Pool::at(&self.dir) {
            Some(_) => Ok(()),
            None => Err(Problem::new(Code::BoundaryUnavailable, "there is no pool")
                .hint("run cofferdam pool create, as root")),
        }
    }

    fn image_bytes(&self) -> Option<u64> {
        std::fs::symlink_metadata(&self.image).ok().filter(|it| it.is_file()).map(|it| it.len())
    }

    /// A quarter of what is free.
    fn default_bytes(&self) -> Result<u64, Problem> {
        let state = self.image.parent().unwrap_or(Path::new("/"));
        let space = rustix::fs::statvfs(state).map_err(|it| failed(state, &it.into()))?;
        let free = space.f_bavail * space.f_frsize;
        Ok((free / 4).min(DEFAULT_BYTES_MAX) >> 20 << 20)
    }

    /// Takes the space at once: a pool whose host is full would fail in the middle of a session.
    fn reserve(&self, bytes: u64) -> Result<(), Problem> {
        let make = || -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let image = open(&self.image, flags, Mode::from_raw_mode(0o600))?;
            Ok(fallocate(&image, FallocateFlags::empty(), 0, bytes)?)
        };
        make().map_err(|error| {
            failed(&self.image, &error).hint("make room, or name a smaller --size")
        })
    }

    fn mount(&self) -> Result<(), Problem> {
        let format = FORMAT.map(OsStr::new);
        tool("mkfs.btrfs", &[&format[..], &[self.image.as_os_str()]].concat())?;
        match std::fs::create_dir(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(&self.dir, &error));
            }
            _ => {}
        }
        let mount = ["-t", "btrfs", "-o", MOUNT_OPTIONS].map(OsStr::new);
        let places = [self.image.as_os_str(), self.dir.as_os_str()];
        tool("mount", &[&mount[..], &places].concat())?;
        Pool::prepare(&self.dir)?;
        Ok(())
    }

    /// The loop device that the pool is mounted through.
    fn device(&self) -> Result<PathBuf, Problem> {
        let find = [OsStr::new("--noheadings"), OsStr::new("--output"), OsStr::new("SOURCE")];
        let said = output("findmnt", &[&find[..], &[self.dir.as_os_str()]].concat())?;
        Ok(PathBuf::from(String::from_utf8_lossy(&said).trim()))
    }
}

fn needs_root() -> Result<(), Problem> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Problem::new(Code::BoundaryUnavailable, "mounting a file system takes root")
        .hint("run it as root; without a pool workspaces are overlays, which need no privilege"))
}

fn check_size(bytes: u64) -> Result<(), Problem> {
    if bytes >= BYTES_MIN {
        return Ok(());
    }
    let detail = format!("a pool of {bytes} bytes is too small");
    Err(Problem::new(Code::RequestInvalid, detail).hint("--size 1G is the smallest"))
}

/// Whether a file system of its own begins at `dir`.
fn is_mounted(dir: &Path) -> Result<bool, Problem> {
    let device = |path: &Path| std::fs::metadata(path).map(|it| it.dev());
    match device(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(dir, &error)),
        Ok(own) => Ok(dir.parent().and_then(|above| device(above).ok()) != Some(own)),
    }
}

fn tool(name: &str, args: &[&OsStr]) -> Result<(), Problem> {
    output(name, args).map(drop)
}

/// Runs a tool of the system; what it wrote.
fn output(name: &str, args: &[&OsStr]) -> Result<Vec<u8>, Problem> {
    let mut command = Command::new(name);
    command.args(args).env_clear().env("PATH", TOOLS).env("LC_ALL", "C");
    let done = command.output().map_err(|error| {
        let detail = format!("{name} cannot be run: {error}");
        Problem::new(Code::BoundaryUnavailable, detail)
            .hint("apt-get install btrfs-progs util-linux mount")
    })?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = escape_bytes(done.stderr.trim_ascii());
    Err(Problem::new(Code::StorageFailed, format!("{name} failed: {said}"))
        .hint("cofferdam doctor says what this host can do"))
}

fn failed(path: &Path, error: &io::Error) -> Problem {
    Problem::new(Code::StorageFailed, format!("{}: {error}", shown(path)))
}
