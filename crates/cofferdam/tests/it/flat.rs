//! The profile `flat` through the binary, on a host without namespaces, which this one is made into:
//! in a user namespace of the test's own in which no further one can be made.

use std::process::Command;

use serde_json::Value;

use crate::world::{Done, World, text};

/// Runs the binary as an ordinary user to whom namespaces are refused.
pub(crate) fn masked(world: &World, args: &[&str]) -> Done {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --inh-caps=-all --ambient-caps=-all \"$@\"";
    let like = world.command::<&str>(&[]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000", "--keep-caps"]);
    command.args(["sh", "-c", script, "sh", env!("CARGO_BIN_EXE_cofferdam")]).args(args);
    command.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Done::of(command.current_dir(&world.cwd).output().unwrap())
}

#[test]
fn native_is_refused_with_the_remedy_and_flat_runs() {
    let world = World::new();
    let refused = masked(&world, &["exec", "--", "true"]);
    assert!(refused.stderr.contains("--profile flat"), "{refused:?}");
    assert_eq!(refused.refusal(125), "boundary_unavailable");
    let exec = |command: &[&str]| {
        let args = [&["exec", "--profile", "flat", "--"], command].concat();
        masked(&world, &args)
    };
    assert_eq!(exec(&["cat", "greeting.txt"]).expect(0), "hello\n");
    // The repository is not the workspace, and what lies beside it is out of reach.
    let repository = world.cwd.join("greeting.txt").display().to_string();
    assert_ne!(exec(&["cat", &repository]).code, Some(0));
    assert_ne!(exec(&["cat", &world.state().join("keys").display().to_string()]).code, Some(0));
    assert_ne!(exec(&["ls", &world.home().display().to_string()]).code, Some(0));
    // Control: without the mask the same repository is served by namespaces.
    assert_eq!(world.run(&["exec", "--", "cat", "greeting.txt"]).expect(0), "hello\n");
}

#[test]
fn a_run_goes_its_whole_way_and_says_what_it_lacked() {
    let world = World::new();
    let script = "echo goodbye > greeting.txt; rm src/lib.rs; git status --short";
    let args = ["run", "--json", "--profile", "flat", "--task", "t", "--", "sh", "-c", script];
    let run: Value = masked(&world, &args).object(0);
    assert_eq!(
        (text(&run, "state"), run["files_changed"].as_u64(), text(&run, "workspace")),
        ("awaiting_approval", Some(2), "copy")
    );
    let events = masked(&world, &["events", "--json", text(&run, "run")]).expect(0);
    assert!(events.contains("\"backend\":\"flat\""), "{events}");
    // The change is what it is behind any boundary.
    let native = world.run(&["run", "--json", "--task", "t", "--", "sh", "-c", script]).object(0);
    assert_eq!(text(&run, "tree"), text(&native, "tree"));
    masked(&world, &["approve", "--json", text(&run, "run"), "--digest", text(&run, "digest")])
        .object(0);
    let branch = format!("cofferdam/{}", text(&run, "run"));
    assert_eq!(world.git(&["show", &format!("{branch}:greeting.txt")]), "goodbye");
    let left = std::fs::read_dir(world.state().join("sessions")).unwrap().count();
    assert_eq!(left, 0, "a session's directory goes with it");
}

/// A driver of ours runs as a resident, into which an ordinary user's supervisor cannot look.
#[test]
fn a_rewrite_writes() {
    let world = World::new();
    std::fs::write(world.cwd.join("src/old.rs"), "fn a() { old() }\n").unwrap();
    world.commit("old");
    let rule = world.cwd.parent().unwrap().join("rule.yml");
    std::fs::write(&rule, "language: Rust\nrule: { pattern: old() }\nfix: new()\n").unwrap();
    let rule = rule.to_str().unwrap();
    let args = ["run", "--json", "--profile", "flat", "--task", "t", "--driver", "codemod"];
    let run: Value = masked(&world, &[&args[..], &["--rule", rule]].concat()).object(0);
    assert_eq!(text(&run, "state"), "awaiting_approval", "{run}");
    let native = world.run(&[&args[..2], &args[4..], &["--rule", rule]].concat()).object(0);
    assert_eq!(text(&run, "tree"), text(&native, "tree"));
}

#[test]
fn sessions_and_the_demo_work() {
    let world = World::new();
    let started = masked(&world, &["session", "start", "--json", "--profile", "flat"]).object(0);
    let session = text(&started, "session").to_owned();
    let kept = masked(&world, &["session", "exec", &session, "--", "sh", "-c", "echo x > kept"]);
    kept.expect(0);
    let read = masked(&world, &["session", "exec", &session, "--", "cat", "kept"]).expect(0);
    assert_eq!(read, "x\n");
    masked(&world, &["session", "end", &session]).expect(0);
    let demo = masked(&world, &["demo", "--yes", "--json", "--profile", "flat"]);
    let demo: Value = demo.object(0);
    assert_eq!(demo["ok"], true, "{demo}");
}

/// Without mounts and process numbers of its own a session is given what is no wall, and asks.
#[test]
fn a_flat_session_is_granted_executables_and_nothing_else() {
    let world = World::new();
    world.configure("profiles/mine.toml", "extends = \"flat\"\n[executables]\ndeny = [\"id\"]");
    let start = |profile| {
        let started = ["session", "start", "--json", "--profile", profile];
        let started: Value = masked(&world, &started).object(0);
        text(&started, "session").to_owned()
    };
    let session = start("mine");
    let data = world.cwd.parent().unwrap().join("data");
    std::fs::create_dir(&data).unwrap();
    let kinds = [format!("read:{}", data.display()), format!("write:{}", data.display())];
    let grant =
        |kind: &str| masked(&world, &["grant", &session, kind, "--reason", "a test", "--json"]);
    for kind in [&kinds[0], &kinds[1], "debug"] {
        let problem: Value = grant(kind).object(3);
        assert_eq!(text(&problem, "code"), "grant_unsupported", "{problem}");
        assert!(text(&problem, "detail").contains("a flat session"), "{problem}");
    }
    let exec = |command: &[&str]| {
        masked(&world, &[&["session", "exec", &session, "--"], command].concat())
    };
    let ask = "cd \"${COFFERDAM_DENIALS%/*}\" && \
               echo '{\"kind\":\"exec:id\",\"reason\":\"r\"}' > request-grant && \
               until grep -q pending grants.jsonl; do :; done";
    exec(&["sh", "-c", ask]).expect(0);
    assert_eq!(exec(&["id", "-u"]).refusal(125), "executable_denied");
    let granted: Value = grant("exec:id").object(0);
    assert_eq!(text(&granted, "state"), "live");
    exec(&["id", "-u"]).expect(0);
    masked(&world, &["session", "end", &session]).expect(0);
}
