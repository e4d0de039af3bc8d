//! What a session is opened on, through the binary: carried directories, the repository's own path,
//! setup and its checkpoint, repositories by path and by URL, and limits of disk and files.

use serde_json::Value;

use crate::snapshot::Snapshot;
use crate::world::{World, text};

/// What the newest run's driver printed.
fn printed(world: &World) -> String {
    world.run(&["show", "--output"]).expect(0)
}

/// The newest run's events of one type.
fn events(world: &World, kind: &str) -> Vec<Value> {
    let all = world.run(&["events", "--json"]).object(0);
    let all = all["events"].as_array().unwrap().iter();
    all.filter(|it| text(&it["body"], "type") == kind)
        .map(|it| it["body"]["data"].clone())
        .collect()
}

fn url(world: &World) -> String {
    format!("file://{}", world.cwd.display())
}

#[test]
fn a_carried_directory_is_there_and_stays_as_it_is() {
    let world = World::new();
    std::fs::write(world.cwd.join(".gitignore"), "target\nsrc/target\n").unwrap();
    world.commit("ignore");
    std::fs::create_dir(world.cwd.join("target")).unwrap();
    std::fs::write(world.cwd.join("target/built"), "built before\n").unwrap();
    let before = Snapshot::of(&world.cwd);
    let script = "cat target/built; echo over > target/built; echo new > target/new; \
                  echo bye > greeting.txt";
    let carried = ["--carry", "target", "--", "sh", "-c", script];
    assert_eq!(world.run(&[&["exec"], &carried[..]].concat()).expect(0), "built before\n");
    let run = world.run(&[&["run", "--json"], &carried[..]].concat()).object(0);
    assert_eq!((printed(&world).as_str(), &run["files_changed"]), ("built before\n", &1.into()));
    world.run(&["session", "start", "--carry", "target"]).expect(0);
    let seen = world.run(&["session", "exec", "--", "sh", "-c", script]).expect(0);
    assert_eq!(seen, "built before\n");
    world.run(&["session", "end"]).expect(0);
    before.assert_kept(&world.cwd, &[]);
    // The control: it is not there unless it is asked for, and nothing else can be asked for.
    world.run(&["exec", "--", "test", "-e", "target"]).expect(1);
    let done = world.run(&["exec", "--carry", "src", "--", "true"]);
    assert_eq!(done.refusal(125), "policy_denied");
    let done = world.run(&["exec", "--carry", "node_modules", "--", "true"]);
    assert_eq!(done.refusal(125), "request_invalid");
}

#[test]
fn a_workspace_can_be_at_the_repositorys_own_path() {
    let world = World::new();
    world.configure("profiles/own.toml", "[session]\nworkspace_path = \"same\"\n");
    let own = format!("{}\n", world.cwd.display());
    assert_eq!(world.run(&["exec", "--profile", "own", "--", "pwd"]).expect(0), own);
    assert_eq!(world.run(&["exec", "--", "pwd"]).expect(0), "/workspace\n");
    let script = format!("cd '{}' && pwd && echo bye > greeting.txt", world.cwd.display());
    let args = ["run", "--json", "--profile", "own", "--", "sh", "-c", &script];
    let run = world.run(&args).object(0);
    assert_eq!((text(&run, "state"), printed(&world)), ("awaiting_approval", own));
    assert_eq!(std::fs::read_to_string(world.cwd.join("greeting.txt")).unwrap(), "hello\n");
}

/// `sh`, and the libraries that it says it needs.
fn unpack_image(root: &std::path::Path) {
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/sh", root.join("bin/sh")).unwrap();
    let output = std::process::Command::new("ldd").arg("/bin/sh").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for library in said.split_whitespace().filter(|it| it.starts_with('/')) {
        let to = root.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(library, to).unwrap();
    }
}

#[test]
fn a_profile_names_an_image_whose_programs_there_are() {
    let world = World::new();
    let image = tempfile::tempdir().unwrap();
    unpack_image(image.path());
    let profile = |root: &std::path::Path, more: &str| {
        let text = format!("{more}[session]\nrootfs = \"{}\"\n", root.display());
        world.configure("profiles/image.toml", &text);
    };
    let exec = ["exec", "--profile", "image", "--", "sh", "-c"];
    let script = "echo bye > greeting.txt; command -v sh; command -v cat";
    profile(image.path(), "");
    assert_eq!(world.run(&[&exec[..], &[script]].concat()).expect(127), "/bin/sh\n");
    let run = world.run(&["run", "--json", "--profile", "image", "--", "sh", "-c", script]);
    assert_eq!((text(&run.object(0), "state"), printed(&world).as_str()), {
        ("awaiting_approval", "/bin/sh\n")
    });
    // Control: without the image there are those of the host.
    let on_host =
        world.run(&["exec", "--", "sh", "-c", "command -v cat; command -v git"]).expect(0);
    assert_eq!(on_host.lines().count(), 2, "{on_host}");
    // What is none, what would show the state of runs, and what mounts nothing.
    let refused = || world.run(&[&exec[..], &["true"]].concat()).refusal(125);
    for root in [world.cwd.join("src"), "/".into(), "relative".into(), world.state()] {
        profile(&root, "");
        assert_eq!(refused(), "configuration_invalid", "{}", root.display());
    }
    profile(image.path(), "extends = \"flat\"\n");
    assert_eq!(refused(), "configuration_invalid");
}

#[test]
fn setup_runs_before_work_and_its_result_is_a_checkpoint() {
    let world = World::new();
    let setup = "[session]\nsetup = [\"sh\", \"-c\", \"echo made > made.txt; exit 0\"]\n";
    world.configure("profiles/own.toml", setup);
    world.configure("profiles/broken.toml", &setup.replace("exit 0", "exit 9"));
    let agent = ["--", "sh", "-c", "cat made.txt; echo bye > greeting.txt"];
    let run = world.run(&[&["run", "--json", "--profile", "own"], &agent[..]].concat()).object(0);
    assert_eq!((printed(&world).as_str(), &run["files_changed"]), ("made\n", &2.into()));
    let kept = events(&world, "run.checkpointed");
    assert_eq!((kept.len(), text(&kept[0], "label")), (1, "setup"));
    let failed =
        world.run(&[&["run", "--json", "--profile", "broken"], &agent[..]].concat()).object(10);
    assert_eq!(text(&failed["problem"], "code"), "driver_failed");
    assert_eq!(events(&world, "call.started").len(), 1, "the agent was not started");
}

#[test]
fn a_change_can_be_a_revision_of_the_repository() {
    let world = World::new();
    world.git(&["checkout", "-q", "-b", "elsewhere"]);
    std::fs::write(world.cwd.join("greeting.txt"), "from elsewhere\n").unwrap();
    std::fs::write(world.cwd.join("bytes"), [0, 159, 146, 150]).unwrap();
    let made = world.commit("by another agent");
    world.git(&["checkout", "-q", "main"]);
    for revision in ["elsewhere", &made] {
        let args = ["run", "--json", "--driver", "patch", "--from", revision];
        let run = world.run(&args).object(0);
        assert_eq!((text(&run, "state"), &run["files_changed"]), ("awaiting_approval", &2.into()));
        let approved =
            world.run(&["approve", "--digest", text(&run, "digest"), "--json"]).object(0);
        let tree = |commit: &str| world.git(&["rev-parse", &format!("{commit}^{{tree}}")]);
        assert_eq!(tree(text(&approved, "commit")), tree(&made));
    }
    let args = ["run", "--json", "--driver", "patch", "--from", "nowhere"];
    let run = world.run(&args).object(2);
    assert_eq!(text(&run["problem"], "code"), "revision_unknown");
}

#[test]
fn a_repository_is_named_by_path_or_by_url_from_anywhere() {
    let world = World::new();
    let before = Snapshot::of(&world.cwd);
    let from_home = |args: &[&str]| {
        let output = world.command(args).current_dir(world.home()).output().unwrap();
        crate::world::Done::of(output)
    };
    let (path, url) = (world.cwd.to_str().unwrap(), url(&world));
    for repository in [path, &format!("{path}/src"), &url] {
        let seen = from_home(&["exec", "--repo", repository, "--", "cat", "greeting.txt"]);
        assert_eq!(seen.expect(0), "hello\n", "{repository}");
        let started = from_home(&["session", "start", "--repo", repository, "--json"]).object(0);
        let session = text(&started, "session");
        let seen = from_home(&["session", "exec", session, "--", "cat", "greeting.txt"]);
        assert_eq!(seen.expect(0), "hello\n", "{repository}");
        from_home(&["session", "end", session]).expect(0);
        let script = "echo bye > greeting.txt";
        let run = ["run", "--json", "--repo", repository, "--", "sh", "-c", script];
        let run = from_home(&run).object(0);
        assert_eq!(text(&run, "state"), "awaiting_approval", "{repository}");
        let diff = from_home(&["diff", text(&run, "run")]).expect(0);
        assert!(diff.contains("-hello\n+bye\n"), "{diff}");
    }
    // What is approved for a URL is written to our mirror of it.
    let runs = from_home(&["list", "--json", "--limit", "1"]).object(0);
    let run = text(&runs["runs"][0], "run");
    let digest = text(&runs["runs"][0], "digest");
    let approved = from_home(&["approve", run, "--digest", digest, "--json"]).object(0);
    assert_eq!(text(&approved, "state"), "applied");
    before.assert_kept(&world.cwd, &[]);
    let absent = from_home(&["exec", "--repo", &format!("{url}-absent"), "--", "true"]);
    assert_eq!(absent.refusal(125), "repository_unsupported");
}

/// A profile with these limits, and a session of it in which a script is called.
fn limited(world: &World, limits: &str, script: &str) -> Value {
    world.configure("profiles/own.toml", &format!("[limits]\n{limits}\n"));
    world.run(&["session", "start", "--profile", "own"]).expect(0);
    let args = ["session", "exec", "--json", "--", "sh", "-c", script];
    let done = world.run(&args);
    let called: Value = serde_json::from_str(&done.stdout).unwrap();
    // The session is there still, so that what is too much can be removed.
    let listed = world.run(&["session", "list", "--json"]).object(0);
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    world.run(&["session", "end"]).expect(0);
    called
}

#[test]
fn a_session_that_writes_more_than_its_limit_is_stopped_and_told_why() {
    let world = World::new();
    let bytes = "head -c 20000000 /dev/zero > large";
    let files = "mkdir many; cd many; for i in $(seq 1500); do : > $i; done";
    let unnamed = "for i in 1 2; do eval \"exec $((i + 2))> u; rm u\"; done; \
                   head -c 9000000 /dev/zero >&3; head -c 9000000 /dev/zero >&4";
    let limited_to = [
        ("disk_bytes = 10000000", bytes),
        ("disk_bytes = 10000000", unnamed),
        ("inodes = 1000", files),
    ];
    for (limits, script) in limited_to {
        // Longer than any test, so that only the limit can end it.
        let called = limited(&world, limits, &format!("{script}; exec sleep 6000"));
        let denials = called["denials"].as_array().unwrap();
        let rules: Vec<_> = denials.iter().map(|it| text(it, "rule")).collect();
        assert_eq!((&called["exit_code"], rules), (&Value::Null, vec!["limit.disk"]), "{called}");
        // The control: with more room the same script comes to its end.
        let called = limited(&world, "", script);
        assert_eq!(called["exit_code"], 0, "{called}");
        assert_eq!(called["denials"], serde_json::json!([]));
    }
}

/// The kernel refuses one descriptor too many and tells nobody; who stays without one is seen.
#[test]
fn a_process_that_has_no_descriptor_left_is_told_of_once() {
    let world = World::new();
    let hold = |count: usize| {
        format!(
            "mkfifo full; python3 -c '\nimport os, time\nkept = []\ntry:\n\
             \x20while len(kept) < {count}: kept.append(os.dup(0))\nexcept OSError: pass\n\
             os.write(1, b\".\"); time.sleep(6000)' > full & head -c1 full > /dev/null; "
        )
    };
    // As long as it takes, and the agent sees it in the session.
    let until_told = "until grep -q limit.open_files /run/cofferdam/denials.jsonl; \
                      do sleep 0.1; done; kill $!";
    let called = limited(&world, "open_files = 64", &format!("{}{until_told}", hold(100)));
    let denials = called["denials"].as_array().unwrap();
    let [one] = &denials[..] else { panic!("{called}") };
    assert_eq!((text(one, "rule"), &one["count"]), ("limit.open_files", &Value::from(1)));
    assert_eq!((&one["process"]["argv0"], text(one, "attribution")), (&"python3".into(), "exact"));
    // The control: with fewer of them a look, which that of the disk is, says nothing of it.
    let too_much = "head -c 20000000 /dev/zero > large; exec sleep 6000";
    let limits = "open_files = 64\ndisk_bytes = 10000000";
    let called = limited(&world, limits, &format!("{}{too_much}", hold(40)));
    let denials = called["denials"].as_array().unwrap();
    let rules: Vec<_> = denials.iter().map(|it| text(it, "rule")).collect();
    assert_eq!(rules, ["limit.disk"], "{called}");
}

#[test]
fn what_a_background_call_leaves_is_stopped_by_the_disk_limit_too() {
    let world = World::new();
    world.configure("profiles/own.toml", "[limits]\ndisk_bytes = 10000000\n");
    world.run(&["session", "start", "--profile", "own"]).expect(0);
    let writes = "(read go < /tmp/go; for i in 1 2 3; do head -c 5000000 /dev/zero > $i; done; \
                  exec sleep 6000) > /dev/null 2>&1 < /dev/null & echo $! > /tmp/pid";
    world.run(&["session", "exec", "--", "mkfifo", "/tmp/go"]).expect(0);
    world.run(&["session", "exec", "--background", "--", "sh", "-c", writes]).expect(0);
    let alive = ["session", "exec", "--", "sh", "-c", "kill -0 $(cat /tmp/pid)"];
    world.run(&alive).expect(0);
    // Longer than any test, so that only the limit can end it.
    let waits = "echo go > /tmp/go; exec sleep 6000";
    let done = world.run(&["session", "exec", "--json", "--", "sh", "-c", waits]);
    let called: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(text(&called["denials"][0], "rule"), "limit.disk", "{called}");
    world.run(&alive).expect(1);
}

/// What the kernel counts for a user, wherever in the user's namespaces it is taken.
#[test]
fn a_session_takes_a_part_of_what_the_user_has_of_the_kernel() {
    let world = World::new();
    let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap();
    let most: u64 = most.trim().parse().unwrap();
    let found = world.run(&["exec", "--", "python3", "-c", COUNTERS]).expect(0);
    let found: Vec<u64> = found.split_whitespace().map(|it| it.parse().unwrap()).collect();
    let [watchers, timers, terminals, refused] = found[..] else { panic!("{found:?}") };
    // Others may have taken some of what there is.
    for (what, taken, bound) in
        [("watchers", watchers, most / 4), ("timers", timers, 4096), ("terminals", terminals, 64)]
    {
        assert!((1..=bound).contains(&taken), "{what}: {taken} of {bound}");
    }
    assert_eq!(refused, libc_enosys(), "io_setup");
}

fn libc_enosys() -> u64 {
    rustix::io::Errno::NOSYS.raw_os_error().unsigned_abs().into()
}

const COUNTERS: &str = "
import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
def count(take, most):
    n = 0
    while n < most and take(): n += 1
    return n
event = (ctypes.c_int * 16)()
event[3] = 1
timer = ctypes.c_void_p()
def terminal():
    try: return os.openpty()
    except OSError: return None
watchers = count(lambda: c.inotify_init1(0) >= 0, 2000)
timers = count(lambda: c.timer_create(1, event, ctypes.byref(timer)) == 0, 200000)
terminals = count(terminal, 500)
c.syscall(206, 1, ctypes.byref(timer))
print(watchers, timers, terminals, ctypes.get_errno())
";

#[test]
fn what_a_background_call_leaves_lives_until_the_session_ends() {
    let world = World::new();
    world.run(&["session", "start"]).expect(0);
    world.run(&["session", "exec", "--", "mkfifo", "/tmp/meeting"]).expect(0);
    // What it leaves must not hold the outputs of this call, which are this test's pipes.
    let waits = "(read word < /tmp/meeting; echo $word > /tmp/heard; echo done > /tmp/meeting) \
                 > /dev/null 2>&1 < /dev/null & :";
    // A call in the foreground takes what it left with it: nobody reads, so nothing is heard.
    world.run(&["session", "exec", "--", "sh", "-c", waits]).expect(0);
    let says = "timeout 1 sh -c 'echo word > /tmp/meeting'";
    world.run(&["session", "exec", "--", "sh", "-c", says]).expect(124);
    world.run(&["session", "exec", "--background", "--", "sh", "-c", waits]).expect(0);
    let says = "echo word > /tmp/meeting; read answer < /tmp/meeting; cat /tmp/heard";
    assert_eq!(world.run(&["session", "exec", "--", "sh", "-c", says]).expect(0), "word\n");
}

#[test]
fn lists_and_events_are_narrowed_as_asked() {
    let mut world = World::new();
    let first = world.edit("echo 1 > greeting.txt");
    let second = world.edit("echo 2 > greeting.txt");
    let runs = |world: &World, more: &[&str]| -> Vec<String> {
        let listed = world.run(&[&["list", "--json"], more].concat()).object(0);
        let rows = listed["runs"].as_array().unwrap().iter();
        rows.map(|row| text(row, "run").to_owned()).collect()
    };
    assert_eq!(runs(&world, &[]), [text(&second, "run"), text(&first, "run")]);
    assert_eq!(runs(&world, &["--limit", "1"]), [text(&second, "run")]);
    assert_eq!(runs(&world, &["--here"]).len(), 2);
    let all = world.run(&["events", "--json"]).object(0);
    let later = world.run(&["events", "--json", "--from", "3"]).object(0);
    let (all, later) = (all["events"].as_array().unwrap(), later["events"].as_array().unwrap());
    assert_eq!(later.as_slice(), &all[3..]);
    world.cwd = world.cwd.with_file_name("other");
    std::fs::create_dir(&world.cwd).unwrap();
    world.git(&["init", "-q", "."]);
    assert_eq!((runs(&world, &["--here"]).len(), runs(&world, &[]).len()), (0, 2));
}

#[test]
fn protected_paths_escalate_and_yes_does_not_answer_that() {
    let world = World::new();
    let edit = |more: &[&str]| {
        let args = ["run", "--yes", "--json"];
        let agent = ["--", "sh", "-c", "echo 1 > src/lib.rs"];
        world.run(&[&args[..], more, &agent[..]].concat()).object(0)
    };
    let protected = edit(&["--protect", "src/**"]);
    let seen = (text(&protected, "state"), text(&protected, "verdict"));
    assert_eq!(seen, ("awaiting_approval", "escalate"));
    // The control: another path's protection is none of this one's.
    assert_eq!(text(&edit(&["--protect", "docs/**"]), "state"), "applied");
}
