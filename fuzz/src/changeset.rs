//! The reader of what a session left, on trees that the bytes say how to make.

use std::fs::File;
use std::os::fd::OwnedFd;

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::change::WorkspaceChange;
use cofferdam_workspace::{ScanBounds, Workspace, WorkspaceError};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};

/// Most steps that are taken of one input: each is a system call or two.
const STEPS_MAX: usize = 64;
/// Most bytes that are read of one file.
const READ_MAX: u64 = 1 << 16;
/// What must not be found: it lies beside the workspace.
const OUTSIDE: &[u8] = b"from outside";

/// Makes a writable layer over a small base, as a session that means harm would leave it, and reads
/// it. Whatever it is, the reader ends, and gives nothing from outside the layer.
pub(crate) fn scan(bytes: &[u8]) {
    let tmp = tempfile::tempdir().expect("a directory");
    let base = tmp.path().join("base");
    std::fs::create_dir_all(base.join("dir")).expect("a base");
    std::fs::write(base.join("dir/file"), "from the base").expect("a base");
    std::fs::write(tmp.path().join("secret"), OUTSIDE).expect("a secret");
    let dir = tmp.path().join("session");
    let workspace = Workspace::create(&dir, std::slice::from_ref(&base), &[], WorkspaceKind::Overlay).expect("a view");
    let layer: OwnedFd = File::open(dir.join("upper")).expect("a layer").into();
    let mut rest = bytes;
    for _ in 0..STEPS_MAX {
        let Some(step) = Step::take(&mut rest) else { break };
        // What the file system refuses a session, it refuses here.
        let _refused = step.take_on(&layer);
    }
    read(&workspace);
    // Directories without a mode cannot be removed by whoever made the temporary one.
    workspace.remove().expect("what a session left can be removed");
}

/// Rules of a session's, in two directories: whatever they are, a last line that takes everything
/// back or passes over everything has the last word.
pub(crate) fn ignored(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (name, top, below) = (part(), part(), part());
    if name.is_empty() || name.contains(&b'/') || matches!(name, b"." | b"..") {
        return;
    }
    let path = [b"sub/", name].concat();
    let ask = |top: &[u8], below: &[u8]| cofferdam_workspace::fuzzing::is_ignored(top, b"sub", below, &path);
    let end = |rules: &[u8], line: &[u8]| [rules, b"\n", line, b"\n"].concat();
    let asked = ask(top, below);
    assert_eq!(ask(top, &end(below, b"# nothing")), asked, "a remark is no rule");
    assert_eq!(ask(&end(top, b"/elsewhere/**"), below), asked, "a rule for another directory");
    if asked.is_some() {
        for all in [top, below] {
            assert_eq!(ask(all, &end(below, b"!*")), Some(false), "what was taken back");
            assert_eq!(ask(all, &end(below, b"*")), Some(true), "what was passed over");
        }
    }
}

fn read(workspace: &Workspace) {
    let bounds = ScanBounds { changes_max: 1000, entries_max: 10_000, ..ScanBounds::default() };
    let scan = match workspace.scan(&bounds) {
        Ok(scan) => scan,
        Err(WorkspaceError::TooMuch { .. }) => return,
        Err(error) => panic!("the reader failed: {error}"),
    };
    for change in &scan.changes {
        let WorkspaceChange::Put { path, .. } = change else { continue };
        let Ok((_, size, content)) = workspace.read(path) else { continue };
        // A file may say that it has a terabyte.
        let mut content = std::io::Read::take(content, size.min(READ_MAX));
        let mut read = Vec::new();
        let _changed = std::io::Read::read_to_end(&mut content, &mut read);
        assert_ne!(read, OUTSIDE, "read from outside: {path}");
    }
}

/// One thing that a session does to its layer.
struct Step<'a> {
    what: u8,
    name: &'a [u8],
    other: &'a [u8],
}

impl<'a> Step<'a> {
    /// Two names, each with its length before it.
    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let (what, after) = rest.split_first()?;
        *rest = after;
        let mut name = || {
            let (length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            *rest = after;
            Some(name)
        };
        Some(Self { what: *what, name: name()?, other: name()? })
    }

    /// Beneath the layer and through no link: what a link leads to is not this test's to change.
    fn take_on(&self, layer: &OwnedFd) -> std::io::Result<()> {
        let (dir, name) = place(layer, self.name)?;
        let mode = Mode::from_raw_mode(0o755);
        match self.what % 12 {
            0 => std::io::Write::write_all(&mut create(&dir, name)?, self.other)?,
            1 => rustix::fs::mkdirat(&dir, name, mode)?,
            2 => rustix::fs::symlinkat(self.other, &dir, name)?,
            3 => rustix::fs::symlinkat("../../secret", &dir, name)?,
            4 => {
                let (to, other) = place(layer, self.other)?;
                rustix::fs::linkat(&dir, name, &to, other, AtFlags::empty())?;
            }
            5 => {
                let (to, other) = place(layer, self.other)?;
                rustix::fs::renameat(&dir, name, &to, other)?;
            }
            6 => rustix::fs::mknodat(&dir, name, FileType::Fifo, mode, 0)?,
            7 => rustix::fs::mknodat(&dir, name, FileType::Socket, mode, 0)?,
            // A whiteout, where the right is had.
            8 => rustix::fs::mknodat(&dir, name, FileType::CharacterDevice, mode, 0)?,
            9 => {
                let file = open(&dir, name)?;
                rustix::fs::fsetxattr(file, "user.overlay.opaque", b"y", XattrFlags::empty())?;
            }
            10 => {
                let bits = u32::from(self.other.first().copied().unwrap_or(0));
                rustix::fs::fchmod(open(&dir, name)?, Mode::from_raw_mode(bits << 4))?;
            }
            _ => create(&dir, name)?.set_len(1 << 40)?,
        }
        Ok(())
    }
}

/// The directory of a path in the layer, which is there, and the last name.
fn place<'a>(layer: &OwnedFd, path: &'a [u8]) -> std::io::Result<(OwnedFd, &'a [u8])> {
    let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::openat2(layer, dir, flags, Mode::empty(), beneath)?, name))
}

fn create(dir: &OwnedFd, name: &[u8]) -> std::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))?.into())
}

fn open(dir: &OwnedFd, name: &[u8]) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(dir, name, flags, Mode::empty(), beneath)?)
}
