//! Repositories, changes and commands that are not as one would wish: each ends with a documented
//! code, loses nothing, and leaves the repository as it was.
//!
//! What happens to the state directory itself is in `bad_state`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::snapshot::{ADDED, Snapshot};
use crate::world::{World, text};

/// What a run may add to a repository without a working tree.
const ADDED_BARE: &[&str] = &["objects", "refs/heads/cofferdam"];

/// A run whose agent is a shell script, whatever comes of it.
fn agent(world: &World, script: &str, code: i32) -> Value {
    world.run(&["run", "--json", "--task", "edit", "--", "sh", "-c", script]).object(code)
}

fn approve(world: &World, run: &Value) -> Value {
    let args = ["approve", text(run, "run"), "--digest", text(run, "digest"), "--json"];
    world.run(&args).object(0)
}

/// What the driver printed.
fn printed(world: &World) -> String {
    world.run(&["show", "--output"]).expect(0)
}

fn problem_code(run: &Value) -> &str {
    text(&run["problem"], "code")
}

/// The findings of every check, as `check: code`.
fn findings(run: &Value) -> Vec<String> {
    let checks = run["checks"].as_array().unwrap().iter();
    let all = checks.flat_map(|check| check["findings"].as_array().unwrap());
    all.map(|it| format!("{}: {}", text(it, "check"), text(it, "code"))).collect()
}

/// A clone of the world's repository beside it, in which commands run from now on.
fn move_to_clone(world: &mut World, options: &[&str]) -> Snapshot {
    let url = format!("file://{}", world.cwd.display());
    world.git(&["config", "uploadpack.allowFilter", "true"]);
    world.git(&[&["clone", "-q"], options, &[&url, "../clone"]].concat());
    world.cwd = world.cwd.with_file_name("clone");
    Snapshot::of(&world.cwd)
}

/// What is done to a directory before a command is tried in it.
type Setup<'a> = &'a dyn Fn(&World);

#[test]
fn what_is_no_repository_is_refused_and_left_alone() {
    let setups: [(Setup<'_>, &[&str], &str); 6] = [
        (&|world| drop(std::fs::write(world.cwd.join("a"), "")), &[], "not_a_repository"),
        (
            &|world| drop(std::fs::write(world.cwd.join(".git"), "gitdir: no")),
            &[],
            "not_a_repository",
        ),
        (&|world| drop(std::fs::create_dir(world.cwd.join(".git"))), &[], "not_a_repository"),
        (&|world| drop(world.git(&["init", "-q", "."])), &[], "unborn_branch"),
        (
            &|world| {
                world.git(&["init", "-q", "."]);
                world.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
            },
            &["--base", "nope"],
            "revision_unknown",
        ),
        (
            &|world| {
                world.git(&["init", "-q", "."]);
                std::fs::write(world.cwd.join(".git/config"), "[core").unwrap();
            },
            &[],
            "repository_unsupported",
        ),
    ];
    for (setup, options, code) in setups {
        let world = World::empty();
        setup(&world);
        let before = Snapshot::of(&world.cwd);
        let args = [&["run"], options, &["--", "sh", "-c", "echo 1 > a"]].concat();
        assert_eq!(world.run(&args).refusal(2), code);
        before.assert_kept(&world.cwd, &[]);
        assert_eq!(world.run(&["list", "--json"]).object(0)["runs"], serde_json::json!([]));
    }
}

#[test]
fn a_shallow_repository_works_with_the_history_that_it_has() {
    let mut world = World::new();
    std::fs::write(world.cwd.join("greeting.txt"), "hello again\n").unwrap();
    world.commit("second");
    let before = move_to_clone(&mut world, &["--depth", "1"]);
    let run = agent(&world, "git rev-list --count HEAD; echo bye > greeting.txt", 0);
    assert_eq!(printed(&world), "1\n");
    before.assert_kept(&world.cwd, &[]);
    let approved = approve(&world, &run);
    let shown = world.git(&["show", &format!("{}:greeting.txt", text(&approved, "commit"))]);
    assert_eq!(shown, "bye");
    before.assert_kept(&world.cwd, ADDED);
    world.git(&["fsck", "--strict"]);
    assert_eq!(
        world.run(&["run", "--base", "HEAD~1", "--", "true"]).refusal(2),
        "revision_unknown"
    );
}

#[test]
fn a_partial_repository_works_as_far_as_its_objects_go_and_nothing_is_fetched() {
    let mut world = World::new();
    std::fs::write(world.cwd.join("greeting.txt"), "hello again\n").unwrap();
    world.commit("second");
    let origin = world.cwd.clone();
    let before = move_to_clone(&mut world, &["--filter=blob:none"]);
    let run = agent(&world, "echo bye > greeting.txt", 0);
    approve(&world, &run);
    before.assert_kept(&world.cwd, ADDED);
    let before = Snapshot::of(&world.cwd);
    let args = ["run", "--json", "--base", "HEAD~1", "--", "sh", "-c", "echo 1 > a"];
    let run = world.run(&args).object(2);
    assert_eq!((text(&run, "state"), problem_code(&run)), ("failed", "repository_unsupported"));
    assert!(text(&run["problem"], "hint").contains("git fetch"), "{run}");
    before.assert_kept(&world.cwd, &[]);

    // What another clone has of the same commit does not count.
    let url = format!("file://{}", origin.display());
    world.git(&["clone", "-q", "--no-checkout", "--filter=blob:none", &url, "../empty"]);
    world.cwd = world.cwd.with_file_name("empty");
    let before = Snapshot::of(&world.cwd);
    let run = agent(&world, "echo bye > greeting.txt", 2);
    assert_eq!(problem_code(&run), "repository_unsupported");
    before.assert_kept(&world.cwd, &[]);
    world.cwd = origin;
    assert_eq!(text(&agent(&world, "echo 1 > a", 0), "state"), "awaiting_approval");
}

#[test]
fn a_bare_repository_gets_its_branch_and_its_merge() {
    let mut world = World::new();
    let before = move_to_clone(&mut world, &["--bare"]);
    let base = world.git(&["rev-parse", "main"]);
    let run = agent(&world, "echo bye > greeting.txt", 0);
    before.assert_kept(&world.cwd, &[]);
    let approved = approve(&world, &run);
    before.assert_kept(&world.cwd, ADDED_BARE);
    // HEAD names main, and nothing is checked out here.
    world.run(&["merge", "--into", "main"]).expect(0);
    assert_eq!(world.git(&["rev-parse", "main"]), text(&approved, "commit"));
    world.run(&["rollback"]).expect(0);
    assert_eq!(world.git(&["rev-parse", "main"]), base);
    before.assert_kept(&world.cwd, &[ADDED_BARE, &["refs/heads/main"]].concat());
}

#[test]
fn a_submodule_stays_the_commit_that_it_was() {
    let world = World::new();
    let (url, allow) = (world.cwd.with_file_name("inner"), "protocol.file.allow=always");
    world.git(&["clone", "-q", ".", "../inner"]);
    world.git(&["-c", allow, "submodule", "--quiet", "add", url.to_str().unwrap(), "sub"]);
    world.commit("a submodule");
    let before = Snapshot::of(&world.cwd);
    let run = agent(&world, "ls sub; echo bye > greeting.txt; echo 1 > sub/new", 0);
    assert_eq!(printed(&world), "", "it is an empty directory inside");
    assert_eq!(run["left_out"], serde_json::json!(["sub: inside a submodule"]));
    assert_eq!(findings(&run), ["complete: left_out"]);
    assert_eq!((text(&run, "verdict"), &run["files_changed"]), ("escalate", &1.into()));
    let approved = approve(&world, &run);
    let entry = |commit: &str| world.git(&["ls-tree", commit, "sub"]);
    assert_eq!(entry(text(&approved, "commit")), entry("HEAD"));
    before.assert_kept(&world.cwd, ADDED);
}

#[test]
fn lfs_pointers_are_files_like_others_and_no_filter_runs() {
    let world = World::new();
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n",
        "0".repeat(64)
    );
    std::fs::write(world.cwd.join("large.bin"), &pointer).unwrap();
    std::fs::write(world.cwd.join(".gitattributes"), "*.bin filter=lfs diff=lfs -text\n").unwrap();
    world.commit("pointers");
    let mark = world.home().join("filtered");
    let filter = format!("sh -c 'touch {}; cat'", mark.display());
    for name in ["clean", "smudge"] {
        world.git(&["config", &format!("filter.lfs.{name}"), &filter]);
    }
    let before = Snapshot::of(&world.cwd);
    let run = agent(&world, "cat large.bin; echo bye > greeting.txt; echo more >> large.bin", 0);
    assert_eq!(printed(&world), pointer);
    let approved = approve(&world, &run);
    let blob = format!("{}:large.bin", text(&approved, "commit"));
    assert_eq!(world.git(&["cat-file", "blob", &blob]), pointer + "more");
    before.assert_kept(&world.cwd, ADDED);
    assert!(!mark.exists());
    // The filter is such that it would have been seen.
    std::fs::remove_file(world.cwd.join("large.bin")).unwrap();
    world.git(&["checkout", "--", "large.bin"]);
    assert!(mark.exists());
}

#[test]
fn links_out_of_the_tree_are_kept_and_not_followed_and_new_ones_are_refused() {
    use std::os::unix::fs::symlink;
    let world = World::new();
    let outside = world.home().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "host-only\n").unwrap();
    symlink(&outside, world.cwd.join("dir")).unwrap();
    symlink("../../../../../../etc/shadow", world.cwd.join("up")).unwrap();
    symlink("loop", world.cwd.join("loop")).unwrap();
    world.commit("links");
    let before = (Snapshot::of(&world.cwd), Snapshot::of(&outside));
    let run = agent(&world, "cat dir/secret up; echo 1 > dir/new; echo bye > greeting.txt", 0);
    assert!(!printed(&world).contains("host-only"));
    assert_eq!(run["files_changed"], 1);
    let approved = approve(&world, &run);
    let links = |commit: &str| world.git(&["ls-tree", commit, "dir", "up", "loop"]);
    assert_eq!(links(text(&approved, "commit")), links("HEAD"));

    let more = "ln -s /etc/shadow a; ln -sfn ../../out up; rm dir; mkdir dir; ln -s ../src dir/in";
    let run = agent(&world, more, 4);
    assert_eq!(problem_code(&run), "gate_failed");
    let outside_of_tree = findings(&run).iter().filter(|it| it.ends_with("outside")).count();
    assert_eq!(outside_of_tree, 2, "{run}");
    before.0.assert_kept(&world.cwd, ADDED);
    before.1.assert_kept(&outside, &[]);
}

#[test]
fn names_of_any_bytes_are_kept_and_shown_escaped() {
    let world = World::new();
    let names = [&b"not utf-8 \xff\xfe"[..], b"new\nline", b"color \x1b[31m", b"-dash", b"\"quote"];
    for name in names {
        let file = world.cwd.join(Path::new(std::ffi::OsStr::from_bytes(name)));
        std::fs::write(file, "one\n").unwrap();
    }
    world.commit("names");
    let before = Snapshot::of(&world.cwd);
    let run =
        agent(&world, "for file in ./*; do [ -d \"$file\" ] || echo two >> \"$file\"; done", 0);
    assert_eq!((text(&run, "verdict"), &run["files_changed"]), ("pass", &6.into()), "{run}");
    for shown in [world.run(&["diff"]).expect(0), world.run(&["review"]).expect(0)] {
        assert!(shown.chars().all(|c| "\n\t".contains(c) || !c.is_control()), "{shown:?}");
    }
    let approved = approve(&world, &run);
    let commit = text(&approved, "commit");
    let changed = world.git(&["diff", "--numstat", "HEAD", commit]);
    assert!(changed.lines().count() == 6 && changed.contains("\\377\\376"), "{changed:?}");
    before.assert_kept(&world.cwd, ADDED);
    world.run(&["evidence", "export", "-o", "../bundle"]).expect(0);
    world.run(&["evidence", "verify", "../bundle"]).expect(0);
    // A new one that does not show as it is fails the gate.
    let run = agent(&world, "echo 1 > \"$(printf 'two\\nlines')\"", 4);
    assert_eq!(findings(&run), ["unicode: deceptive_path"]);
}

#[test]
fn two_gibibytes_in_the_working_tree_are_not_looked_at_and_from_a_session_left_out() {
    let world = World::new();
    let large = std::fs::File::create(world.cwd.join("dirty.bin")).unwrap();
    large.set_len(2 << 30).unwrap();
    let before = Snapshot::of(&world.cwd);
    let run = agent(&world, "ls; truncate -s 2G large.bin; echo bye > greeting.txt", 0);
    assert!(!printed(&world).contains("dirty.bin"));
    let reason = "large.bin: larger than what a result may hold";
    assert_eq!(run["left_out"], serde_json::json!([reason]));
    assert_eq!((text(&run, "verdict"), &run["files_changed"]), ("escalate", &1.into()));
    let approved = approve(&world, &run);
    let tree = world.git(&["ls-tree", "--name-only", text(&approved, "commit")]);
    assert_eq!(tree, "greeting.txt\nsrc");
    before.assert_kept(&world.cwd, ADDED);
}

#[test]
fn two_gibibytes_in_the_base_commit_are_there_inside_and_stay_as_they_are() {
    let world = World::new();
    let large = std::fs::File::create(world.cwd.join("large.bin")).unwrap();
    large.set_len(2 << 30).unwrap();
    world.git(&["-c", "core.compression=1", "add", "large.bin"]);
    world.commit("large");
    let before = Snapshot::of(&world.cwd);
    let script = "wc -c < large.bin; printf x | dd of=large.bin conv=notrunc status=none; \
                  echo bye > greeting.txt";
    let run = agent(&world, script, 0);
    assert_eq!(printed(&world), "2147483648\n");
    let reason = "large.bin: larger than what a result may hold";
    assert_eq!(run["left_out"], serde_json::json!([reason]));
    assert_eq!((text(&run, "verdict"), &run["files_changed"]), ("escalate", &1.into()));
    let approved = approve(&world, &run);
    let entry = |commit: &str| world.git(&["ls-tree", commit, "large.bin"]);
    assert_eq!(entry(text(&approved, "commit")), entry("HEAD"));
    before.assert_kept(&world.cwd, ADDED);
}

#[test]
fn a_change_of_nothing_is_no_proposal() {
    let world = World::new();
    std::fs::write(world.cwd.join(".gitignore"), "ignored/\n*.log\n").unwrap();
    world.commit("ignore");
    let before = Snapshot::of(&world.cwd);
    for script in [
        "true",
        "touch greeting.txt; chmod 600 greeting.txt",
        "cp greeting.txt x; rm greeting.txt; mv x greeting.txt",
        "mkdir -p ignored empty/deep; echo 1 > ignored/a; echo 1 > b.log",
        "git commit -q --allow-empty -m x; git branch other; git config a.b c",
    ] {
        let run = agent(&world, script, 0);
        assert_eq!(text(&run, "state"), "unchanged", "{script}");
        assert!(run["digest"].is_null(), "{script}");
        let digest = format!("sha256:{}", "0".repeat(64));
        let done = world.run(&["approve", text(&run, "run"), "--digest", &digest]);
        assert_eq!(done.refusal(7), "not_in_state");
    }
    before.assert_kept(&world.cwd, &[]);
}

/// Starts commands at once and waits for all of them.
fn at_once(world: &World, commands: &[Vec<&str>]) -> Vec<Value> {
    let start = |args: &Vec<&str>| {
        world.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = commands.iter().map(start).collect();
    let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
    outputs
        .map(|output| {
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            serde_json::from_slice(&output.stdout).unwrap()
        })
        .collect()
}

#[test]
fn two_runs_at_once_are_two_branches() {
    let world = World::new();
    let before = Snapshot::of(&world.cwd);
    let edit = |script| vec!["run", "--json", "--", "sh", "-c", script];
    let runs = at_once(&world, &[edit("echo 1 > greeting.txt"), edit("echo 2 > greeting.txt")]);
    for run in &runs {
        assert_eq!(text(run, "state"), "awaiting_approval");
    }
    before.assert_kept(&world.cwd, &[]);
    let approve =
        |run| vec!["approve", text(run, "run"), "--digest", text(run, "digest"), "--json"];
    let approved = at_once(&world, &[approve(&runs[0]), approve(&runs[1])]);
    for (approved, content) in approved.iter().zip(["1", "2"]) {
        let branch = text(approved, "branch");
        assert_eq!(world.git(&["show", &format!("{branch}:greeting.txt")]), content);
    }
    before.assert_kept(&world.cwd, ADDED);
    world.run(&["journal", "verify"]).expect(0);
}

#[test]
fn the_same_answer_from_two_at_once_is_given_once() {
    let world = World::new();
    let run = agent(&world, "echo 1 > greeting.txt", 0);
    let args = vec!["approve", text(&run, "run"), "--digest", text(&run, "digest"), "--json"];
    let answers = at_once(&world, &[args.clone(), args]);
    assert_eq!(answers[0]["commit"], answers[1]["commit"]);
    let mut already: Vec<_> = answers.iter().map(|it| it["already"].as_bool().unwrap()).collect();
    already.sort_unstable();
    assert_eq!(already, [false, true]);
    let events = world.run(&["events", "--json"]).expect(0);
    assert_eq!(events.matches("\"effect.completed\"").count(), 1, "{events}");
}

#[test]
fn the_same_request_twice_is_one_run_also_at_once() {
    let world = World::new();
    let with_key =
        |script| vec!["run", "--json", "--idempotency-key", "k", "--", "sh", "-c", script];
    let script = "echo ran; echo 1 > a";
    let both = at_once(&world, &[with_key(script), with_key(script)]);
    let later = world.run(&with_key(script)).object(0);
    assert_eq!(text(&later, "state"), "awaiting_approval");
    for run in &both {
        assert_eq!(run["run"], later["run"]);
    }
    assert_eq!(printed(&world), "ran\n");
    assert_eq!(world.run(&["list", "--json"]).object(0)["runs"].as_array().unwrap().len(), 1);
    let other = world.run(&with_key("echo 2 > a")).object(7);
    assert_eq!(text(&other, "code"), "idempotency_mismatch");
}

#[test]
fn answers_that_come_too_late_or_twice_change_nothing() {
    let world = World::new();
    world.git(&["branch", "target"]);
    let run = agent(&world, "echo bye > greeting.txt", 0);
    let digest = text(&run, "digest");
    let stale = format!("sha256:{}", "0".repeat(64));
    let before = Snapshot::of(&world.cwd);
    let refused = |args: &[&str], code: &str| {
        let now = Snapshot::of(&world.cwd);
        assert_eq!(world.run(args).refusal(7), code, "{args:?}");
        now.assert_kept(&world.cwd, &[]);
    };
    let again = |args: &[&str]| {
        let now = Snapshot::of(&world.cwd);
        assert_eq!(world.run(args).object(0)["already"], true, "{args:?}");
        now.assert_kept(&world.cwd, &[]);
    };
    refused(&["approve", "--digest", &stale], "stale_digest");
    refused(&["merge", "--into", "target"], "not_in_state");
    refused(&["rollback"], "not_in_state");
    before.assert_kept(&world.cwd, &[]);
    world.run(&["approve", "--digest", digest]).expect(0);
    again(&["approve", "--digest", digest, "--json"]);
    refused(&["reject", "--reason", "late"], "not_in_state");
    world.run(&["merge", "--into", "target"]).expect(0);
    again(&["merge", "--into", "target", "--json"]);
    again(&["approve", "--digest", digest, "--json"]);
    world.run(&["rollback"]).expect(0);
    again(&["rollback", "--json"]);
    refused(&["merge", "--into", "target"], "not_in_state");
    refused(&["recheck"], "not_in_state");
    let target = [ADDED, &[".git/logs/refs/heads/target"]].concat();
    before.assert_kept(&world.cwd, &target);
}

#[test]
fn a_base_that_moved_needs_a_new_approval() {
    let world = World::new();
    let run = agent(&world, "echo bye > greeting.txt", 0);
    std::fs::write(world.cwd.join("other.txt"), "other\n").unwrap();
    world.commit("moved");
    let before = Snapshot::of(&world.cwd);
    let old = text(&run, "digest");
    assert_eq!(world.run(&["approve", "--digest", old]).refusal(7), "base_moved");
    let rechecked = world.run(&["recheck", "--json"]).object(0);
    assert_eq!(world.run(&["approve", "--digest", old]).refusal(7), "stale_digest");
    before.assert_kept(&world.cwd, &[]);
    let new = text(&rechecked, "digest");
    world.run(&["approve", "--digest", new]).expect(0);
    before.assert_kept(&world.cwd, ADDED);

    // Where both sides changed the same line, there is no new proposal.
    let run = agent(&world, "echo theirs > greeting.txt", 0);
    std::fs::write(world.cwd.join("greeting.txt"), "ours\n").unwrap();
    world.commit("the same line");
    let before = Snapshot::of(&world.cwd);
    assert_eq!(world.run(&["recheck", text(&run, "run")]).refusal(7), "merge_conflict");
    let approval = ["approve", text(&run, "run"), "--digest", text(&run, "digest")];
    assert_eq!(world.run(&approval).refusal(7), "base_moved");
    before.assert_kept(&world.cwd, &[]);
}

#[test]
fn a_branch_that_someone_stands_on_is_not_moved() {
    let world = World::new();
    world.git(&["worktree", "add", "-q", "-b", "linked", "../linked"]);
    let run = agent(&world, "echo bye > greeting.txt", 0);
    approve(&world, &run);
    let before = Snapshot::of(&world.cwd);
    let linked = world.cwd.with_file_name("linked");
    let before_linked = Snapshot::of(&linked);
    for (branch, place) in [("main", &world.cwd), ("linked", &linked)] {
        let done = world.run(&["merge", "--into", branch]);
        // The command to use instead names the place.
        assert!(done.stderr.contains(place.to_str().unwrap()), "{done:?}");
        assert_eq!(done.refusal(7), "branch_checked_out");
    }
    for (branch, code, exit) in [
        ("missing", "revision_unknown", 2),
        ("refs/heads/../../x", "branch_protected", 3),
        ("cofferdam/other", "revision_unknown", 2),
    ] {
        assert_eq!(world.run(&["merge", "--into", branch]).refusal(exit), code, "{branch}");
    }
    before.assert_kept(&world.cwd, &[]);
    before_linked.assert_kept(&linked, &[]);
}
