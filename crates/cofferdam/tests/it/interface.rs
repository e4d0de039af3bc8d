//! What scripts and the documentation rely on: help, reference, the shapes of objects.

use crate::world::{World, shape, text};

const COMMANDS: &[&[&str]] = &[
    &[],
    &["demo"],
    &["run"],
    &["list"],
    &["show"],
    &["events"],
    &["denials"],
    &["diff"],
    &["review"],
    &["approve"],
    &["reject"],
    &["recheck"],
    &["resume"],
    &["stop"],
    &["grant"],
    &["grants"],
    &["revoke"],
    &["merge"],
    &["rollback"],
    &["prune"],
    &["pool"],
    &["pool", "create"],
    &["pool", "grow"],
    &["pool", "check"],
    &["pool", "remove"],
    &["evidence"],
    &["evidence", "export"],
    &["evidence", "verify"],
    &["journal"],
    &["journal", "verify"],
    &["exec"],
    &["session"],
    &["session", "start"],
    &["session", "exec"],
    &["session", "diff"],
    &["session", "list"],
    &["session", "end"],
    &["doctor"],
    &["redteam"],
    &["config"],
    &["config", "check"],
    &["config", "show"],
    &["completions"],
];

#[test]
fn help_of_every_command() {
    let world = World::empty();
    let mut all = String::new();
    for command in COMMANDS {
        let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let help = world.run(&args).expect(0);
        all.push_str(&format!("$ cofferdam {}\n{help}\n", args.join(" ")));
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn every_command_is_in_the_list_above() {
    let world = World::empty();
    let reference = world.run(&["__reference", "commands"]).expect(0);
    let named: Vec<&str> = reference.lines().filter_map(|line| line.strip_prefix("## `")).collect();
    let expected: Vec<String> = COMMANDS
        .iter()
        .map(|it| format!("cofferdam {}", it.join(" ")).trim_end().to_owned() + "`")
        .collect();
    assert_eq!(named, expected);
}

#[test]
fn the_reference_tells_exit_codes_and_configuration() {
    let world = World::empty();
    insta::assert_snapshot!("exit_codes", world.run(&["__reference", "exit"]).expect(0));
    let configuration = world.run(&["__reference", "configuration"]).expect(0);
    for said in ["COFFERDAM_STATE_DIR", "| `profile` |", "| `limits.pids` |", "### autonomous"] {
        assert!(configuration.contains(said), "{said}");
    }
    let objects = world.run(&["__reference", "objects"]).expect(0);
    for said in ["## exec, session exec", "## demo", "## completions", "## show --output"] {
        assert!(objects.contains(said), "{said}");
    }
}

#[test]
fn doctor_tells_walls_and_requirements() {
    let world = World::empty();
    let doctor = world.run(&["doctor", "--json"]).object(0);
    insta::assert_json_snapshot!("doctor_json", shape(&doctor));
    assert_eq!(doctor["ok"], true);
    assert_eq!(doctor["walls"].as_array().unwrap().len(), 22);
    let names = doctor["requirements"].as_array().unwrap().iter().map(|it| text(it, "name"));
    assert_eq!(names.filter(|name| *name == "state_directory").count(), 1);
    assert!(!world.state().exists(), "it makes nothing");
}

#[test]
fn lists_and_configuration_have_the_documented_fields() {
    let world = World::new();
    assert_eq!(world.run(&["list", "--json"]).expect(0), "{\"runs\":[]}\n");
    world.edit("echo 1 > a");
    insta::assert_json_snapshot!("list_json", shape(&world.run(&["list", "--json"]).object(0)));
    let events = world.run(&["events", "--json"]).object(0);
    let kinds: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|it| text(&it["body"], "type")).collect();
    assert_eq!((kinds[0], events.as_object().unwrap().len()), ("run.admitted", 2));
    insta::assert_json_snapshot!("prune_json", shape(&world.run(&["prune", "--json"]).object(0)));
    let config = world.run(&["config", "show", "--json"]).object(0);
    insta::assert_json_snapshot!("config_show_json", shape(&config));
    let shown = world.run(&["config", "show", "assist"]).expect(0);
    assert!(shown.contains("[limits]"), "{shown}");
}

#[test]
fn a_run_that_waits_keeps_its_text_and_an_ended_one_does_not() {
    let world = World::new();
    world.edit("echo said; echo 1 > a");
    assert_eq!(world.run(&["prune", "--json"]).object(0)["runs"], 0);
    assert_eq!(world.run(&["show", "--output"]).expect(0), "said\n");
    let said = world.run(&["show", "--output", "--json"]).object(0);
    assert_eq!((text(&said, "stdout"), text(&said, "stderr")), ("said\n", ""));
    world.run(&["reject", "--reason", "no"]).expect(0);
    assert_eq!(world.run(&["prune", "--json"]).object(0)["runs"], 1);
    assert_ne!(world.run(&["show", "--output"]).code, Some(0));
    world.run(&["journal", "verify"]).expect(0);
}

#[test]
fn completions_name_the_commands() {
    let world = World::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.run(&["completions", shell]).expect(0);
        assert!(script.contains("rollback"), "{shell}");
        let object = world.run(&["completions", shell, "--json"]).object(0);
        assert_eq!(object, serde_json::json!({ "shell": shell, "script": script }));
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let world = World::new();
    world.edit("echo 1 > a");
    let review = world.run(&["review"]).expect(0);
    assert!(!review.contains('\x1b'));
}

/// A script that asked for objects gets one for a mistake too, and people the same text as always.
#[test]
fn a_mistaken_command_line_is_a_problem_like_others() {
    let world = World::empty();
    for args in
        [&["run", "--nope"][..], &["nope"], &["grant"], &["session", "exec"], &["show", "a", "b"]]
    {
        let plain = world.run(args);
        assert_eq!((plain.code, plain.stdout.as_str()), (Some(2), ""), "{args:?}");
        let told = world.run(&[args, &["--json"]].concat());
        assert!(told.stderr.contains("For more information, try '--help'."), "{told:?}");
        let problem = told.object(2);
        assert_eq!(text(&problem, "code"), "request_invalid", "{problem}");
        assert!(!text(&problem, "detail").is_empty() && text(&problem, "hint").contains("Usage: "));
    }
    // Of a program's own words none is Cofferdam's; and help is no mistake.
    assert_eq!(world.run(&["run", "--nope", "--", "--json"]).stdout, "");
    assert!(world.run(&["run", "--help", "--json"]).expect(0).contains("Usage: "));
}
