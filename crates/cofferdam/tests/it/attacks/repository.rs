//! Invariants 1 and 9: a repository, a patch or a rule is data. The host neither runs it, nor waits
//! for it, nor lets it steer a terminal, nor takes orders from it.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::{SECRET, inside, outside};
use crate::terminal::shown;
use crate::world::{World, text};

const STEER: &str = "\x1b]0;title\x07\x1b[2J\u{202e}";

#[track_caller]
fn assert_harmless(shown: &str) {
    let steers =
        shown.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}');
    assert!(!steers, "{shown:?}");
}

/// Everything that people read of a run, as a terminal gets it but for colours.
fn read_aloud(world: &World) -> String {
    let mut all = String::new();
    for args in [&["show"][..], &["list"], &["events"], &["review"], &["diff"]] {
        all += &without_colours(&shown(world, args));
    }
    all
}

fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        out += after.strip_prefix('m').unwrap_or("\x1b");
    }
    out.replace("\r\n", "\n")
}

#[test]
fn names_and_texts_that_steer_a_terminal() {
    let world = World::new();
    let hostile = "name\x1b]0;title\x07\n\x1b[2J\u{202e}";
    std::fs::write(world.cwd.join(hostile), STEER).unwrap();
    world.commit(STEER);
    let script = "for f in *; do echo x >> \"$f\"; done; mkdir \"$(printf 'd\\033[2J')\"; \
                  echo 1 > \"$(printf 'd\\033[2J')/x\"; mkfifo \"$(printf 'p\\033[2J')\"; \
                  touch \"$(printf 'n\\377')\"; printf '\\033[2J' >&2; cat \"$(printf 'a\\033[2J')\"";
    let done = world.run(&["run", "--task", STEER, "--", "sh", "-c", script]);
    assert_harmless(&done.stderr);
    let shown = read_aloud(&world);
    assert_harmless(&shown);
    assert!(shown.contains("\\x1b[2J"), "it is shown, escaped: {shown}");
    // The control: what is no terminal gets the diff as it is.
    assert!(world.run(&["diff"]).stdout.contains("\u{1b}"));
}

#[test]
fn rules_and_errors_that_steer_a_terminal() {
    let world = World::new();
    for rules in
        ["\"\\u001b[2Jx\" = 1\n", "[paths]\nallowed = [\"\\u001b[2J[\"]\n", "x = \"\x1b[2J"]
    {
        std::fs::write(world.cwd.join(".cofferdam.toml"), rules).unwrap();
        world.commit("rules");
        let done = world.run(&["exec", "--", "true"]);
        assert_eq!(done.code, Some(125), "{done:?}");
        assert_harmless(&done.stderr);
    }
    std::fs::remove_file(world.cwd.join(".cofferdam.toml")).unwrap();
    world.commit("no rules");
    world.run(&["exec", "--", "true"]).expect(0);
}

/// A repository cannot hide from the reviewer what it changes.
#[test]
fn attributes_and_settings_that_hide_a_change() {
    let world = World::new();
    std::fs::write(world.cwd.join(".gitattributes"), "*.txt -diff\n*.rs binary diff=odd\n")
        .unwrap();
    world.commit("attributes");
    std::fs::write(world.cwd.join(".git/info/attributes"), "* -diff\n").unwrap();
    for (name, value) in [
        ("diff.odd.textconv", "echo nothing"),
        ("diff.context", "0"),
        ("diff.noprefix", "true"),
        ("color.ui", "always"),
        ("core.quotePath", "false"),
        ("diff.orderFile", "/dev/null"),
        ("diff.ignoreSubmodules", "all"),
        ("core.abbrev", "4"),
    ] {
        world.git(&["config", name, value]);
    }
    let edit = "echo evil > greeting.txt; echo evil > src/lib.rs";
    world.edit(edit);
    let diff = world.run(&["diff"]).expect(0);
    assert_eq!(diff.matches("\n+evil\n").count(), 2, "{diff}");
    assert!(!diff.contains('\x1b') && diff.contains("--- a/greeting.txt"), "{diff}");
    // The control: ordinary git hides it.
    let hidden = outside(&world, &format!("{edit}; git diff"));
    assert!(!hidden.contains("+evil"), "{hidden}");
}

#[test]
fn objects_that_stand_for_others() {
    let world = World::new();
    std::fs::write(world.cwd.join("other"), "replaced\n").unwrap();
    let (blob, other) = (
        world.git(&["rev-parse", "HEAD:greeting.txt"]),
        world.git(&["hash-object", "-w", "other"]),
    );
    world.git(&["replace", &blob, &other]);
    assert_eq!(inside(&world, "cat greeting.txt"), "hello\n");
    assert_eq!(world.git(&["cat-file", "-p", "HEAD:greeting.txt"]), "replaced", "the control");
}

#[test]
fn pipes_in_place_of_gits_files() {
    let world = World::new();
    let git = world.cwd.join(".git");
    let script = |path: &Path| format!("mkfifo '{}'", path.display());
    for name in ["HEAD", "config", "packed-refs", "refs/heads/main", "commondir", "refs/heads/x"] {
        let file = git.join(name);
        let aside = world.home().join("aside");
        let moved = std::fs::rename(&file, &aside).is_ok();
        outside(&world, &script(&file));
        let done = world.run(&["exec", "--", "true"]);
        assert_eq!(done.refusal(125), "repository_unsupported", "{name}");
        std::fs::remove_file(&file).unwrap();
        if moved {
            std::fs::rename(&aside, &file).unwrap();
        }
    }
    // The control: the repository is as it was, and ordinary git waits for such a file.
    world.run(&["exec", "--", "true"]).expect(0);
    outside(&world, &script(&git.join("commondir")));
    let waited = outside(&world, "timeout 2 git rev-parse HEAD; echo $?");
    assert_eq!(waited, "124\n");
}

#[test]
fn a_repository_that_is_somewhere_else() {
    let world = World::new();
    let elsewhere = world.home().join("elsewhere");
    std::fs::rename(world.cwd.join(".git"), &elsewhere).unwrap();
    let file = world.cwd.join(".git");
    for text in ["gitdir: /nonexistent\n", "gitdir: ", "\0", "gitdir: /dev/zero\n"] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(world.run(&["exec", "--", "true"]).code, Some(125), "{text:?}");
    }
    std::fs::write(&file, format!("gitdir: {}\n", elsewhere.display())).unwrap();
    world.run(&["exec", "--", "true"]).expect(0);
}

#[test]
fn a_git_directory_that_a_session_replaced() {
    let world = World::new();
    let mark = world.home().join("mark");
    let script = format!(
        "echo bye > greeting.txt
         printf '#!/bin/sh\\ntouch {0}\\n' > /tmp/evil; chmod +x /tmp/evil
         for hook in post-commit reference-transaction post-checkout; do
             cp /tmp/evil .git/hooks/$hook || {{ mkdir -p .git/hooks; cp /tmp/evil .git/hooks/$hook; }}
         done
         git config core.fsmonitor /tmp/evil; git config filter.x.clean 'touch {0}'
         mkdir -p nested && cd nested && git init -q && git config core.fsmonitor 'touch {0}'
         cp /tmp/evil .git/hooks/post-checkout; echo x > file; cd ..
         printf 'gitdir: {1}\\n' > src/.git
         rm -rf .git; ln -s {1} .git",
        mark.display(),
        world.cwd.join(".git").display()
    );
    let run = world.edit(&script);
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
    assert!(!mark.exists());
    let branch = format!("cofferdam/{}", text(&run, "run"));
    let names = world.git(&["ls-tree", "-r", "--name-only", &branch]);
    assert!(names.contains("greeting.txt") && !names.contains(".git"), "{names}");
    // The control: such a hook runs where ordinary git meets it.
    let hook = world.cwd.join(".git/hooks/post-checkout");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let control = format!(
        "printf '#!/bin/sh\\ntouch {}\\n' > {1}; chmod +x {1}; git checkout -q --detach",
        mark.display(),
        hook.display()
    );
    outside(&world, &control);
    assert!(mark.exists());
}

#[test]
fn rules_in_the_working_tree() {
    let world = World::new();
    world.configure("profiles/strict.toml", "[executables]\ndeny = [\"sh\"]\n");
    let sh = || world.run(&["exec", "--profile", "strict", "--", "sh", "-c", "true"]).code;
    let rules = world.cwd.join(".cofferdam.toml");
    std::fs::write(&rules, "[executables]\nallow = [\"**\"]\ndeny = []\n").unwrap();
    assert_eq!(sh(), Some(125), "uncommitted");
    world.git(&["add", "-A"]);
    assert_eq!(sh(), Some(125), "in the index");
    world.commit("rules");
    assert_eq!(sh(), Some(125), "in the base");
    // The control: an operator's profile can.
    world.configure("profiles/strict.toml", "");
    assert_eq!(sh(), Some(0));
}

#[test]
fn rules_that_the_agent_writes() {
    let world = World::new();
    let widen = "printf '[paths]\\nprotected = []\\n' > .cofferdam.toml; mkdir -p .github/workflows; \
                 echo on: push > .github/workflows/x.yml";
    let run = world.edit(widen);
    assert_eq!(text(&run, "verdict"), "escalate");
    let yes = world.run(&["run", "--json", "--yes", "--", "sh", "-c", widen]).object(0);
    assert_eq!(text(&yes, "state"), "awaiting_approval", "nothing answers for a person here");
    let plain = ["run", "--json", "--yes", "--", "sh", "-c", "echo bye > greeting.txt"];
    assert_eq!(text(&world.run(&plain).object(0), "state"), "applied");
}

#[test]
fn a_patch_that_leads_out() {
    let world = World::new();
    let target = world.home().join("target");
    std::fs::write(&target, "mine\n").unwrap();
    let up = format!("{}{}", "../".repeat(12), target.strip_prefix("/").unwrap().display());
    let new = |path: &str| {
        format!(
            "diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n\
             @@ -0,0 +1 @@\n+evil\n"
        )
    };
    let link = "diff --git a/out b/out\nnew file mode 120000\n--- /dev/null\n+++ b/out\n\
                @@ -0,0 +1 @@\n+/tmp\n\\ No newline at end of file\n";
    let hostile = [
        new(&up),
        new(target.to_str().unwrap()),
        new(".git/hooks/post-checkout"),
        new("src/.GIT/config"),
        format!("{link}{}", new("out/evil")),
        "diff --git a/x b/x\n@@ -1,99999999999 +1 @@\n".to_owned(),
        STEER.to_owned(),
    ];
    let file = world.home().join("patch");
    let run = |patch: &str| {
        std::fs::write(&file, patch).unwrap();
        world.run(&["run", "--driver", "patch", "--from", file.to_str().unwrap()])
    };
    for patch in &hostile {
        let done = run(patch);
        assert_ne!(done.code, Some(0), "{patch}: {done:?}");
        assert_harmless(&done.stderr);
    }
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "mine\n");
    assert!(!world.cwd.join(".git/hooks/post-checkout").exists());
    run(&new("fine")).expect(0);
}

#[test]
fn a_codemod_rule_that_is_hostile() {
    let world = World::new();
    let bomb: String = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
        let of = (0..9).map(|_| format!("*a{}", n - 1)).collect::<Vec<_>>().join(",");
        format!("{text}a{n}: &a{n} [{of}]\n")
    });
    let rule = |pattern: &str| {
        format!("id: r\nlanguage: rust\nrule:\n  pattern: {pattern}\nfix: fn two() -> u8 {{ 2 }}\n")
    };
    let hostile = [
        bomb,
        "\u{1b}[2J: 1\n".to_owned(),
        "!!python/object/apply:os.system ['touch /tmp/x']\n".to_owned(),
        format!("id: r\nlanguage: rust\nrule: {}\n", "{not: ".repeat(50_000)),
        format!("{}utils:\n  a: {{matches: a}}\n", rule("x").replace("pattern: x", "matches: a")),
        rule("'((('"),
        "\0".to_owned(),
    ];
    let file = world.home().join("rule.yml");
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        world.run(&["run", "--json", "--driver", "codemod", "--rule", file.to_str().unwrap()])
    };
    for text in &hostile {
        let done = run(text);
        assert_ne!(done.code, Some(0), "{text:.80}: {done:?}");
        assert_harmless(&done.stderr);
    }
    // The control: one that can be used is.
    assert_eq!(run(&rule("pub fn one() -> u8 { 1 }")).object(0)["files_changed"], 1);
}

#[test]
fn links_in_the_tree_and_in_the_result() {
    let world = World::new();
    let target = world.home().join("target");
    std::fs::write(&target, SECRET).unwrap();
    symlink(&target, world.cwd.join("link")).unwrap();
    symlink(world.home(), world.cwd.join("dir")).unwrap();
    world.commit("links");
    let script = "cat link dir/target; echo evil > link; echo evil > dir/evil; ls -d link dir";
    let seen = inside(&world, script);
    assert!(!seen.contains(SECRET) && seen.contains("link"), "{seen}");
    world.run(&[
        "run",
        "--",
        "sh",
        "-c",
        "rm link; cp -r /etc/hostname link; ln -s / up; echo x > a",
    ]);
    assert!(!world.run(&["diff"]).stdout.contains(SECRET));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), SECRET);
    assert!(!world.home().join("evil").exists());
    outside(&world, script);
    assert!(world.home().join("evil").exists(), "the control: outside they lead there");
}
