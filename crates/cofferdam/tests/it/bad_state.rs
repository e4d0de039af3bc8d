//! A state directory that is damaged, full or read-only: said with its code, nothing that was
//! acknowledged is lost, and the user's repository stays as it was.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::snapshot::{ADDED, Snapshot};
use crate::world::{World, text};

/// A shell script in a mount namespace of its own, as root of it, with the world's environment.
fn in_namespace(world: &World, script: &str) -> Output {
    let like = world.command::<&str>(&[]);
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let environment = like.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.args(["--mount", "sh", "-u", "-c", script]).env_clear().envs(environment);
    command.env("COFFERDAM", env!("CARGO_BIN_EXE_cofferdam")).env("STATE", world.state());
    command.current_dir(&world.cwd).output().unwrap()
}

/// What each command of a script came to: it prints `code N` after the object.
fn outcomes(output: &Output) -> Vec<(i32, Value)> {
    assert!(output.status.success(), "{output:?}");
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let mut outcomes = vec![];
    let mut object = Value::Null;
    for line in text.lines() {
        match line.strip_prefix("code ") {
            Some(code) => outcomes.push((code.parse().unwrap(), object.take())),
            None => object = serde_json::from_str(line).unwrap_or_else(|_| panic!("{output:?}")),
        }
    }
    outcomes
}

/// Sees that a command failed for want of storage, and not in another way.
#[track_caller]
fn assert_storage_failed((code, object): &(i32, Value)) {
    let problem = object.get("problem").filter(|it| it.is_object()).unwrap_or(object);
    assert_eq!((*code, text(problem, "code")), (1, "storage_failed"), "{object}");
}

#[test]
fn a_disk_that_is_full_at_any_moment_is_said_and_the_next_command_goes_on() {
    let world = World::new();
    let before = Snapshot::of(&world.cwd);
    let script = r#"
        mkdir -p "$STATE"
        mount -t tmpfs -o size=8k,mode=700 tmpfs "$STATE" || exit 99
        for size in 16k 64k 96k 128k 160k 200k 240k 280k 320k 400k; do
            mount -o "remount,size=$size" "$STATE" || exit 99
            "$COFFERDAM" run --json --task edit -- sh -c 'echo bye > greeting.txt'
            echo "code $?"
        done
        mount -o remount,size=64m "$STATE" || exit 99
        "$COFFERDAM" run --json --task edit -- sh -c 'echo bye > greeting.txt'
        echo "code $?"
        "$COFFERDAM" journal verify --json
        echo "code $?"
        "$COFFERDAM" list --json
        echo "code $?"
    "#;
    let all = outcomes(&in_namespace(&world, script));
    let (small, large) = all.split_at(10);
    let failed: Vec<_> = small.iter().filter(|(code, _)| *code != 0).collect();
    failed.iter().for_each(|it| assert_storage_failed(it));
    assert!(failed.len() > 3, "{small:?}");
    let [run, verified, listed] = large else { panic!("{large:?}") };
    assert_eq!((run.0, text(&run.1, "state")), (0, "awaiting_approval"), "{run:?}");
    assert_eq!((verified.0, &verified.1["ok"]), (0, &true.into()), "{verified:?}");
    for row in listed.1["runs"].as_array().unwrap() {
        // Each rests: the command after it settled what the full disk had cut short.
        let state = text(row, "state");
        assert!(!["preparing", "working", "checking"].contains(&state), "{listed:?}");
    }
    before.assert_kept(&world.cwd, &[]);
}

#[test]
fn what_was_acknowledged_before_the_disk_was_full_is_there_when_it_no_longer_is() {
    let world = World::new();
    let before = Snapshot::of(&world.cwd);
    let script = r#"
        mkdir -p "$STATE"
        mount -t tmpfs -o size=16m,mode=700 tmpfs "$STATE" || exit 99
        "$COFFERDAM" run --json --task edit -- sh -c 'echo bye > greeting.txt' > "$HOME/run.json"
        digest=$(sed 's/.*"digest":"\([^"]*\)".*/\1/' "$HOME/run.json")
        cat "$HOME/run.json"; echo "code 0"
        head -c 32m /dev/zero > "$STATE/fill" 2> /dev/null
        "$COFFERDAM" approve --digest "$digest" --json
        echo "code $?"
        git for-each-ref refs/heads/cofferdam >&2
        rm "$STATE/fill"
        "$COFFERDAM" approve --digest "$digest" --json
        echo "code $?"
        "$COFFERDAM" journal verify --json
        echo "code $?"
    "#;
    let output = in_namespace(&world, script);
    let all = outcomes(&output);
    let [run, full, approved, verified] = &all[..] else { panic!("{output:?}") };
    assert_eq!(text(&run.1, "state"), "awaiting_approval");
    assert_storage_failed(full);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("refs/heads/"), "{output:?}");
    assert_eq!((approved.0, text(&approved.1, "state")), (0, "applied"), "{approved:?}");
    assert_eq!(
        world.git(&["show", &format!("{}:greeting.txt", text(&approved.1, "commit"))]),
        "bye"
    );
    assert_eq!((verified.0, &verified.1["ok"]), (0, &true.into()), "{verified:?}");
    before.assert_kept(&world.cwd, ADDED);
}

#[test]
fn a_disk_of_the_cache_that_is_full_is_said_and_with_room_the_next_run_goes_on() {
    let world = World::new();
    let before = Snapshot::of(&world.cwd);
    let script = r#"
        cache="$HOME/.cache/cofferdam"
        mkdir -p "$cache"
        mount -t tmpfs -o size=4k,mode=700 tmpfs "$cache" || exit 99
        for size in 8k 16k 24k 32k 40k 64m; do
            mount -o "remount,size=$size" "$cache" || exit 99
            "$COFFERDAM" run --json --task edit -- sh -c 'echo bye > greeting.txt'
            echo "code $?"
        done
        "$COFFERDAM" journal verify --json
        echo "code $?"
    "#;
    let all = outcomes(&in_namespace(&world, script));
    let ([full @ .., roomy], [verified]) = all.split_at(6) else { panic!("{all:?}") };
    let failed: Vec<_> = full.iter().filter(|(code, _)| *code != 0).collect();
    failed.iter().for_each(|it| assert_storage_failed(it));
    assert!(failed.len() > 2, "{full:?}");
    assert_eq!((roomy.0, text(&roomy.1, "state")), (0, "awaiting_approval"), "{roomy:?}");
    assert_eq!((verified.0, &verified.1["ok"]), (0, &true.into()), "{verified:?}");
    before.assert_kept(&world.cwd, &[]);
}

/// The repository is on a disk of its own, which has 24 KiB more room for each approval.
#[test]
fn a_disk_of_the_repository_that_is_full_at_any_moment_of_an_effect_loses_and_repeats_nothing() {
    let world = World::new();
    let script = r#"
        mkdir "$HOME/disk"
        mount -t tmpfs -o size=8m,mode=700 tmpfs "$HOME/disk" || exit 99
        git clone -q . "$HOME/disk/repository" || exit 99
        cd "$HOME/disk/repository"
        edit='head -c 200000 /dev/urandom > random.bin; echo bye > greeting.txt'
        "$COFFERDAM" run --json --task edit -- sh -c "$edit" > "$HOME/run.json"
        digest=$(sed 's/.*"digest":"\([^"]*\)".*/\1/' "$HOME/run.json")
        cp -a . "$HOME/before"
        head -c 16m /dev/zero > ../fill 2> /dev/null
        for attempt in 1 2 3 4 5 6 7 8 9 10 11 12; do
            "$COFFERDAM" approve --digest "$digest" --json
            echo "code $?"
            truncate -s -24k ../fill
        done
        cp -a . "$HOME/after"
        "$COFFERDAM" journal verify --json
        echo "code $?"
        "$COFFERDAM" events --json
        echo "code $?"
    "#;
    let all = outcomes(&in_namespace(&world, script));
    let (attempts, [verified, events]) = all.split_at(12) else { panic!("{all:?}") };
    let full = attempts.iter().take_while(|(code, _)| *code != 0).count();
    assert!((2..12).contains(&full), "{attempts:?}");
    attempts[..full].iter().for_each(assert_storage_failed);
    for (code, approved) in &attempts[full..] {
        assert_eq!((*code, text(approved, "state")), (0, "applied"), "{approved}");
    }
    assert_eq!((verified.0, &verified.1["ok"]), (0, &true.into()), "{verified:?}");
    let events = events.1.to_string();
    for kind in ["\"effect.intended\"", "\"effect.completed\""] {
        assert_eq!(events.matches(kind).count(), 1, "{events}");
    }
    let after = world.home().join("after");
    Snapshot::of(&world.home().join("before")).assert_kept(&after, ADDED);
    let git = |args: &[&str]| world.git(&[&["-C", after.to_str().unwrap()], args].concat());
    let commit = text(&attempts[full].1, "commit");
    assert_eq!(git(&["show", &format!("{commit}:greeting.txt")]), "bye");
    assert_eq!(git(&["rev-list", "--count", "--branches=cofferdam/*", "--not", "main"]), "1");
    git(&["fsck", "--strict"]);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named_and_kept() {
    let world = World::new();
    let run = world.edit("echo bye > greeting.txt");
    let before = (Snapshot::of(&world.cwd), Snapshot::of(&world.state()));
    let script = format!(
        r#"
        mount --bind "$STATE" "$STATE" || exit 99
        mount -o remount,bind,ro "$STATE" || exit 99
        "$COFFERDAM" approve --digest {digest} --json; echo "code $?"
        "$COFFERDAM" run --json -- sh -c 'echo 1 > a'; echo "code $?"
        "$COFFERDAM" list --json; echo "code $?"
        "$COFFERDAM" exec --json -- true; echo "code $?"
        "#,
        digest = text(&run, "digest")
    );
    let all = outcomes(&in_namespace(&world, &script));
    let [approve, run_again, list, exec] = &all[..] else { panic!("{all:?}") };
    for outcome in [approve, run_again, list] {
        assert_storage_failed(outcome);
        assert!(text(&outcome.1, "hint").contains("COFFERDAM_STATE_DIR"), "{outcome:?}");
    }
    assert_eq!((exec.0, text(&exec.1, "code")), (125, "storage_failed"));
    before.0.assert_kept(&world.cwd, &[]);
    before.1.assert_kept(&world.state(), &[]);
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
}

#[test]
fn an_orphan_that_cannot_be_settled_keeps_nobody_from_working_on_others() {
    let mut world = World::new();
    let blob = world.git(&["rev-parse", "HEAD:greeting.txt"]);
    world.git(&["clone", "-q", "--no-hardlinks", ".", "../other"]);
    world.configure(
        "profiles/slow.toml",
        "[gate]\ndetect = false\n[[gate.commands]]\nname = \"slow\"\nargv = [\"sleep\", \"600\"]\n\
         required = true\nkind = \"test\"\ntimeout_ms = 600000\n",
    );
    let edit = ["--", "sh", "-c", "echo bye > greeting.txt"];
    let mut child = world
        .command(&[&["run", "--profile", "slow"], &edit[..]].concat())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let progress = BufReader::new(child.stderr.take().unwrap());
    let checking = progress.lines().any(|line| line.unwrap().starts_with("calling sleep"));
    assert!(checking, "it came to the gate");
    child.kill().unwrap();
    child.wait().unwrap();
    // Now what the check begins with cannot be read.
    let object = world.cwd.join(".git/objects").join(&blob[..2]).join(&blob[2..]);
    let aside = world.home().join("object");
    std::fs::rename(&object, &aside).unwrap();

    let other = world.cwd.with_file_name("other");
    let damaged = std::mem::replace(&mut world.cwd, other);
    let done = world.run(&[&["run"], &edit[..]].concat());
    assert!(done.stderr.contains("is not settled"), "{done:?}");
    done.expect(0);
    world.run(&["rollback"]).refusal(7);

    world.cwd = damaged;
    std::fs::rename(&aside, &object).unwrap();
    let stopped = world.run(&["stop", "--json"]).object(0);
    assert_eq!(text(&stopped, "state"), "cancelled");
}

/// The journal's database as one file, so that what is damaged is what is read.
fn checkpointed(world: &World) -> std::path::PathBuf {
    let file = world.state().join("journal/journal.db");
    let sql = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
               print(db.execute('pragma wal_checkpoint(truncate)').fetchone()[0])";
    let output = Command::new("python3").args(["-c", sql]).arg(&file).output().unwrap();
    assert_eq!(output.stdout, b"0\n", "{output:?}");
    file
}

fn flip(file: &Path, place: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[place] ^= 0x41;
    std::fs::write(file, bytes).unwrap();
}

/// Every place at which `needle` is in `bytes`.
fn places(bytes: &[u8], needle: &str) -> Vec<usize> {
    let windows = bytes.windows(needle.len()).enumerate();
    windows.filter(|(_, it)| *it == needle.as_bytes()).map(|(place, _)| place).collect()
}

#[test]
fn a_flipped_bit_of_the_journal_never_goes_unseen() {
    let world = World::new();
    let run = world.edit("echo bye > greeting.txt");
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
    let file = checkpointed(&world);
    let (before, good) = (Snapshot::of(&world.cwd), std::fs::read(&file).unwrap());
    let events = world.run(&["events", "--json"]).expect(0);
    let mark = "\"body\":{\"type\":\"";
    let told = places(&good, mark);
    let count = events.matches(mark).count();
    assert!(count >= 10 && told.len() >= count, "{told:?}");
    // The name of a program: with another letter it is as good an event, so that the chain alone tells.
    let named = "\"executable\":\"";
    let names: Vec<_> = places(&good, named).iter().map(|place| place + named.len()).collect();
    assert!(!names.is_empty());
    // In each event, and evenly over the file, the database's own structure included.
    let spread = (0..24).map(|n| n * good.len() / 24 + 11 * n);
    let types = told.iter().map(|place| place + mark.len());
    let mut seen = 0;
    for place in names.into_iter().chain(types).chain([0, 100, 105]).chain(spread) {
        std::fs::write(&file, &good).unwrap();
        flip(&file, place);
        let verified = world.run(&["journal", "verify"]);
        let shown = world.run(&["events", "--json"]);
        if shown.code == Some(0) {
            // What was hit is not what was recorded, or nothing was hit at all.
            assert_eq!(shown.expect(0), events, "byte {place}");
        } else {
            assert_eq!(verified.code, Some(1), "byte {place}: {verified:?}");
            assert_eq!(shown.refusal(1), "journal_corrupt", "byte {place}");
            // Nothing is done on its word.
            assert_eq!(world.run(&["rollback"]).refusal(1), "journal_corrupt", "byte {place}");
            seen += 1;
        }
        before.assert_kept(&world.cwd, &[]);
    }
    assert!(seen >= count, "{seen} of {count}");
    std::fs::write(&file, &good).unwrap();
    world.run(&["journal", "verify"]).expect(0);
    world.run(&["rollback"]).expect(0);
}

#[test]
fn a_journal_that_is_cut_short_is_damaged() {
    let world = World::new();
    world.edit("echo bye > greeting.txt");
    let file = checkpointed(&world);
    let before = Snapshot::of(&world.cwd);
    let good = std::fs::read(&file).unwrap();
    for kept in [good.len() / 2, 4096, 100, 10] {
        std::fs::write(&file, &good[..kept]).unwrap();
        for args in [vec!["journal", "verify"], vec!["run", "--", "sh", "-c", "echo 1 > a"]] {
            assert_eq!(world.run(&args).refusal(1), "journal_corrupt", "{kept} bytes: {args:?}");
        }
    }
    before.assert_kept(&world.cwd, &[]);
}
