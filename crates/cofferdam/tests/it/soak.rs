//! Sessions in a pool while the supervisor, its launcher and inits are killed at random: afterwards
//! the pool has its bases and nothing else, and there is one loop device and one mount, its own.
//!
//! What a kill leaves of processes, groups and descriptors is counted in `sandbox`, ten times as often.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use cofferdam_contract::capability::WorkspaceKind;
use rustix::process::{Pid, Signal, kill_process};

use crate::pool::{Made, can_hold};
use crate::privileges::{launcher_of, supervisor};
use crate::world::{World, text};

const ROUNDS: usize = 6;
/// Held at once.
const SESSIONS: usize = 20;
/// In each session of a round.
const CALLS: usize = 3;
/// Who dies in a round, by the number of calls made before.
const FATES: [&[(usize, Victim)]; 3] = [
    &[(10, Victim::Init), (50, Victim::Supervisor)],
    &[(5, Victim::Init), (20, Victim::Init), (40, Victim::Launcher)],
    &[(30, Victim::Init)],
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Victim {
    Supervisor,
    Launcher,
    Init,
}

/// Kills one such, the newest where there are several.
fn kill(supervisor: i32, victim: Victim) {
    let pid = match victim {
        Victim::Supervisor => supervisor,
        Victim::Launcher => launcher_of(supervisor),
        Victim::Init => {
            let launcher = launcher_of(supervisor);
            // It has one thread.
            let listed = format!("/proc/{launcher}/task/{launcher}/children");
            let inits = std::fs::read_to_string(listed).unwrap();
            inits.split_whitespace().map(|pid| pid.parse().unwrap()).max().unwrap()
        }
    };
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// What is left on the host.
#[derive(PartialEq, Eq, Debug)]
struct Left {
    subvolumes: usize,
    directories: usize,
    loops: usize,
    mounts: usize,
}

/// Does what the words say to the paths; what is said of it.
fn said(words: &str, paths: &[&Path]) -> String {
    let mut words = words.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).args(paths).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn left(world: &World, made: &Made) -> Left {
    let state = world.state();
    let subvolumes = said("btrfs subvolume list", &[&state.join("pool")]);
    let loops = said("losetup --associated", &[&state.join("pool.img")]);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = world.home();
    let directories = [made.pool.sessions(), state.join("sessions")];
    let entries = directories.iter().flat_map(std::fs::read_dir).flatten().flatten();
    Left {
        subvolumes: subvolumes.lines().count(),
        directories: entries.count(),
        loops: loops.lines().count(),
        mounts: mounts.lines().filter(|line| line.contains(own.to_str().unwrap())).count(),
    }
}

/// Opens sessions and makes calls in them, each of which writes and some of which leave something that
/// runs on; who was killed.
fn round(world: &World, fates: &[(usize, Victim)]) -> BTreeSet<Victim> {
    let sessions: Vec<String> = (0..SESSIONS)
        .map(|_| {
            let started = world.run(&["session", "start", "--json"]).object(0);
            text(&started, "session").to_owned()
        })
        .collect();
    let supervisor = supervisor(world);
    let mut killed = BTreeSet::new();
    for number in 0..SESSIONS * CALLS {
        for (_, victim) in fates.iter().filter(|(after, _)| *after == number) {
            kill(supervisor, *victim);
            killed.insert(*victim);
        }
        let script = "echo more >> greeting.txt; mkdir -p d; cp --reflink=auto greeting.txt d/$$; \
                      sleep 1000 >/dev/null 2>&1 &";
        let session = &sessions[number % SESSIONS];
        let done = world.run(&["session", "exec", session, "--", "sh", "-c", script]);
        assert!(done.code == Some(0) || !killed.is_empty(), "{done:?}");
    }
    for session in &sessions {
        let done = world.run(&["session", "end", session]);
        assert!(done.code == Some(0) || !killed.is_empty(), "{done:?}");
    }
    killed
}

#[test]
fn what_dies_in_a_pool_leaves_nothing_in_it() {
    if !can_hold(WorkspaceKind::Btrfs) {
        return;
    }
    let world = World::new();
    let made = Made::new(world.state());
    let mut killed = BTreeSet::new();
    for number in 0..ROUNDS {
        killed.extend(round(&world, FATES[number % FATES.len()]));
    }
    assert_eq!(killed.len(), 3, "{killed:?}");
    // Whoever comes next takes away what the dead left.
    world.run(&["exec", "--", "true"]).expect(0);
    let nothing = Left { subvolumes: 1, directories: 0, loops: 1, mounts: 1 };
    assert_eq!(left(&world, &made), nothing, "the base, and the pool");
    // Control: a snapshot, a directory, a device and a mount more are seen.
    let (pool, image) = (world.state().join("pool"), world.state().join("pool.img"));
    let (planted, mounted) = (made.pool.sessions().join("planted"), world.home().join("mounted"));
    said("btrfs subvolume create", &[&planted]);
    let device = said("losetup --find --show --read-only", &[&image]);
    std::fs::create_dir(&mounted).unwrap();
    said("mount --bind", &[&pool, &mounted]);
    let seen = left(&world, &made);
    said("umount", &[&mounted]);
    said("losetup --detach", &[Path::new(device.trim())]);
    said("btrfs subvolume delete", &[&planted]);
    assert_eq!(seen, Left { subvolumes: 2, directories: 1, loops: 2, mounts: 2 });
    // Nothing holds it any more.
    world.run(&["pool", "remove"]).expect(0);
}
