//! On a terminal: what a session writes cannot steer it, and `-t` gives the program one.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::pty::OpenptFlags;

use crate::world::World;

/// A pseudo-terminal: ours and theirs.
fn terminal() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let inside = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    (File::from(master), inside)
}

/// What a command shows on a terminal.
pub(crate) fn shown(world: &World, args: &[&str]) -> String {
    let (mut master, inside) = terminal();
    let mut command = world.command(args);
    command.stdout(Stdio::from(inside.try_clone().unwrap())).stderr(Stdio::from(inside));
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut bytes = vec![];
    // A terminal that nobody holds any more reads as an error.
    let _ = master.read_to_end(&mut bytes);
    child.wait().unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What a command shows on a terminal at which somebody has typed this.
pub(crate) fn answered(world: &World, args: &[&str], typed: &str) -> String {
    let (mut master, inside) = terminal();
    master.write_all(typed.as_bytes()).unwrap();
    let end = || Stdio::from(inside.try_clone().unwrap());
    let mut child = world.command(args).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    drop(inside);
    let mut bytes = vec![];
    // A terminal that nobody holds any more reads as an error.
    let _ = master.read_to_end(&mut bytes);
    child.wait().unwrap();
    String::from_utf8(bytes).unwrap()
}

const ATTACK: &str = "printf 'a\\033]0;title\\007b\\033[2Jc\\033[31mred\\033[0m\\n'";

#[test]
fn control_sequences_are_filtered_on_a_terminal_only() {
    let world = World::new();
    let piped = world.run(&["exec", "--", "sh", "-c", ATTACK]).expect(0);
    assert_eq!(piped, "a\x1b]0;title\x07b\x1b[2Jc\x1b[31mred\x1b[0m\n");
    let expected = "abc\x1b[31mred\x1b[0m\r\n\x1b[0m";
    assert_eq!(shown(&world, &["exec", "--", "sh", "-c", ATTACK]), expected);
    assert_eq!(shown(&world, &["exec", "--", "sh", "-c", &format!("{ATTACK} >&2")]), expected);
    world.run(&["session", "start"]).expect(0);
    assert_eq!(shown(&world, &["session", "exec", "--", "sh", "-c", ATTACK]), expected);
}

#[test]
fn a_terminal_is_given_on_request_and_filtered_too() {
    let world = World::new();
    let is_terminal = "test -t 0 && test -t 1 && echo yes || echo no";
    assert_eq!(world.run(&["exec", "--", "sh", "-c", is_terminal]).expect(0), "no\n");
    let with = world.run(&["exec", "-t", "--", "sh", "-c", is_terminal]).expect(0);
    assert_eq!(with, "yes\r\n");
    let filtered = world.run(&["exec", "-t", "--", "sh", "-c", ATTACK]).expect(0);
    assert_eq!(filtered, "abc\x1b[31mred\x1b[0m\r\n\x1b[0m");
    world.run(&["session", "start"]).expect(0);
    let with = world.run(&["session", "exec", "-t", "--", "sh", "-c", is_terminal]).expect(0);
    assert_eq!(with, "yes\r\n");
}

#[test]
fn on_a_terminal_of_ones_own_input_and_exit_code_pass_and_control_sequences_do_not() {
    let world = World::new();
    world.run(&["session", "start"]).expect(0);
    let script = format!("echo ready; read -r line; {ATTACK}; echo \"got $line\"; exit 7");
    for command in [["session", "exec"].as_slice(), &["exec"]] {
        let (mut master, inside) = terminal();
        let end = || Stdio::from(inside.try_clone().unwrap());
        let args = [command, &["-t", "--", "sh", "-c", &script]].concat();
        let mut child =
            world.command(&args).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop(inside);
        let mut seen = vec![];
        let next = |master: &mut File, seen: &mut Vec<u8>| {
            let mut byte = [0];
            // A terminal that nobody holds any more reads as an error.
            let more = master.read(&mut byte).is_ok_and(|count| count == 1);
            seen.extend(more.then_some(byte[0]));
            more
        };
        while !seen.ends_with(b"ready\r\n") {
            assert!(next(&mut master, &mut seen), "{:?}", String::from_utf8_lossy(&seen));
        }
        master.write_all(b"typed\r").unwrap();
        while next(&mut master, &mut seen) {}
        let seen = String::from_utf8(seen).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7), "{seen:?}");
        assert!(seen.contains("abc\x1b[31mred\x1b[0m") && seen.contains("got typed"), "{seen:?}");
        assert!(!seen.contains("\x1b]") && !seen.contains("\x1b[2J"), "{seen:?}");
    }
}

#[test]
fn a_diff_is_escaped_on_a_terminal_and_exact_elsewhere() {
    let world = World::new();
    world.edit("printf 'x\\033[2Jy\\n' > greeting.txt");
    assert!(world.run(&["diff"]).expect(0).contains("+x\x1b[2Jy\n"));
    let seen = shown(&world, &["diff"]);
    assert!(seen.contains("+x\\x1b[2Jy") && !seen.contains("\x1b[2J"), "{seen:?}");
}

#[test]
fn a_signal_finds_the_callers_terminal_as_it_was() {
    use rustix::process::{Pid, Signal, kill_process};
    let world = World::new();
    world.run(&["session", "start"]).expect(0);
    for command in [["session", "exec"].as_slice(), &["exec"]] {
        let (mut master, inside) = terminal();
        let before = rustix::termios::tcgetattr(&inside).unwrap();
        let args = [command, &["-t", "--", "sh", "-c", "echo started; exec sleep 600"]].concat();
        let end = || Stdio::from(inside.try_clone().unwrap());
        let mut child =
            world.command(&args).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut seen = vec![];
        while !seen.ends_with(b"started\r\n") {
            let mut byte = [0];
            master.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        let local = |it: &rustix::termios::Termios| it.local_modes;
        assert_ne!(local(&rustix::termios::tcgetattr(&inside).unwrap()), local(&before));
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(143));
        assert_eq!(local(&rustix::termios::tcgetattr(&inside).unwrap()), local(&before));
    }
}
