//! The real process, killed for real: when it has said this or that, it gets a SIGKILL.
//!
//! The simulator in `engine` dies at every write; this is a sample with a real kill, a real
//! sandbox and a real launcher. Whoever comes next finds a journal that is whole, an effect that
//! happened once or not at all, and no process of the dead session.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::world::World;

/// What the agent does, under a name that no other process has.
fn agent(world: &World) -> String {
    let marker = world.home().to_string_lossy().replace('/', "-");
    format!("echo two > greeting.txt; : {marker}; sleep 0")
}

/// Runs the binary and kills it as soon as it says `word`; false if it ended without saying it.
fn kill_at(world: &World, args: &[&str], word: &str) -> bool {
    let mut command = world.command(args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stderr.take().unwrap());
    let heard = said.lines().map_while(Result::ok).any(|line| line.contains(word));
    child.kill().unwrap();
    child.wait().unwrap();
    heard
}

/// Waits until no process of this host carries the agent's marker.
fn await_no_process(world: &World) {
    let marker = world.home().to_string_lossy().replace('/', "-");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = entries.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
        // The killed process itself was reaped; whoever is left belongs to its session.
        if !lines.any(|line| String::from_utf8_lossy(&line).contains(&marker)) {
            return;
        }
        assert!(std::time::Instant::now() < until, "a process outlived its session's supervisor");
        std::thread::yield_now();
    }
}

fn shown(world: &World) -> serde_json::Value {
    world.run(&["show", "--json"]).object(0)
}

/// The one branch and the one effect that there must be once the run is applied.
fn judge_applied(world: &World) {
    let view = shown(world);
    assert_eq!(view["state"], "applied");
    let branches = world.git(&["for-each-ref", "--format=%(refname)", "refs/heads/cofferdam"]);
    assert_eq!(branches.lines().count(), 1, "{branches}");
    assert_eq!(world.git(&["rev-list", "--count", &format!("main..{branches}")]), "1");
    assert_eq!(world.git(&["show", &format!("{branches}:greeting.txt")]), "two");
    world.run(&["journal", "verify"]).expect(0);
}

fn approve(world: &World) {
    let digest = shown(world)["digest"].as_str().unwrap().to_owned();
    world.run(&["approve", "--digest", &digest]).expect(0);
}

#[test]
fn an_assist_run_that_is_killed_while_it_works_is_interrupted_and_leaves_nothing() {
    for word in ["session for work", "calling sh"] {
        let world = World::new();
        let agent = agent(&world);
        assert!(kill_at(&world, &["run", "--task", "t", "--", "sh", "-c", &agent], word));
        // Any command that writes settles it first.
        world.run(&["prune"]).expect(0);
        assert_eq!(shown(&world)["state"], "interrupted", "{word}");
        await_no_process(&world);
        assert_eq!(world.git(&["branch", "--list", "cofferdam/*"]), "");
        world.run(&["journal", "verify"]).expect(0);
    }
}

#[test]
fn an_autonomous_run_that_is_killed_goes_on_when_it_is_resumed() {
    for word in ["session for work", "calling sh", "result frozen"] {
        let world = World::new();
        let agent = agent(&world);
        let args = ["run", "--profile", "autonomous", "--task", "t", "--", "sh", "-c", &agent];
        assert!(kill_at(&world, &args, word));
        world.run(&["resume"]).expect(0);
        assert_eq!(shown(&world)["state"], "awaiting_approval", "{word}");
        approve(&world);
        judge_applied(&world);
        await_no_process(&world);
    }
}

#[test]
fn an_approval_that_is_killed_half_way_is_finished_once() {
    for word in ["approved by", "writing "] {
        let world = World::new();
        let agent = agent(&world);
        world.run(&["run", "--task", "t", "--", "sh", "-c", &agent]).expect(0);
        let digest = shown(&world)["digest"].as_str().unwrap().to_owned();
        assert!(kill_at(&world, &["approve", "--digest", &digest], word));
        // Asking again is no error, whether the effect had happened or not.
        world.run(&["approve", "--digest", &digest]).expect(0);
        judge_applied(&world);
    }
}

/// Writes a file that is different each time, so that a setup that ran twice would be seen.
const SETUP: &str = "extends = \"autonomous\"\n[session]\nsetup = [\"dd\", \"if=/dev/urandom\", \
    \"of=made.bin\", \"bs=64\", \"count=1\", \"status=none\"]\n";

#[test]
fn a_run_that_is_killed_after_its_checkpoint_is_restored_from_it() {
    let world = World::new();
    world.configure("profiles/long.toml", SETUP);
    let script = format!("git hash-object made.bin; {}", agent(&world));
    let args = ["run", "--profile", "long", "--task", "t", "--", "sh", "-c", &script];
    assert!(kill_at(&world, &args, "calling sh"));
    assert_eq!(shown(&world)["state"], "working");
    let kept = events(&world, "run.checkpointed");
    assert_eq!(kept.len(), 1);
    world.run(&["resume"]).expect(0);
    assert_eq!(shown(&world)["state"], "awaiting_approval");
    // It was not made anew: what the agent found is what the checkpoint held and the result holds.
    assert_eq!(events(&world, "run.checkpointed"), kept);
    assert_eq!(events(&world, "run.resumed").len(), 1);
    let found = world.run(&["show", "--output"]).expect(0);
    approve(&world);
    judge_applied(&world);
    let store = format!("--git-dir={}", world.state().join("store/sha1.git").display());
    let made = format!("{}:made.bin", kept[0]["tree"].as_str().unwrap());
    assert_eq!(world.git(&[&store, "rev-parse", &made]), found.trim_end());
    let branch = world.git(&["for-each-ref", "--format=%(refname)", "refs/heads/cofferdam"]);
    assert_eq!(world.git(&["rev-parse", &format!("{branch}:made.bin")]), found.trim_end());
    await_no_process(&world);
}

/// What the newest run's events of one type say.
fn events(world: &World, kind: &str) -> Vec<serde_json::Value> {
    let all = world.run(&["events", "--json"]).object(0);
    let all = all["events"].as_array().unwrap().iter();
    all.filter(|it| it["body"]["type"] == kind).map(|it| it["body"]["data"].clone()).collect()
}

/// How many processes of this host carry the world's marker.
fn marked(world: &World) -> usize {
    let marker = world.home().to_string_lossy().replace('/', "-");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(&marker)).count()
}

#[test]
fn a_stop_leaves_no_process_however_they_cling_to_life() {
    let world = World::new();
    let marker = world.home().to_string_lossy().replace('/', "-");
    let deaf = "trap '' TERM INT HUP QUIT; while :; do sleep 600; done";
    let script = format!(
        "trap '' TERM INT HUP QUIT
         for i in 1 2 3; do sh -c \"{deaf} # {marker}\" & done
         setsid sh -c \"{deaf} # {marker}\" < /dev/null > /dev/null 2>&1 &
         while :; do wait; done"
    );
    let run = world.run(&["run", "--detach", "--json", "--", "sh", "-c", &script]).object(0);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    // The control: they are seen as long as the run goes on. The agent names the marker, too.
    while marked(&world) < 5 {
        assert!(std::time::Instant::now() < until, "the agent's processes are not there");
        std::thread::yield_now();
    }
    let run = run["run"].as_str().unwrap();
    let stopped = world.run(&["stop", run, "--json"]).object(0);
    assert_eq!(marked(&world), 0, "a process outlived the stop of its run");
    assert_eq!(stopped["state"], "cancelled");
}

#[test]
fn a_merge_and_a_rollback_that_are_killed_half_way_are_finished_once() {
    let world = World::new();
    let agent = agent(&world);
    world.run(&["run", "--task", "t", "--", "sh", "-c", &agent]).expect(0);
    approve(&world);
    world.git(&["branch", "target"]);
    let base = world.git(&["rev-parse", "target"]);
    let into = ["merge", "--into", "target"];
    for (args, text) in [(&into[..], "two"), (&["rollback"], "hello")] {
        assert!(kill_at(&world, args, "moving "), "{args:?}");
        // Asking again is no error, whether the effect had happened or not.
        world.run(args).expect(0);
        assert_eq!(world.git(&["show", "target:greeting.txt"]), text);
    }
    assert_eq!(world.git(&["rev-parse", "target"]), base);
    assert_eq!(
        (events(&world, "effect.intended").len(), events(&world, "effect.completed").len()),
        (3, 3)
    );
    world.run(&["journal", "verify"]).expect(0);
    await_no_process(&world);
}

#[test]
fn a_run_that_is_killed_in_its_gate_goes_on_with_its_result() {
    let world = World::new();
    world.configure(
        "profiles/gated.toml",
        "[gate]\ndetect = false\n[[gate.commands]]\nname = \"own\"\nkind = \"test\"\nrequired = true\n\
         timeout_ms = 60000\nargv = [\"grep\", \"-q\", \"two\", \"greeting.txt\"]\n",
    );
    let agent = agent(&world);
    let args = ["run", "--profile", "gated", "--task", "t", "--", "sh", "-c", &agent];
    assert!(kill_at(&world, &args, "session for check"));
    // Nothing of the session is needed any more: whoever writes next settles it.
    world.run(&["prune"]).expect(0);
    let view = shown(&world);
    assert_eq!(
        (view["state"].as_str(), view["verdict"].as_str()),
        (Some("awaiting_approval"), Some("pass"))
    );
    assert_eq!(events(&world, "run.worked").len(), 1, "the agent did not work twice");
    approve(&world);
    judge_applied(&world);
    await_no_process(&world);
}
