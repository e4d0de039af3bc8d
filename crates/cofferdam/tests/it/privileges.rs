//! Started by root, only the launcher is privileged: what the supervisor and git hold, read from
//! the kernel.

use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::world::{Done, World, text};

const DAC_OVERRIDE: u64 = 1 << 1;
const SETPCAP: u64 = 1 << 8;
const SYS_MODULE: u64 = 1 << 16;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const SETFCAP: u64 = 1 << 31;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a process of root has, and one of anybody else: nothing.
fn of_root(capabilities: u64) -> u64 {
    if is_root() { capabilities } else { 0 }
}

/// Permitted and effective capabilities.
fn held(status: &str) -> [u64; 2] {
    ["CapPrm:\t", "CapEff:\t"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line, 16).unwrap()
    })
}

fn status(path: &str) -> String {
    std::fs::read_to_string(format!("/proc/{path}/status")).unwrap()
}

/// The background supervisor's process id.
pub(crate) fn supervisor(world: &World) -> i32 {
    let socket = UnixStream::connect(world.state().join("supervisor.sock")).unwrap();
    rustix::net::sockopt::socket_peercred(&socket).unwrap().pid.as_raw_nonzero().get()
}

pub(crate) fn launcher_of(supervisor: i32) -> i32 {
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let behind = stat.rsplit_once(')').map(|(_, behind)| behind.to_owned());
        let parent = behind.and_then(|it| it.split_ascii_whitespace().nth(1)?.parse().ok());
        // Beside it there may be a git.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent == Some(supervisor) && line.starts_with(b"cofferdam-launcher\0")
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.find(is_child).unwrap()
}

/// A git that first writes down what it and its parent hold. The directory it lies in, and where
/// it writes.
fn telling_git(world: &World) -> (PathBuf, PathBuf) {
    let (bin, told) = (world.home().join("bin"), world.home().join("told"));
    for dir in [&bin, &told] {
        std::fs::create_dir(dir).unwrap();
    }
    let git = bin.join("git");
    let script = format!(
        "#!/bin/sh\ncat /proc/self/status >'{told}'/git-$$\ncat /proc/$PPID/status \
         >'{told}'/parent-$$\nexec /usr/bin/git \"$@\"\n",
        told = told.display()
    );
    std::fs::write(&git, script).unwrap();
    std::fs::set_permissions(&git, std::fs::Permissions::from_mode(0o755)).unwrap();
    (bin, told)
}

fn all_told(told: &Path, who: &str) -> Vec<[u64; 2]> {
    let entries = std::fs::read_dir(told).unwrap().map(|entry| entry.unwrap());
    let of_one = entries.filter(|it| it.file_name().to_str().unwrap().starts_with(who));
    of_one.map(|it| held(&std::fs::read_to_string(it.path()).unwrap())).collect()
}

#[test]
fn supervisor_and_git_hold_what_they_need_and_the_launcher_the_rest() {
    let world = World::new();
    let (bin, told) = telling_git(&world);
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    // Control: executed by root without ado, a program has everything.
    let plain = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap();
    assert_eq!(held(&String::from_utf8(plain.stdout).unwrap()) == [0; 2], !is_root());

    let commands: [&[&str]; 2] = [&["session", "start"], &["run", "--", "sh", "-c", "echo 1 >a"]];
    for command in commands {
        let done = world.command(command).env("PATH", &path).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    let kept = of_root(DAC_OVERRIDE | SYS_PTRACE | SYS_ADMIN | SETFCAP);
    let supervised = [kept | of_root(SETPCAP), kept];
    let supervisor = supervisor(&world);
    let threads = std::fs::read_dir(format!("/proc/{supervisor}/task")).unwrap();
    let mut count = 0;
    for thread in threads {
        let thread = thread.unwrap().file_name().into_string().unwrap();
        assert_eq!(held(&status(&format!("{supervisor}/task/{thread}"))), supervised);
        count += 1;
    }
    assert!(count > 3, "{count} threads");
    let parents = all_told(&told, "parent");
    assert!(parents.iter().all(|held| *held == supervised), "{parents:x?}");
    let gits = all_told(&told, "git");
    assert!(gits.iter().all(|held| *held == [of_root(DAC_OVERRIDE); 2]), "{gits:x?}");
    assert!(gits.len() > 3);
    let [permitted, effective] = held(&status(&launcher_of(supervisor).to_string()));
    let module = of_root(SYS_MODULE);
    assert_eq!([permitted & SYS_MODULE, effective & SYS_MODULE], [module; 2]);
}

#[test]
fn a_launcher_that_died_is_replaced_with_all_it_needs() {
    let world = World::new();
    let started = world.run(&["session", "start", "--json"]).object(0);
    let supervisor = supervisor(&world);
    let launcher = launcher_of(supervisor);
    let before = held(&status(&launcher.to_string()));
    let process = rustix::process::Pid::from_raw(launcher).unwrap();
    let ended = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    crate::world::wait_for_end(&ended);
    // Control: its session went with it.
    let first = text(&started, "session").to_owned();
    world.run(&["session", "exec", &first, "--", "true"]).refusal(125);
    let second = world.run(&["session", "start", "--json"]).object(0);
    let second = text(&second, "session").to_owned();
    world.run(&["session", "exec", &second, "--", "true"]).expect(0);
    assert_eq!(held(&status(&launcher_of(supervisor).to_string())), before);
}

#[test]
fn a_program_whose_session_dies_is_told_from_one_that_ended() {
    let world = World::new();
    let started = world.run(&["session", "start", "--json"]).object(0);
    let kept = ["session", "exec", text(&started, "session")];
    for (args, of_background) in [(&kept[..], true), (&["exec"], false)] {
        let script = [args, &["--", "sh", "-c", "echo up; exec sleep 1000"]].concat();
        let mut command = world.command(&script);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        let holder = if of_background { supervisor(&world) } else { child.id().cast_signed() };
        let launcher = rustix::process::Pid::from_raw(launcher_of(holder)).unwrap();
        rustix::process::kill_process(launcher, rustix::process::Signal::KILL).unwrap();
        let done = Done::of(child.wait_with_output().unwrap());
        assert_eq!(done.refusal(125), "session_lost", "{args:?}");
    }
    // Control: one that ends with that code says nothing.
    let own = world.run(&["exec", "--", "sh", "-c", "exit 125"]);
    assert_eq!((own.code, own.stderr.as_str()), (Some(125), ""));
}

/// As under `sudo`, where the repository is the user's who called it. Nobody but root has others'.
#[test]
fn a_repository_of_somebody_else_can_be_worked_on() {
    let world = World::new();
    if is_root() {
        give_away(&world.cwd);
    }
    let run = world.edit("echo 2 >greeting.txt");
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
}

fn give_away(path: &Path) {
    const SOMEBODY: u32 = 12_345;
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    chown(path, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
}
