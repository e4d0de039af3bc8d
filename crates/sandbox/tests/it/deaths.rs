//! Whoever dies, and in whatever state: no process, no mount, no directory stays.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{has_groups, launcher, probe_path, wait_until};

/// A supervisor in a process of its own, with open sessions in each of which a daemon runs.
pub(crate) struct Supervised {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    dir: tempfile::TempDir,
}

/// A process, told from a later one of the same number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) pid: i32,
    parent: i32,
    pub(crate) state: String,
    started: String,
    pub(crate) name: String,
}

impl Seen {
    pub(crate) fn parent(&self) -> i32 {
        self.parent
    }
}

pub(crate) fn see(pid: i32) -> Option<Seen> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let (state, started) = (fields[0].to_owned(), fields[19].to_owned());
    let name = head.split_once('(')?.1.to_owned();
    Some(Seen { pid, parent: fields[1].parse().ok()?, state, started, name })
}

pub(crate) fn beneath(pid: i32) -> Vec<Seen> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<Seen> =
        entries.filter_map(|it| see(it.file_name().to_str()?.parse().ok()?)).collect();
    let (mut found, mut open) = (Vec::new(), vec![pid]);
    while let Some(next) = open.pop() {
        for child in all.iter().filter(|it| it.parent == next) {
            open.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

pub(crate) fn is_gone(seen: &Seen) -> bool {
    see(seen.pid)
        .is_none_or(|now| now.started != seen.started || now.state == "Z" || now.state == "X")
}

pub(crate) fn wait_for_end_of(processes: &[Seen]) {
    wait_until("all of them end", || processes.iter().all(is_gone));
}

impl Supervised {
    fn start(sessions: usize) -> Self {
        Self::start_with(sessions, &[])
    }

    /// One with two sessions, after which the groundwork of the next one is laid.
    pub(crate) fn with_a_spare() -> Self {
        let supervised = Self::start_with(2, &["spare"]);
        wait_until("there is a spare", || supervised.spare().is_some());
        supervised
    }

    /// The init that has no session yet: nothing is beneath it.
    pub(crate) fn spare(&self) -> Option<Seen> {
        let launcher = self.launcher();
        let inits = beneath(launcher).into_iter().filter(|it| it.parent == launcher);
        inits.into_iter().find(|it| beneath(it.pid).is_empty())
    }

    fn start_with(sessions: usize, args: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("cofferdam-host-").tempdir().unwrap();
        let mut child = Command::new(probe_path())
            .arg("supervise")
            .arg(dir.path())
            .arg(sessions.to_string())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut this = Self { child, stdin, stdout, dir };
        this.expect("ready");
        this
    }

    pub(crate) fn expect(&mut self, word: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word);
    }

    pub(crate) fn tell(&mut self, word: &str) {
        writeln!(self.stdin, "{word}").unwrap();
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn launcher(&self) -> i32 {
        let children = beneath(self.pid());
        children.iter().find(|it| it.parent == self.pid()).unwrap().pid
    }

    fn init(&self) -> i32 {
        let launcher = self.launcher();
        beneath(launcher).iter().find(|it| it.parent == launcher).unwrap().pid
    }

    fn sessions(&self) -> PathBuf {
        self.dir.path().join("sessions")
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub(crate) fn stop(pid: i32) {
    signal(pid, Signal::STOP);
    wait_until("it has stopped", || see(pid).unwrap().state == "T");
}

/// Mounts of the host; pools are those of tests that run beside this one.
pub(crate) fn host_mounts() -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| !line.contains(" - btrfs ")).count()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Victim {
    Supervisor,
    Launcher,
    Init,
}

fn kill_and_look(victim: Victim, stopped: &[Victim]) {
    let mounts = host_mounts();
    let supervised = Supervised::start(1);
    let pid_of = |victim| match victim {
        Victim::Supervisor => supervised.pid(),
        Victim::Launcher => supervised.launcher(),
        Victim::Init => supervised.init(),
    };
    let (launcher, pid) = (supervised.launcher(), pid_of(victim));
    let mut tree = beneath(supervised.pid());
    // Control: launcher, init, a keeper, the daemon.
    assert!(tree.len() >= 4, "{tree:?}");
    assert!(tree.iter().all(|seen| !is_gone(seen)));
    for victim in stopped {
        stop(pid_of(*victim));
    }
    signal(pid, Signal::KILL);
    if victim == Victim::Init {
        tree.retain(|seen| seen.pid != launcher);
        assert!(see(launcher).is_some());
    }
    wait_for_end_of(&tree);
    assert_eq!(host_mounts(), mounts);
}

#[test]
fn the_supervisors_death_ends_everything() {
    kill_and_look(Victim::Supervisor, &[]);
    kill_and_look(Victim::Supervisor, &[Victim::Supervisor]);
    kill_and_look(Victim::Supervisor, &[Victim::Launcher]);
    kill_and_look(Victim::Supervisor, &[Victim::Init]);
    kill_and_look(Victim::Supervisor, &[Victim::Launcher, Victim::Init, Victim::Supervisor]);
}

#[test]
fn the_launchers_death_ends_every_session() {
    kill_and_look(Victim::Launcher, &[]);
    kill_and_look(Victim::Launcher, &[Victim::Launcher]);
    kill_and_look(Victim::Launcher, &[Victim::Init]);
}

#[test]
fn inits_death_ends_its_session() {
    kill_and_look(Victim::Init, &[]);
    kill_and_look(Victim::Init, &[Victim::Init]);
    kill_and_look(Victim::Init, &[Victim::Launcher]);
}

#[test]
fn a_session_ends_although_init_and_launcher_stand_still() {
    let mut supervised = Supervised::start(1);
    let (launcher, init) = (supervised.launcher(), supervised.init());
    let mut tree = beneath(supervised.pid());
    tree.retain(|seen| seen.pid != launcher);
    stop(launcher);
    stop(init);
    supervised.tell("end");
    supervised.expect("ended");
    assert!(tree.iter().all(is_gone), "{tree:?}");
}

#[test]
fn a_new_launcher_takes_the_place_of_a_dead_one() {
    let mut supervised = Supervised::start(1);
    let dead = see(supervised.launcher()).unwrap();
    signal(dead.pid, Signal::KILL);
    wait_for_end_of(&[dead]);
    supervised.tell("open");
    supervised.expect("opened");
}

/// As whoever sweeps would, which is not what is tried here.
pub(crate) fn remove(dir: &Path) {
    let done = std::process::Command::new("rm").arg("-rf").arg(dir).status().unwrap();
    assert!(done.success());
}

#[test]
fn what_a_killed_supervisor_left_is_swept() {
    let mut supervised = Supervised::start(2);
    let sessions = supervised.sessions();
    let left = || fs::read_dir(&sessions).unwrap().count();
    let unswept = fs::read_dir(&sessions).unwrap().flatten().next().unwrap().path();
    deep(&unswept.join("upper"));
    // Control: sessions that live are left alone.
    cofferdam_sandbox::sweep(&sessions, remove);
    assert_eq!(left(), 2);
    let tree = beneath(supervised.pid());
    let launcher_pid = supervised.launcher();
    assert_eq!(groups_of(launcher_pid).is_empty(), !has_groups());
    signal(supervised.pid(), Signal::KILL);
    // Its locks go with the last of its threads.
    supervised.child.wait().unwrap();
    wait_for_end_of(&tree);
    cofferdam_sandbox::sweep(&sessions, remove);
    assert_eq!(left(), 0);
    drop(launcher());
    assert_eq!(groups_of(launcher_pid), Vec::<PathBuf>::new());
}

/// A stalled observer: what it would refuse waits and is not let through, all else goes on, and
/// once it goes on so does that. Its death while stalled is tried above.
#[test]
fn a_stopped_supervisor_frees_nothing_and_hangs_only_what_it_must_answer() {
    let mut supervised = Supervised::start(1);
    supervised.tell("try");
    supervised.expect("trying");
    let upper = fs::read_dir(supervised.sessions()).unwrap().flatten().next().unwrap().path();
    let written = |name: &str| fs::read(upper.join("upper").join(name)).unwrap_or_default();
    // Control: while it runs, attempts are refused and work goes on.
    wait_until("attempts are answered", || written("tries").len() > 5);
    stop(supervised.pid());
    let (tries, beats) = (written("tries").len(), written("beats").len());
    wait_until("work goes on", || written("beats").len() > beats + 20);
    assert!(written("tries").len() <= tries + 1, "an attempt was answered by nobody");
    signal(supervised.pid(), Signal::CONT);
    wait_until("attempts are answered again", || written("tries").len() > tries + 5);
    assert!(written("tries").iter().all(|outcome| *outcome == b'r'), "nothing got through");
    supervised.tell("end");
    supervised.expect("ended");
}

/// Deeper than a path may be long.
fn deep(dir: &Path) {
    let name = "d".repeat(200);
    let mut at = fs::File::open(dir).unwrap();
    for _ in 0..40 {
        rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, &name, flags, rustix::fs::Mode::empty()).unwrap().into();
    }
}

/// Control groups that a launcher made.
pub(crate) fn groups_of(launcher: i32) -> Vec<PathBuf> {
    let prefix = format!("cofferdam-{launcher}-");
    let (mut found, mut open) = (Vec::new(), vec![PathBuf::from("/sys/fs/cgroup")]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                found.push(entry.path());
            }
            open.push(entry.path());
        }
    }
    found
}

/// A sweep that takes a launcher that lives for dead, as one in another process namespace does.
#[test]
fn a_session_opens_although_its_groups_are_taken_away() {
    const TAKEN: usize = 10;
    // It is made sixteen times.
    const EACH_MAX: usize = 10;
    let mut supervised = Supervised::start(1);
    let launcher = supervised.launcher();
    let parents: Vec<PathBuf> =
        groups_of(launcher).iter().map(|group| group.parent().unwrap().to_owned()).collect();
    assert_eq!(parents.is_empty(), !has_groups());
    let (over, is_over) = channel::<()>();
    let taken = Arc::new(AtomicUsize::new(0));
    let (counted, prefix) = (Arc::clone(&taken), format!("cofferdam-{launcher}-"));
    let taker = thread::spawn(move || {
        let mut of_each: HashMap<PathBuf, usize> = HashMap::new();
        while is_over.try_recv() == Err(TryRecvError::Empty) {
            let entries = parents.iter().flat_map(fs::read_dir).flatten().flatten();
            let own = entries.filter(|it| it.file_name().to_string_lossy().starts_with(&prefix));
            // Nothing ends here, so what can be removed was about to be filled.
            for path in own.map(|it| it.path()) {
                let times = of_each.entry(path.clone()).or_default();
                if *times < EACH_MAX && fs::remove_dir(path).is_ok() {
                    *times += 1;
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    for _ in 0..40 {
        supervised.tell("open 5");
        supervised.expect("opened");
        if !has_groups() || taken.load(Ordering::Relaxed) >= TAKEN {
            break;
        }
    }
    drop(over);
    taker.join().unwrap();
    // Control: groups were taken away. Without privilege there are none.
    assert_eq!(taken.load(Ordering::Relaxed) >= TAKEN, has_groups());
}

pub(crate) fn descriptors_of(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The launcher's skeleton: what two hundred sessions at once cost, and what they leave.
#[test]
fn two_hundred_sessions_at_once() {
    const SESSIONS: usize = 200;
    let mounts = host_mounts();
    let mut supervised = Supervised::start(0);
    // One that comes and goes first, so that nothing is counted that is made once.
    for (word, done) in [("open", "opened"), ("end", "ended")] {
        supervised.tell(word);
        supervised.expect(done);
    }
    let (supervisor, launcher) = (supervised.pid(), supervised.launcher());
    let before = (descriptors_of(supervisor), descriptors_of(launcher));
    let threads = || fs::read_dir(format!("/proc/{supervisor}/task")).unwrap().count();
    let at_rest = threads();
    // Daemons that beat would keep a slow machine from anything else.
    supervised.tell(&format!("rest {SESSIONS}"));
    supervised.expect("opened");
    let tree = beneath(supervisor);
    // The launcher, and for each session init, a keeper and the daemon.
    assert_eq!(tree.len(), 1 + 3 * SESSIONS);
    assert_eq!(descriptors_of(launcher), before.1, "the launcher keeps no descriptor of a session");
    let each = (descriptors_of(supervisor) - before.0) as f64 / SESSIONS as f64;
    assert!(each <= 11.0, "{each} descriptors for each session");
    assert_eq!(threads(), at_rest + SESSIONS);
    assert_eq!(host_mounts(), mounts);
    supervised.tell("end");
    supervised.expect("ended");
    let left = tree.iter().filter(|seen| seen.pid != launcher && !is_gone(seen)).count();
    assert_eq!(left, 0);
    wait_until("threads end", || threads() == at_rest);
    assert_eq!((descriptors_of(supervisor), descriptors_of(launcher)), before);
    assert_eq!(groups_of(launcher), Vec::<PathBuf>::new());
}
