//! What processes of a session hold at a moment: files that have no name any more, and all the
//! descriptors that they may.
//!
//! On disk an unnamed file takes what it took, and whoever counts a workspace by its names does not
//! find it. Of a process that has no descriptor left nobody else tells: the kernel refuses the next
//! one and says so to nobody. What is told is of a moment, and of what processes have open or mapped;
//! what is on its way through a socket is not found. Must never open a session's file, nor wait for
//! one.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::process::{Resource, getrlimit};

use super::session::Session;
use super::{breach, lock};
use crate::init::procs;
use crate::sys::process;

/// `f_type` of file systems in memory (statfs(2)), which are bounded by themselves.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x9584_58f6];
/// How the kernel names memory that belongs to no file of a session (proc_pid_maps(5)).
const NO_FILES: [&str; 4] = ["/memfd:", "/SYSV", "/dev/zero", "/dev/shm/"];

/// Bytes and files, by device and inode.
#[derive(Default)]
struct Found(HashMap<(u64, u64), u64>);

/// What looks at a session know of it.
pub(super) struct Looked {
    descriptors_max: usize,
    /// Processes that had no descriptor left at the last look, of which was told.
    full: Mutex<HashSet<i32>>,
}

impl Looked {
    /// No session may have more descriptors than the supervisor (see init's lockdown).
    pub(super) fn new(descriptors_max: u64) -> Self {
        let own = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let descriptors_max = usize::try_from(descriptors_max.min(own)).unwrap_or(usize::MAX);
        Self { descriptors_max, full: Mutex::default() }
    }

    /// Those of `full` that were not full at the last look.
    fn newly(&self, full: HashSet<i32>) -> Vec<i32> {
        let mut before = lock(&self.full);
        let newly = full.difference(&before).copied().collect();
        *before = full;
        newly
    }
}

impl Session {
    /// Looks at what its processes hold: tells of those that have no descriptor left, once each
    /// until they have, and returns bytes on disk and number of the files without a name.
    pub fn held(&self) -> (u64, u64) {
        let looked = &self.shared.looked;
        let held = beneath(self.shared.opening().pid, looked.descriptors_max);
        let newly = looked.newly(held.full);
        if let Some(onlooker) = self.shared.onlooker().filter(|_| !newly.is_empty()) {
            newly.into_iter().for_each(|it| onlooker.deny(it, breach::of_open_files()));
        }
        (held.bytes, held.files)
    }
}

#[derive(Debug)]
struct Held {
    bytes: u64,
    files: u64,
    /// Processes that have as many descriptors as they may.
    full: HashSet<i32>,
}

/// What processes beneath `top` hold.
fn beneath(top: i32, descriptors_max: usize) -> Held {
    let (mut found, in_memory) = (Found::default(), devices_in_memory(top));
    let mut full = HashSet::new();
    for pid in processes_beneath(top) {
        let threads: Vec<_> = procs::threads(pid).collect();
        // A thread can have descriptors of its own (unshare(2), CLONE_FILES), and the first one, of
        // which the process itself tells, can be gone. Memory they share, as long as they are there.
        if found.open_by(&threads) >= descriptors_max {
            full.insert(pid);
        }
        threads.iter().any(|thread| found.mapped(&thread.join("maps"), &in_memory));
        // Neither open nor mapped has to be what it executed.
        found.held(Path::new(&format!("/proc/{pid}/exe")));
    }
    let bytes = found.0.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    Held { bytes, files: found.0.len() as u64, full }
}

/// From the kernel's lists of children (`PROC_CHILDREN`): what a look costs must depend on the
/// session and not on what else the host runs. A kernel without them has all processes looked at.
fn processes_beneath(top: i32) -> Vec<i32> {
    if !Path::new(&format!("/proc/{top}/task/{top}/children")).exists() {
        return procs::beneath(top, &procs::all().unwrap_or_default())
            .iter()
            .map(|it| it.pid)
            .collect();
    }
    let (mut found, mut open) = (vec![], vec![top]);
    while let Some(process) = open.pop() {
        for thread in procs::threads(process) {
            let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
            let children = children.split_ascii_whitespace();
            let children: Vec<i32> = children.filter_map(|it| it.parse().ok()).collect();
            open.extend_from_slice(&children);
            found.extend(children);
        }
    }
    found
}

impl Found {
    /// Returns how many descriptors there are in the largest table of a process's threads. Each table is
    /// looked at once: a thousand threads with thousands of descriptors are cheap to have.
    fn open_by(&mut self, threads: &[PathBuf]) -> usize {
        let number = |thread: &PathBuf| thread.file_name()?.to_str()?.parse::<i32>().ok();
        let (mut last, mut most) = (None, 0);
        for thread in threads {
            let this = number(thread);
            if last.zip(this).is_some_and(|(last, this)| process::share_descriptors(last, this)) {
                continue;
            }
            (last, most) = (this, most.max(self.open(&thread.join("fd"))));
        }
        most
    }

    /// Returns how many there are.
    fn open(&mut self, descriptors: &Path) -> usize {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(opened) = rustix::fs::open(descriptors, flags, Mode::empty()) else { return 0 };
        let mut number = 0;
        for entry in fs::read_dir(descriptors).into_iter().flatten().flatten() {
            number += 1;
            // What the descriptor leads to is looked at, and not opened.
            let name = entry.file_name();
            if let Ok(stat) = rustix::fs::statat(&opened, &name, AtFlags::empty()) {
                self.count(&stat, &descriptors.join(&name));
            }
        }
        number
    }

    /// What a link of `/proc` leads to.
    fn held(&mut self, link: &Path) {
        if let Ok(stat) = rustix::fs::stat(link) {
            self.count(&stat, link);
        }
    }

    fn count(&mut self, stat: &Stat, link: &Path) {
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && stat.st_nlink == 0 && !is_in_memory(link) {
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            self.0.insert((stat.st_dev, stat.st_ino), blocks.saturating_mul(512));
        }
    }

    /// `START-END PERMS OFFSET MAJOR:MINOR INODE PATH (deleted)`: how much of it is on disk, the line
    /// does not say, so that all up to the end of what is mapped counts. False if there is nothing at all.
    fn mapped(&mut self, maps: &Path, in_memory: &HashSet<u64>) -> bool {
        let lines = fs::read(maps).unwrap_or_default();
        for line in String::from_utf8_lossy(&lines).lines() {
            let Some((file, bytes)) = mapping(line) else { continue };
            if !in_memory.contains(&file.0) {
                let known = self.0.entry(file).or_default();
                *known = bytes.max(*known);
            }
        }
        !lines.is_empty()
    }
}

/// The unnamed file that a line is about, and up to where it is mapped.
fn mapping(line: &str) -> Option<((u64, u64), u64)> {
    let line = line.strip_suffix(" (deleted)")?;
    let mut fields = line.split_ascii_whitespace();
    let (range, offset) = (fields.next()?, fields.nth(1)?);
    let (at, inode) = (fields.next()?, fields.next()?);
    let path = fields.next()?;
    if NO_FILES.iter().any(|it| path.starts_with(it)) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let bytes = hex(end)?.checked_sub(hex(start)?)?.saturating_add(hex(offset)?);
    Some(((device(at)?, inode.parse().ok()?), bytes))
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

/// `MAJOR:MINOR`, in hexadecimal digits as in a line of `maps`.
fn device(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    let number = |text| u32::try_from(hex(text)?).ok();
    Some(rustix::fs::makedev(number(major)?, number(minor)?))
}

/// Devices of the session's file systems in memory, which no mapping tells from others
/// (`ID PARENT MAJOR:MINOR … - TYPE SOURCE OPTIONS`, proc_pid_mountinfo(5); in decimal digits).
fn devices_in_memory(top: i32) -> HashSet<u64> {
    let mounts = fs::read_to_string(format!("/proc/{top}/mountinfo")).unwrap_or_default();
    let of = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let in_memory = ["tmpfs ", "devtmpfs ", "hugetlbfs "].iter().any(|it| kind.starts_with(it));
        let (major, minor) = mount.split_ascii_whitespace().nth(2)?.split_once(':')?;
        in_memory.then_some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
    };
    mounts.lines().filter_map(of).collect()
}

fn is_in_memory(descriptor: &Path) -> bool {
    rustix::fs::statfs(descriptor).is_ok_and(|on| IN_MEMORY.contains(&(on.f_type as u64)))
}

#[cfg(test)]
mod tests {
    use super::Found;

    #[test]
    fn mappings_of_files_that_are_gone_count_once() {
        let dir = tempfile::tempdir().unwrap();
        let maps = dir.path().join("maps");
        let text = "7f00000000-7f00100000 rw-s 00000000 00:3a 77   /workspace/u (deleted)\n\
                    7f00100000-7f00200000 rw-s 00100000 00:3a 77   /workspace/u (deleted)\n\
                    7f00200000-7f00300000 rw-s 00000000 00:01 78   /memfd:x (deleted)\n\
                    7f00200000-7f00300000 rw-s 00000000 00:3b 78   /tmp/x (deleted)\n\
                    7f00300000-7f00400000 r--p 00000000 00:3a 79   /workspace/there\n\
                    7f00400000-7f00500000 rw-s odd (deleted)\n";
        std::fs::write(&maps, text).unwrap();
        let mut found = Found::default();
        found.mapped(&maps, &[rustix::fs::makedev(0, 0x3b)].into());
        assert_eq!(found.0.into_values().collect::<Vec<_>>(), [2 << 20]);
    }

    #[test]
    fn all_that_is_beneath_is_found_and_nothing_else() {
        let script = "sleep 600 & sh -c 'sleep 600 & echo; wait' & wait";
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", script]).stdout(std::process::Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let top = i32::try_from(child.id()).unwrap();
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut [0]).unwrap();
        let mut found = super::processes_beneath(top);
        let all = super::procs::all().unwrap();
        let mut expected: Vec<_> =
            super::procs::beneath(top, &all).iter().map(|it| it.pid).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!((found.len(), &found), (3, &expected));
        for pid in found.into_iter().chain([top]) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        child.wait().unwrap();
    }

    /// Python whose second thread holds a file that is gone: alone, or apart from the first.
    #[test]
    fn what_another_thread_than_the_first_holds_is_found() {
        let program = "import ctypes, os, sys, tempfile, threading, time\n\
            call = ctypes.CDLL(None).syscall\n\
            def hold():\n\
            \x20if sys.argv[1] == 'apart': assert call(272, 0x400) == 0\n\
            \x20file = tempfile.TemporaryFile(dir=sys.argv[2])\n\
            \x20file.write(b'1' * 100000); file.flush(); os.fsync(file.fileno())\n\
            \x20if sys.argv[1] == 'alone':\n\
            \x20\x20while ') Z ' not in open('/proc/self/stat').read(): time.sleep(0.001)\n\
            \x20os.write(1, b'.'); time.sleep(600)\n\
            threading.Thread(target=hold).start()\n\
            call(60, 0) if sys.argv[1] == 'alone' else time.sleep(600)";
        for how in ["alone", "apart"] {
            let mut python = std::process::Command::new("python3");
            python.args(["-c", program, how, env!("CARGO_MANIFEST_DIR")]);
            let mut child = python.stdout(std::process::Stdio::piped()).spawn().unwrap();
            std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut [0]).unwrap();
            let own = i32::try_from(std::process::id()).unwrap();
            let held = super::beneath(own, 4096);
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(held.bytes >= 100_000, "{how}: {held:?}");
        }
    }

    /// Of a program that is gone the kernel maps a part, and keeps all.
    #[test]
    fn what_is_executed_and_gone_is_found_whole() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let program = dir.path().join("program");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut file = std::fs::File::options().append(true).open(&program).unwrap();
        std::io::Write::write_all(&mut file, &[1; 4 << 20]).unwrap();
        file.sync_all().unwrap();
        drop(file);
        let mut child = std::process::Command::new(&program).arg("600").spawn().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        // Control: by its name it is no such file.
        assert!(super::beneath(own, 4096).bytes < 4 << 20);
        std::fs::remove_file(&program).unwrap();
        let bytes = super::beneath(own, 4096).bytes;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(bytes >= 4 << 20, "{bytes}");
    }

    #[test]
    fn who_has_as_many_descriptors_as_may_be_is_found_and_told_of_once() {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "exec 3</dev/null 4</dev/null; echo; exec sleep 600 >/dev/null"]);
        let mut child = shell.stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut [0]).unwrap();
        let (own, pid) = (std::process::id(), i32::try_from(child.id()).unwrap());
        let number = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let full = |most| super::beneath(i32::try_from(own).unwrap(), most).full.contains(&pid);
        let found = (number, full(number), full(number + 1));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(found, (5.., true, false)), "{found:?}");
        let looked = super::Looked::new(5);
        for (full, newly) in [(vec![7], vec![7]), (vec![7, 8], vec![8]), (vec![8], vec![])] {
            assert_eq!(looked.newly(full.into_iter().collect()), newly);
        }
        assert_eq!(looked.newly([7].into()), [7], "it had some meanwhile");
    }

    #[test]
    fn a_file_that_is_open_and_gone_is_found() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        std::io::Write::write_all(&mut &file, &[1; 100_000]).unwrap();
        file.sync_all().unwrap();
        let mut found = Found::default();
        found.open("/proc/self/fd".as_ref());
        let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
        let bytes = found.0.iter().find(|((_, it), _)| *it == inode).map(|(_, bytes)| *bytes);
        assert!(bytes >= Some(100_000), "{bytes:?}");
    }
}
