//! Ten thousand calls in a thousand sessions, two hundred at once, while supervisor, launcher and
//! init are killed at random: nothing is left afterwards, counted on the host's side.
//!
//! Other tests run beside this one, so only what is its own is counted: what descends from one
//! process, names its directory or bears the name of one of its launchers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::deaths::{Seen, beneath, descriptors_of, groups_of, is_gone, remove, see, signal};
use crate::support::{
    PROBE_VARIABLE, has_groups, is_root, launcher_with, probe_path, text, wait_until,
};

const SESSIONS: usize = 1_000;
const CALLS: usize = 10_000;
/// Held at once.
const AT_ONCE: usize = 200;
/// In each session of a round.
const CALLS_EACH: usize = 10;
/// As many rounds as there may be before the numbers are reached.
const ROUNDS_MAX: usize = 30;
/// Inits killed in each round.
const INITS: usize = 3;
/// Sessions that a supervisor has before it is counted what it holds.
const WARMING: usize = 3;
/// Names the seed that a failure told.
const SEED_VARIABLE: &str = "COFFERDAM_TEST_SEED";

/// What decides who is killed and when (<https://prng.di.unimi.it/splitmix64.c>).
struct Dice(u64);

impl Dice {
    fn from_environment() -> Self {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var(SEED_VARIABLE).map_or_else(|_| clock(), |it| it.parse().unwrap());
        println!("to throw the same dice again: {SEED_VARIABLE}={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % bound
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Victim {
    Supervisor,
    Launcher,
    Init,
}

/// A directory of sessions, and the launchers that there were.
struct Ground {
    dir: tempfile::TempDir,
    launchers: BTreeSet<i32>,
}

/// What is left on the host.
#[derive(PartialEq, Eq, Debug, Default)]
struct Left {
    mounts: usize,
    groups: usize,
    loops: usize,
    directories: usize,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("cofferdam-soak-").tempdir().unwrap();
        fs::create_dir(dir.path().join("sessions")).unwrap();
        Self { dir, launchers: BTreeSet::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What those who come next sweep away, an hour later: a directory whose maker died before it
    /// was claimed may be in preparation until then.
    fn sweep(&self) {
        for entry in fs::read_dir(self.path("sessions")).unwrap() {
            File::open(entry.unwrap().path()).unwrap().set_modified(UNIX_EPOCH).unwrap();
        }
        cofferdam_sandbox::sweep(&self.path("sessions"), remove);
        drop(launcher_with(false));
    }

    fn left(&self) -> Left {
        let own = self.dir.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let backing = |block: &fs::DirEntry| {
            fs::read_to_string(block.path().join("loop/backing_file")).unwrap_or_default()
        };
        let blocks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        // A process id comes again: another's launcher has groups of its own.
        let dead = self.launchers.iter().filter(|pid| see(**pid).is_none());
        Left {
            mounts: mounts.lines().filter(|line| line.contains(own)).count(),
            groups: dead.map(|pid| groups_of(*pid).len()).sum(),
            loops: blocks.filter(|block| backing(block).starts_with(own)).count(),
            directories: fs::read_dir(self.path("sessions")).unwrap().count(),
        }
    }
}

/// A supervisor beneath a process that adopts whatever it leaves.
struct Host {
    reaper: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    supervisor: i32,
}

impl Host {
    /// One that has had sessions, so that what is made once is there, and what it holds then.
    fn start(ground: &Ground) -> (Self, [usize; 4]) {
        let mut reaper = Command::new(probe_path())
            .args(["reap", "soak"])
            .arg(ground.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = reaper.stdin.take().unwrap();
        let stdout = BufReader::new(reaper.stdout.take().unwrap());
        let mut host = Self { reaper, stdin, stdout, supervisor: 0 };
        host.supervisor = host.said().unwrap().parse().unwrap();
        host.quietly(&format!("round {WARMING} 10"));
        wait_until("launcher and spare are left", || host.holds()[3] == 2);
        let holds = host.holds();
        (host, holds)
    }

    /// The next that it says; none once it is dead.
    fn said(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.stdout.read_line(&mut line).unwrap();
        (length > 0).then(|| line.trim().to_owned())
    }

    /// Does something of which it says nothing but that it is done.
    fn quietly(&mut self, order: &str) {
        writeln!(self.stdin, "{order}").unwrap();
        while self.said().unwrap() != "rested" {}
    }

    fn all(&self) -> Vec<Seen> {
        beneath(self.reaper.id().cast_signed())
    }

    fn launcher(&self) -> Option<Seen> {
        self.all().into_iter().find(|it| it.parent() == self.supervisor)
    }

    fn inits(&self) -> Vec<Seen> {
        let launcher = self.launcher();
        let mut all = self.all();
        all.retain(|it| launcher.as_ref().is_some_and(|launcher| it.parent() == launcher.pid));
        all
    }

    /// Descriptors of supervisor and launcher, threads of the supervisor, processes beneath it.
    fn holds(&self) -> [usize; 4] {
        let threads = fs::read_dir(format!("/proc/{}/task", self.supervisor)).unwrap().count();
        let of_launcher = self.launcher().map_or(0, |launcher| descriptors_of(launcher.pid));
        let processes = beneath(self.supervisor).iter().filter(|it| !is_gone(it)).count();
        [descriptors_of(self.supervisor), of_launcher, threads, processes]
    }

    /// Kills one such; whether there was one.
    fn kill(&self, victim: Victim, dice: &mut Dice) -> bool {
        let pid = match victim {
            Victim::Supervisor => Some(self.supervisor),
            Victim::Launcher => self.launcher().map(|launcher| launcher.pid),
            Victim::Init => {
                let inits = self.inits();
                inits.get(dice.below(inits.len().max(1))).map(|init| init.pid)
            }
        };
        // It may die of something else at just this moment.
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        pid.is_some_and(|pid| rustix::process::kill_process(pid, Signal::KILL).is_ok())
    }

    /// Waits until nothing is left beneath the reaper, which then ends too.
    fn wait_for_end(self) {
        let Self { mut reaper, stdin, .. } = self;
        drop(stdin);
        let seen = see(reaper.id().cast_signed()).unwrap();
        wait_until("every process ends", || is_gone(&seen));
        reaper.wait().unwrap();
    }
}

/// What was reached, and who died on the way.
#[derive(Default, Debug)]
struct Reached {
    sessions: usize,
    calls: usize,
    at_once: usize,
    killed: BTreeSet<Victim>,
}

impl Reached {
    fn is_enough(&self) -> bool {
        // Repeated as another user, the numbers are those of one round.
        let share = if std::env::var_os(PROBE_VARIABLE).is_some() { 5 } else { 1 };
        let is_full = self.sessions >= SESSIONS / share && self.calls >= CALLS / share;
        is_full && self.at_once >= AT_ONCE && self.killed.len() == 3
    }
}

/// Who dies in a round, and after how much of what is said in it; the first to die comes last. Who
/// has not died yet goes before.
fn fates(killed: &BTreeSet<Victim>, dice: &mut Dice) -> Vec<(usize, Victim)> {
    let said = AT_ONCE * (1 + CALLS_EACH);
    let mut others = vec![Some(Victim::Launcher), Some(Victim::Supervisor)];
    others.retain(|it| it.is_some_and(|it| !killed.contains(&it)));
    if others.is_empty() {
        others = vec![None, Some(Victim::Launcher), Some(Victim::Supervisor)];
    }
    let mut victims = vec![Victim::Init; INITS];
    victims.extend(others[dice.below(others.len())]);
    let mut fates: Vec<_> = victims.into_iter().map(|it| (dice.below(said), it)).collect();
    fates.sort_unstable_by(|one, other| other.cmp(one));
    fates
}

/// One round; whether the supervisor lived through it.
fn round(ground: &mut Ground, host: &mut Host, reached: &mut Reached, dice: &mut Dice) -> bool {
    writeln!(host.stdin, "round {AT_ONCE} {CALLS_EACH}").unwrap();
    let mut fates = fates(&reached.killed, dice);
    let mut said = 0;
    while let Some(line) = host.said() {
        match line.as_str() {
            "session" => reached.sessions += 1,
            "call" => reached.calls += 1,
            "lost" => {}
            "held" => reached.at_once = reached.at_once.max(host.inits().len()),
            "rested" => return true,
            other => panic!("{other}"),
        }
        said += 1;
        while let Some((_, victim)) = fates.pop_if(|(after, _)| *after < said) {
            ground.launchers.extend(host.launcher().map(|it| it.pid));
            if host.kill(victim, dice) {
                reached.killed.insert(victim);
            }
        }
    }
    false
}

#[test]
fn ten_thousand_calls_in_a_thousand_sessions() {
    let mut dice = Dice::from_environment();
    let (mut ground, mut reached) = (Ground::new(), Reached::default());
    let mut lives = None;
    for _ in 0..ROUNDS_MAX {
        let (mut host, before) = lives.take().unwrap_or_else(|| Host::start(&ground));
        let lived = round(&mut ground, &mut host, &mut reached, &mut dice);
        ground.launchers.extend(host.launcher().map(|it| it.pid));
        if lived {
            let is_more = |(now, before): (usize, usize)| now > before;
            wait_until("it holds no more than before", || {
                !host.holds().into_iter().zip(before).any(is_more)
            });
            lives = Some((host, before));
        } else {
            host.wait_for_end();
        }
        if reached.is_enough() {
            break;
        }
    }
    assert!(reached.is_enough(), "{reached:?}");
    if let Some((host, _)) = lives {
        host.wait_for_end();
    }
    ground.sweep();
    assert_eq!(ground.left(), Left::default());
}

/// Control: one of each kind that is left on purpose is seen.
#[test]
fn what_is_left_is_seen() {
    let mut ground = Ground::new();
    let (mut host, before) = Host::start(&ground);
    let launcher = host.launcher().unwrap().pid;
    ground.launchers.insert(launcher);
    // Those of the spare.
    let parents: BTreeSet<PathBuf> =
        groups_of(launcher).iter().map(|group| group.parent().unwrap().to_owned()).collect();
    assert_eq!(parents.is_empty(), !has_groups());
    for what in ["descriptor", "thread", "process"] {
        host.quietly(&format!("leave {what}"));
    }
    let [of_supervisor, of_launcher, threads, processes] = before;
    assert_eq!(host.holds(), [of_supervisor + 1, of_launcher, threads + 1, processes + 1]);
    host.kill(Victim::Supervisor, &mut Dice(0));
    while host.said().is_some() {}
    let alive = || {
        let mut all = host.all();
        all.retain(|it| !is_gone(it));
        all
    };
    wait_until("only what was left lives", || alive().len() == 1);
    signal(alive()[0].pid, Signal::KILL);
    host.wait_for_end();
    assert_eq!(ground.left().directories, WARMING);
    // Whoever starts a launcher beside this test takes the group away, so it is planted until seen.
    wait_until("a group is seen", || {
        let name = format!("cofferdam-{launcher}-planted");
        for parent in &parents {
            let _there = fs::create_dir(parent.join(&name));
        }
        parents.is_empty() || ground.left().groups > 0
    });
    ground.sweep();
    assert_eq!(ground.left(), Left::default());
    // A directory that may be in preparation is nobody's to sweep.
    fs::create_dir(ground.path("sessions/planted")).unwrap();
    let mut expected = Left { directories: 1, ..Left::default() };
    if !is_root() {
        // Without privilege there is no mount and no loop device to leave.
        assert_eq!(ground.left(), expected);
        return;
    }
    let (mounted, image) = (ground.path("sessions"), ground.path("image"));
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    run(Command::new("mount").arg("--bind").args([&mounted, &mounted]));
    let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&image));
    let seen = ground.left();
    run(Command::new("losetup").args(["--detach", device.trim()]));
    run(Command::new("umount").arg(&mounted));
    (expected.mounts, expected.loops) = (1, 1);
    assert_eq!(seen, expected);
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}
