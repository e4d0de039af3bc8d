//! Invariant 4: what is missing or cannot be read stops a run before anything runs.

use std::os::unix::fs::symlink;

use super::outside;
use crate::world::{World, text};

const MARK: &str = "import os; os.mkdir('ran')";

/// Whether a program of a run was started at all.
fn started(world: &World) -> bool {
    let listed = world.run(&["list", "--json"]).object(0);
    listed["runs"].as_array().unwrap().iter().any(|row| {
        let events = world.run(&["events", "--json", text(row, "run")]).object(0);
        events.to_string().contains("call.started")
    })
}

/// A run under a profile of this text comes to this code, and nothing was started.
#[track_caller]
fn refused(profile: &str, code: i32) -> String {
    let world = World::new();
    world.configure("profiles/mine.toml", profile);
    let args = ["run", "--json", "--profile", "mine", "--", "python3", "-c", MARK];
    let refused = world.run(&args).object(code);
    assert!(!started(&world), "{profile}");
    // The control: with a profile that says the same and can be had, it runs.
    world.configure("profiles/mine.toml", "[session]\nrequired_walls = [\"seccomp\"]\n");
    world.run(&args).object(0);
    assert!(started(&world));
    let problem = refused.get("problem").filter(|it| it.is_object()).unwrap_or(&refused);
    text(problem, "code").to_owned()
}

#[test]
fn a_required_wall_that_does_not_stand() {
    assert_eq!(
        refused("[session]\nrequired_walls = [\"disk_limit\"]\n", 6),
        "boundary_unavailable"
    );
}

#[test]
fn a_required_wall_that_nobody_knows() {
    let code = refused("[session]\nrequired_walls = [\"moat\"]\n", 2);
    assert_eq!(code, "configuration_invalid");
}

#[test]
fn a_profile_with_an_unknown_field() {
    assert_eq!(refused("[session]\nrequired_wall = []\n", 2), "configuration_invalid");
}

#[test]
fn a_profile_that_is_not_text() {
    assert_eq!(refused("description = \"\0\"\n[", 2), "configuration_invalid");
}

#[test]
fn a_profile_that_extends_nothing_known() {
    assert_eq!(refused("extends = \"everything\"\n", 2), "configuration_invalid");
}

#[test]
fn a_profile_that_cannot_be_read() {
    let world = World::new();
    world.configure("profiles/other.toml", "");
    let file = world.home().join(".config/cofferdam/profiles/mine.toml");
    let args = ["exec", "--profile", "mine", "--", "true"];
    std::fs::create_dir(&file).unwrap();
    assert_eq!(world.run(&args).refusal(125), "configuration_invalid");
    std::fs::remove_dir(&file).unwrap();
    outside(&world, &format!("mkfifo '{}'", file.display()));
    assert_eq!(world.run(&args).refusal(125), "configuration_invalid");
    std::fs::remove_file(&file).unwrap();
    symlink("/nonexistent/\u{1b}[2J", &file).unwrap();
    world.run(&args).refusal(125);
    assert!(!started(&world));
    std::fs::remove_file(&file).unwrap();
    symlink("other.toml", &file).unwrap();
    world.run(&args).expect(0);
}

#[test]
fn a_configuration_that_cannot_be_understood() {
    let world = World::new();
    for text in ["profil = \"strict\"\n", "profile = 3\n", "profile = \"absent\"\n", "="] {
        world.configure("config.toml", text);
        let done = world.run(&["exec", "--", "true"]);
        assert_eq!(done.refusal(125), "configuration_invalid", "{text}");
    }
    assert!(!world.state().join("sessions").exists());
    world.configure("config.toml", "profile = \"assist\"\n");
    world.run(&["exec", "--", "true"]).expect(0);
}

#[test]
fn rules_of_the_base_commit_that_cannot_be_read() {
    let world = World::new();
    let file = world.cwd.join(".cofferdam.toml");
    let mut codes = vec![];
    let mut attempt = |what: &str| {
        world.commit(what);
        codes.push((what.to_owned(), world.run(&["exec", "--", "true"]).refusal(125)));
    };
    std::fs::write(&file, "[executables]\ndenied = []\n").unwrap();
    attempt("an unknown field");
    std::fs::write(&file, format!("a = {}", "[".repeat(60_000))).unwrap();
    attempt("nested without end");
    std::fs::write(&file, b"# \xff").unwrap();
    attempt("not text");
    std::fs::write(&file, "#".repeat(70_000)).unwrap();
    attempt("too large");
    std::fs::remove_file(&file).unwrap();
    symlink("greeting.txt", &file).unwrap();
    attempt("a link");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    std::fs::write(file.join("x"), "").unwrap();
    attempt("a directory");
    for (what, code) in &codes {
        let expected = ["a link", "a directory"].contains(&what.as_str());
        let expected = if expected { "repository_unsupported" } else { "configuration_invalid" };
        assert_eq!(code, expected, "{what}");
    }
    assert!(!started(&world));
    std::fs::remove_dir_all(&file).unwrap();
    std::fs::write(&file, "[executables]\ndeny = [\"sh\"]\n").unwrap();
    world.commit("rules");
    world.run(&["exec", "--", "true"]).expect(0);
    assert_eq!(world.run(&["exec", "--", "sh"]).refusal(125), "executable_denied");
}

#[test]
fn namespaces_that_cannot_be_had() {
    let world = World::new();
    let script = |limit: &str| {
        let done = world.command::<&str>(&[]);
        let environment = done.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!(
            "{limit} '{}' exec --json -- python3 -c \"{MARK}\"",
            env!("CARGO_BIN_EXE_cofferdam")
        ));
        let output = command.env_clear().envs(environment).current_dir(&world.cwd).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let none = script("echo 0 > /proc/sys/user/max_user_namespaces;");
    assert!(none.contains("\"boundary_unavailable\""), "{none}");
    assert!(!started(&world));
    let some = script("");
    assert!(some.contains("\"exit_code\":0"), "{some}");
}

#[test]
fn no_git() {
    let world = World::new();
    let run = |path: &str| {
        let mut command = world.command(&["exec", "--json", "--", "true"]);
        command.env("PATH", path).output().unwrap().status.code()
    };
    assert_eq!(run("/nonexistent"), Some(125));
    assert!(!world.state().join("sessions").exists());
    assert_eq!(run("/usr/local/bin:/usr/bin:/bin"), Some(0));
}

#[test]
fn a_signing_key_that_others_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.run(&["exec", "--", "true"]).expect(0);
    let keys = world.state().join("keys");
    let files: Vec<_> = std::fs::read_dir(&keys).unwrap().map(|it| it.unwrap().path()).collect();
    let set = |mode: u32| {
        for file in &files {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o644);
    world.run(&["exec", "--", "true"]).refusal(125);
    set(0o600);
    world.run(&["exec", "--", "true"]).expect(0);
}

#[test]
fn a_policy_that_was_changed_after_admission() {
    let world = World::new();
    let run = world.edit("echo bye > greeting.txt");
    let file = world.state().join(format!("admissions/{}.json", text(&run, "run")));
    let admitted = std::fs::read_to_string(&file).unwrap();
    let wider = admitted.replace("\\\"required\\\":1", "\\\"required\\\":0");
    assert_ne!(wider, admitted);
    let approve = ["approve", "--digest", text(&run, "digest")];
    std::fs::write(&file, wider).unwrap();
    assert_eq!(world.run(&approve).refusal(1), "journal_corrupt");
    assert_eq!(world.git(&["branch", "--list", "cofferdam/*"]), "");
    std::fs::write(&file, admitted).unwrap();
    world.run(&approve).expect(0);
}
