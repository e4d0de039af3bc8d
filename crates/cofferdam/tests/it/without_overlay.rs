//! Where no overlay can be had a workspace is a copy, and the session's report says so.

use std::process::Command;

use crate::world::{Done, World, text};

/// Runs the binary where the home is `on`, in a mount namespace of the test's own.
fn with_home(world: &World, on: &str, args: &[&str]) -> Done {
    let script = format!(
        "set -e; home={home}; mkdir -p $home-lower $home-upper $home-work; {on}; exec \"$@\"",
        home = world.home().display()
    );
    let like = world.command::<&str>(&[]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_cofferdam")).args(args);
    command.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Done::of(command.current_dir(&world.cwd).output().unwrap())
}

/// A file system on which no upper layer can lie: another overlay.
const OVERLAY: &str = "mount -t overlay overlay -o userxattr,lowerdir=$home-lower,\
                       upperdir=$home-upper,workdir=$home-work $home";
const TMPFS: &str = "mount -t tmpfs tmpfs $home";

/// The kind of workspace that a run had, and what came of it.
fn run_on(on: &str) -> (String, String) {
    let world = World::new();
    let script = "echo goodbye > greeting.txt; rm src/lib.rs";
    let done = with_home(
        &world,
        &format!("{on}; mkdir -p $home/.config"),
        &["run", "--json", "--task", "t", "--", "sh", "-c", script],
    );
    let run = done.object(0);
    assert_eq!(
        (text(&run, "state"), run["files_changed"].as_u64()),
        ("awaiting_approval", Some(2))
    );
    (text(&run, "workspace").to_owned(), text(&run, "tree").to_owned())
}

#[test]
fn a_run_works_on_a_copy_and_says_so() {
    let (copied, by_copy) = run_on(OVERLAY);
    let (overlaid, by_overlay) = run_on(TMPFS);
    assert_eq!((&*copied, &*overlaid), ("copy", "overlay"));
    assert_eq!(by_copy, by_overlay, "the same change has the same result");
}
