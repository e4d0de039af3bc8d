//! The ground of a session on a host without namespaces: directories of its own, and a list of what
//! else it may reach.
//!
//! Nothing is hidden here and everything is refused: paths are the host's, and Landlock lets a call
//! open what is on the list. What a rule allows it allows with all that lies beneath, so a directory
//! with something in it that must stay out is listed piece by piece. Must never be given a path that
//! a session could have written.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use cofferdam_contract::capability::{Boundary, Wall, WallName, WallStatus};

use rustix::fs::{FileType, Mode, OFlags};

use super::paths::{DEVICES, MASKED_CONFIGURATION, MASKED_CONFIGURATION_FILES};
use super::{Built, Footing, devices, failed, wall};
use crate::flat::Places;
use crate::landlocked::Reach;
use crate::wire::{Groundwork, Own, Refusal};

/// What programs read of `/proc` and what says nothing of a process: arguments of any process of
/// the host can be read by anyone, so nothing with a number in it is here, nor the names that lead
/// to the reader's own.
const PROC: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/proc/uptime",
    "/proc/version",
];

/// Makes the session's directories and says what it may reach.
pub(super) fn build(groundwork: &Groundwork, own: &Own, dir: &Path) -> Built<Footing> {
    let wall = Some(WallName::PrivateRoot);
    let places = Places::of(dir);
    for private in [places.home(), places.temporary()] {
        directory(&private, 0o700).map_err(failed(wall, "making the session's directories"))?;
    }
    lay_out(groundwork).map_err(failed(wall, "laying out the session's home"))?;
    let decoys = own.decoys.iter().map(|(path, content)| decoy(path.as_path(), &content.0));
    let decoys = decoys.collect::<io::Result<_>>();
    let decoys = decoys.map_err(failed(wall, "laying out decoys"))?;
    let told = |path: PathBuf| told(&path).map_err(failed(wall, "making the files it is told by"));
    let (denials, told) = (told(places.denials())?, told(places.grants())?);
    let asked = asked(&places.asked()).map_err(failed(wall, "making the pipe that it asks by"))?;
    let reach = reach(groundwork, own, &places);
    Ok(Footing { reach, denials, asked, told, decoys, walls: walls() })
}

fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

fn parent_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| directory(parent, 0o755))
}

fn lay_out(groundwork: &Groundwork) -> io::Result<()> {
    for (path, content) in &groundwork.files {
        parent_of(path.as_path())?;
        fs::write(path.as_path(), &content.0)?;
    }
    for (path, target) in &groundwork.links {
        parent_of(path.as_path())?;
        symlink(target.as_path(), path.as_path())?;
    }
    Ok(())
}

fn decoy(path: &Path, content: &[u8]) -> io::Result<OwnedFd> {
    parent_of(path)?;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    Ok(fs::File::open(path)?.into())
}

fn told(path: &Path) -> io::Result<OwnedFd> {
    parent_of(path)?;
    let mut options = fs::OpenOptions::new();
    Ok(options.append(true).create_new(true).mode(0o444).open(path)?.into())
}

fn asked(path: &Path) -> io::Result<OwnedFd> {
    parent_of(path)?;
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0)?;
    // Open for writing too, so that it has no end when the last writer goes.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn reach(groundwork: &Groundwork, own: &Own, places: &Places<'_>) -> Reach {
    let masked: Vec<&Path> =
        MASKED_CONFIGURATION.iter().chain(MASKED_CONFIGURATION_FILES).map(Path::new).collect();
    let mut read = Vec::new();
    for (source, _) in &groundwork.binds {
        pieces(source.as_path(), &masked, &mut read);
    }
    read.extend(PROC.iter().map(PathBuf::from));
    read.extend([places.run(), places.etc()]);
    Reach {
        boundary: Boundary::Flat,
        audited: groundwork.audited,
        list: Vec::new(),
        read,
        in_place: Vec::new(),
        devices: DEVICES.iter().map(|it| Path::new("/dev").join(it.name)).collect(),
        write: vec![own.workspace_path.to_path(), places.home(), places.temporary()],
        // There is no namespace of mounts to put anything into.
        lent: Vec::new(),
        lent_to_write: Vec::new(),
        asked: vec![places.asked()],
        // To stop and to end what is beneath it, init looks at all processes.
        init_reads: vec!["/proc".into()],
    }
}

/// `path`, or what is in it, so that nothing of `masked` is beneath any of the pieces. A link is
/// left out: what it leads to is on the list by itself, or should not be reached.
fn pieces(path: &Path, masked: &[&Path], into: &mut Vec<PathBuf>) {
    if masked.contains(&path) {
        return;
    }
    if !masked.iter().any(|it| it.starts_with(path)) {
        into.push(path.to_owned());
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
            pieces(&entry.path(), masked, into);
        }
    }
}

fn walls() -> Vec<Wall> {
    use WallName::{
        CgroupNamespace, CleanEnvironment, ClosedDescriptors, IpcNamespace, MountNamespace,
        NetworkNamespace, PidNamespace, PrivateRoot, UserNamespace, UtsNamespace,
    };
    let absent = [
        (UserNamespace, "processes have the user's own id on the host"),
        (MountNamespace, "the host's mounts, which no call may change"),
        (
            PidNamespace,
            "process numbers are the host's; signals and tracing end at the session's Landlock \
             domain, entries of processes in /proc cannot be read, and a warden ends what is left",
        ),
        (NetworkNamespace, "no socket can be made but pairs: the filter refuses them"),
        (IpcNamespace, "System V IPC and message queues are refused by the filter"),
        (UtsNamespace, "the host's name can be read"),
        (CgroupNamespace, "neither /sys nor /proc/self can be read"),
        (
            PrivateRoot,
            "Landlock opens an allow-list of the host's own paths; of other paths whose names are \
             known, sizes, times and link targets can be read, and file locks can be held on what \
             is readable",
        ),
    ];
    let stands = [
        (ClosedDescriptors, "all closed before anything else was done"),
        (CleanEnvironment, "the launcher was executed with an empty one"),
    ];
    let absent = absent.map(|(name, detail)| wall(name, WallStatus::Absent, detail));
    let stands = stands.map(|(name, detail)| wall(name, WallStatus::Enforced, detail));
    absent.into_iter().chain(stands).chain([devices::shared()]).collect()
}

/// Tries to reach the warden by a signal. Ending a call signals everything within reach, so this is
/// made sure of and not taken from a version number.
pub(super) fn is_scoped() -> Built<()> {
    let reached = rustix::process::getppid().map(rustix::process::test_kill_process);
    if reached == Some(Err(rustix::io::Errno::PERM)) {
        return Ok(());
    }
    let detail = "a process outside the session's domain could be signalled".to_owned();
    Err(Refusal { wall: Some(WallName::LandlockScopes), detail })
}

/// Threads that this process's user has now.
pub(super) fn threads_of_user() -> u64 {
    let own = rustix::process::getuid().as_raw();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_user = processes.filter(|entry| {
        let name = entry.file_name();
        let is_process = name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        is_process && entry.metadata().is_ok_and(|it| it.uid() == own)
    });
    let threads = of_user.map(|entry| fs::read_dir(entry.path().join("task")));
    threads.flatten().map(|tasks| tasks.count() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::pieces;
    use std::path::{Path, PathBuf};

    #[test]
    fn what_is_masked_is_beneath_no_piece_and_links_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["usr/bin", "usr/etc", "usr/local/etc", "usr/local/lib"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::os::unix::fs::symlink("/root", at("usr/link")).unwrap();
        let masked: Vec<PathBuf> = [at("usr/etc"), at("usr/local/etc")].into();
        let masked: Vec<&Path> = masked.iter().map(PathBuf::as_path).collect();
        let mut found = Vec::new();
        pieces(&at("usr"), &masked, &mut found);
        found.sort();
        assert_eq!(found, [at("usr/bin"), at("usr/local/lib")]);
        found.clear();
        pieces(&at("usr/bin"), &masked, &mut found);
        assert_eq!(found, [at("usr/bin")]);
    }
}
