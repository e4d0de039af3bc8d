//! What can be known of a process that tried something, read from `/proc` while it waits.
//!
//! All of it is what the session claims: bounded, escaped, never a host path; but for numbers and ids,
//! which are the kernel's. Must never decide by what the session claims.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use cofferdam_contract::denial::DeniedProcess;
use cofferdam_contract::text::escape_bytes;
use rustix::fs::{Mode, OFlags, openat};

/// Longest name that a record holds, before escaping.
const NAME_BYTES_MAX: usize = 256;
/// Longest chain of parents that is followed: each takes some microseconds.
const ANCESTORS_MAX: usize = 256;
/// How often a line is looked for: a parent may end while it is followed.
const LOOKS_MAX: usize = 2;
/// As many are between a process and one that it starts, at the most, for it to be its own.
const PARENTS_MAX: usize = 32;
/// Enough of a `/proc` file for every line that is read here.
const PROC_BYTES_MAX: u64 = 8192;

/// A process as it was while its call waited.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// For the record.
    pub(super) process: Option<DeniedProcess>,
    pub(super) line: Line,
}

/// A process and its parents, as the supervisor numbers them.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// The process first.
    pub(super) pids: Vec<i32>,
    /// Whether it goes up to a process that is known, or to init's child.
    pub(super) is_whole: bool,
}

/// User and group ids of a process, as the supervisor numbers them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) users: Vec<u32>,
    pub(super) groups: Vec<u32>,
}

fn read_bounded(path: &str, bytes_max: u64) -> Option<Vec<u8>> {
    bounded(File::open(path).ok()?, bytes_max)
}

fn bounded(file: File, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn status(pid: i32) -> Option<String> {
    text(File::open(format!("/proc/{pid}/status")).ok()?)
}

/// The name in the first line is the session's; the kernel escapes newlines in it.
fn text(status: File) -> Option<String> {
    let bytes = bounded(status, PROC_BYTES_MAX)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether `number`, as the thread `tid` and its `/proc` number it, is of a thread of its
/// own process or, where `started`, of one that descends from it. None is numbered 0, which means the
/// caller. Looks from the number upwards: how much there is to look at is not the session's to say.
pub(super) fn is_its_own(tid: i32, number: u32, procfs: BorrowedFd<'_>, started: bool) -> bool {
    if number == 0 {
        return true;
    }
    let Some(own) = status(tid).and_then(|status| inside(&status)) else { return false };
    let mut next = number;
    for _ in 0..PARENTS_MAX {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = openat(procfs, format!("{next}/status"), flags, Mode::empty());
        let Some(status) = opened.ok().and_then(|it| text(it.into())) else { return false };
        let number = |name| field(&status, name)?.trim().parse::<u32>().ok();
        match (number("Tgid"), number("PPid")) {
            (Some(process), _) if process == own => return true,
            (_, Some(parent)) if started && parent > 0 => next = parent,
            _ => return false,
        }
    }
    false
}

/// The number of its process as it sees it itself.
fn inside(status: &str) -> Option<u32> {
    field(status, "NStgid")?.split_ascii_whitespace().next_back()?.parse().ok()
}

/// Facts of the thread `tid`; the line of parents ends at the first that `is_known`, or below `init`.
pub(super) fn facts(tid: i32, init: i32, is_known: &dyn Fn(i32) -> bool) -> Facts {
    let Some(status) = status(tid) else { return Facts::default() };
    let number = |name| field(&status, name).and_then(|text| text.trim().parse::<i32>().ok());
    let Some(pid) = number("Tgid") else { return Facts::default() };
    let process =
        DeniedProcess { pid: inside(&status), exe: executable(tid), argv0: first_argument(tid) };
    let mut line = Line::default();
    for _ in 0..LOOKS_MAX {
        line = line_of(pid, init, is_known);
        if line.is_whole || line.pids.len() == ANCESTORS_MAX {
            break;
        }
    }
    Facts { process: Some(process), line }
}

fn line_of(pid: i32, init: i32, is_known: &dyn Fn(i32) -> bool) -> Line {
    let (mut pids, mut next) = (Vec::new(), pid);
    while pids.len() < ANCESTORS_MAX {
        pids.push(next);
        let parent = if is_known(next) { Some(init) } else { parent_of(next) };
        match parent {
            Some(parent) if parent != init && parent > 1 => next = parent,
            parent => return Line { pids, is_whole: parent.is_some() },
        }
    }
    Line { pids, is_whole: false }
}

/// The process from `tid` up that is a child of `init`, and when it was started: what a call begins
/// with, whether its start was reported or not.
pub(super) fn first_beneath(init: i32, tid: i32) -> Option<(i32, u64)> {
    let status = status(tid)?;
    let mut pid: i32 = field(&status, "Tgid")?.trim().parse().ok()?;
    for _ in 0..ANCESTORS_MAX {
        let (parent, started) = parent_and_start(pid)?;
        if parent == init {
            return Some((pid, started));
        }
        pid = parent;
    }
    None
}

/// Fields 4 and 22 of `/proc/PID/stat`, counted behind the name, which may hold anything.
fn parent_and_start(pid: i32) -> Option<(i32, u64)> {
    let bytes = read_bounded(&format!("/proc/{pid}/stat"), PROC_BYTES_MAX)?;
    let behind = bytes.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(bytes.get(behind + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

fn parent_of(pid: i32) -> Option<i32> {
    parent_and_start(pid).map(|(parent, _)| parent)
}

/// The kernel writes the path from the root of the process's own mounts, so this is the path
/// inside, also for what the host keeps elsewhere.
fn executable(tid: i32) -> Option<String> {
    let target = std::fs::read_link(format!("/proc/{tid}/exe")).ok()?;
    Some(name(target.as_os_str()))
}

fn first_argument(tid: i32) -> Option<String> {
    let bytes = read_bounded(&format!("/proc/{tid}/cmdline"), NAME_BYTES_MAX as u64 + 1)?;
    let first = bytes.split(|byte| *byte == 0).next()?;
    (!first.is_empty()).then(|| name(OsStr::from_bytes(first)))
}

/// Bounded and escaped.
pub(super) fn name(text: &OsStr) -> String {
    let bytes = text.as_bytes();
    match bytes.get(..NAME_BYTES_MAX) {
        Some(start) if bytes.len() > NAME_BYTES_MAX => format!("{}…", escape_bytes(start)),
        _ => escape_bytes(bytes),
    }
}

/// The ids that `tid` has.
pub(super) fn ids(tid: i32) -> Option<Ids> {
    let status = status(tid)?;
    let all = |name| -> Vec<u32> {
        let text = field(&status, name).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect()
    };
    let mut groups = all("Gid");
    groups.extend(all("Groups"));
    Some(Ids { users: all("Uid"), groups })
}

/// The supervisor's number for an id inside, by `/proc/PID/{uid,gid}_map`.
pub(super) fn mapped(tid: i32, map: &str, inside: u32) -> Option<u32> {
    let bytes = read_bounded(&format!("/proc/{tid}/{map}"), PROC_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.lines().find_map(|range| {
        let mut numbers = range.split_ascii_whitespace().map(str::parse::<u32>);
        let (first, outside, count) =
            (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        let offset = inside.checked_sub(first).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}
