//! Using more than a session may. Its limits are small here, so that going beyond them is harmless
//! where nothing holds; afterwards it and another session must still answer.

use std::fs::File;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use cofferdam_contract::capability::WallName;
use cofferdam_contract::limits::Limits;
use cofferdam_sandbox::attempt;
use rustix::fs::MemfdFlags;
use rustix::process::PidfdFlags;

use crate::probe::{Probe, Proof, code, script};
use crate::scene::Scene;

const MIB: u64 = 1 << 20;
const RESOURCE: &str = "limit of the process";
const SIZED: &str = "sized file system";
/// Between two looks it may be exceeded.
pub(crate) const WATCHED: &str = "watched limit of the disk";
const PROCESSES: &str = "limit of processes";
/// Of the control groups, which come together and tell: without them a limit is each process's own.
const GROUPS: WallName = WallName::MemoryLimit;

/// What a session may use here.
pub(crate) fn limits(of: Limits) -> Limits {
    Limits {
        pids: 24,
        memory_bytes: 160 * MIB,
        disk_bytes: 16 * MIB,
        inodes: 256,
        output_bytes: 64 << 10,
        open_files: 96,
        ..of
    }
}

#[rustfmt::skip]
pub(crate) const PROBES: &[Probe] = &[
    code("resources.processes", "more processes", PROCESSES, Proof::Count("[pidfd]", 28), |s| {
        for _ in 0..32 {
            let child = Command::new("/bin/sh").args(["-c", "kill -STOP $$"])
                .stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            let pid = rustix::process::Pid::from_child(&child);
            s.hand(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)?;
        }
        Ok(())
    }).limited().told_by(GROUPS, "limit.pids"),
    code("resources.threads", "more threads", PROCESSES, Proof::Word("Threads", |it| at_least(it, 28)), |s| {
        for _ in 0..32 {
            std::thread::Builder::new().stack_size(1 << 16).spawn(|| loop { std::thread::park(); })?;
        }
        s.hand_self()
    }).limited().told_by(GROUPS, "limit.pids"),
    code("resources.memory", "more memory", "limit of memory", Proof::Word("VmRSS", |it| at_least(it, 190 * 1024)), |s| {
        let mut held = Vec::new();
        for _ in 0..200 {
            held.push(vec![1_u8; 1 << 20]);
        }
        s.hand_self()?;
        drop(held);
        Ok(())
    }).limited().told_by(GROUPS, "limit.memory"),
    code("resources.memory-files", "more memory, in files without a name", "memory control group", Proof::Bytes(180 * MIB), |s| {
        let mut held = Vec::new();
        for _ in 0..20 {
            let file = File::from(rustix::fs::memfd_create("more", MemfdFlags::CLOEXEC)?);
            fill(&file, 10)?;
            held.push(file);
        }
        held.iter().try_for_each(|file| s.hand(file))
    }).limited().requires(GROUPS).told_by(GROUPS, "limit.memory"),
    code("resources.file", "a larger file", RESOURCE, Proof::Bytes(20 * MIB), |s| {
        let file = File::create(s.new_path("large"))?;
        fill(&file, 24)?;
        s.hand(file)
    }).limited().told("limit.file_size"),
    code("resources.sparse-file", "a file of a terabyte, without content", RESOURCE, Proof::Bytes(1 << 39), |s| {
        let file = File::create(s.new_path("sparse"))?;
        file.set_len(1 << 39)?;
        s.hand(file)
    }).limited().told("limit.file_size"),
    code("resources.tmp", "more bytes in /tmp", SIZED, Proof::Bytes(20 * MIB), |s| many(s, "SCRATCH")).limited().told("limit.disk"),
    code("resources.shm", "more bytes in /dev/shm", SIZED, Proof::Bytes(20 * MIB), |s| many(s, "SCRATCH_SHM")).limited()
        .told_by(WallName::MountNamespace, "limit.disk"),
    code("resources.home", "more bytes at home", SIZED, Proof::Bytes(20 * MIB), |s| many(s, "SCRATCH_HOME")).limited().told("limit.disk"),
    code("resources.inodes", "more files", SIZED, Proof::Count("more-", 280), |s| {
        let path = |number| s.at("SCRATCH", &format!("more-{number}"));
        (0..300).try_for_each(|number| File::create(path(number)).map(drop))?;
        late(s);
        (0..300).try_for_each(|number| s.hand_path(&path(number)))
    }).limited().told("limit.inodes"),
    code("resources.open-files", "more open files", RESOURCE, Proof::Count("memfd:many", 100), |s| {
        let made = (0..120).map_while(|_| rustix::fs::memfd_create("many", MemfdFlags::CLOEXEC).ok());
        let held: Vec<_> = made.collect();
        late(s);
        held.iter().try_for_each(|file| s.hand(file))
    }).limited().told("limit.open_files"),
    script("resources.output", "more output than is kept", "limit of output", Proof::Much(200_000),
        "head -c 300000 /dev/zero | tr '\\0' x").limited().told("limit.output"),
    code("resources.time", "more time", "limit of time", Proof::Kind("memfd:late"), |s| {
        late(s);
        s.hand(rustix::fs::memfd_create("late", MemfdFlags::CLOEXEC)?)
    }).limited().told("limit.time"),
    code("resources.timers", "more of the signals that the kernel keeps for the user", RESOURCE,
        Proof::Word("SigQ", |it| at_least(it.split('/').next().unwrap_or_default(), 5000)), |s| {
        let made = attempt::timers(6000);
        s.hand_self()?;
        made
    }).limited(),
    code("resources.unlinked", "more bytes in the workspace, in files without a name", WATCHED, Proof::Kind("memfd:late"), |s| {
        let mut held = Vec::new();
        for number in 0..10 {
            let path = s.new_path(&number.to_string());
            held.push(File::create(&path)?);
            std::fs::remove_file(&path)?;
            held.iter().last().map_or(Ok(()), |file| fill(file, 4))?;
        }
        late(s);
        s.hand(rustix::fs::memfd_create("late", MemfdFlags::CLOEXEC)?)
    }).limited().told("limit.disk"),
    code("resources.workspace", "more bytes in the workspace", WATCHED, Proof::Kind("memfd:late"), |s| {
        for number in 0..10 {
            fill(&File::create(s.new_path(&number.to_string()))?, 4)?;
        }
        late(s);
        s.hand(rustix::fs::memfd_create("late", MemfdFlags::CLOEXEC)?)
    }).limited().told("limit.disk"),
];

/// Whether a number of a record, in whatever unit, is that large.
fn at_least(field: &str, least: u64) -> bool {
    field
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .is_some_and(|it: u64| it >= least)
}

fn fill(mut file: &File, mib: usize) -> io::Result<()> {
    let piece = vec![1_u8; 1 << 20];
    (0..mib).try_for_each(|_| file.write_all(&piece))
}

/// Waits for as long as whoever looks at what is used may take.
fn late(scene: &Scene) {
    std::thread::sleep(std::time::Duration::from_millis(scene.number("LATE_MS")));
}

/// Files that are small enough each, and too much together.
fn many(scene: &Scene, place: &str) -> io::Result<()> {
    let mut made = Vec::new();
    for number in 0..8 {
        let file = File::create(scene.at(place, &format!("more-{number}")))?;
        fill(&file, 4)?;
        made.push(file);
    }
    late(scene);
    made.iter().try_for_each(|file| scene.hand(file))
}
