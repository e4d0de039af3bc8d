//! `denials`: what was refused, for people and scripts, and what a flood does to the record.

use serde_json::Value;

use crate::world::{World, shape, text};

/// Python that connects to where a session cannot reach.
fn connects(ports: &str) -> String {
    format!(
        "import socket\nfor port in {ports}:\n\x20   try: socket.socket().connect(('192.0.2.7', port))\n\x20   except OSError: pass\n"
    )
}

fn exec(world: &World, program: &str) {
    world.run(&["exec", "--", "python3", "-c", program]).expect(0);
}

/// The run that `exec` made last.
fn newest(world: &World) -> String {
    let list = world.run(&["list", "--json", "--limit", "1"]).object(0);
    text(&list["runs"][0], "run").to_owned()
}

fn denials(world: &World, args: &[&str]) -> Value {
    let args: Vec<&str> = ["denials", "--json"].iter().chain(args).copied().collect();
    world.run(&args).object(0)
}

/// What writes where it may is no refusal, whoever wants to be told.
#[test]
fn a_profile_tells_of_writes_to_what_is_read_only() {
    let world = World::new();
    world.configure("profiles/telling.toml", "[session]\ntells_writes = true\n");
    let script = "echo more >> greeting.txt; touch /usr/planted; git add -A; mkdir /usr/planted";
    let rows = |profile: &str| -> Vec<(String, String)> {
        let args = ["run", "--json", "--profile", profile, "--", "sh", "-c", script];
        world.run(&args);
        let told = denials(&world, &[&newest(&world)]);
        let rows = told["records"].as_array().unwrap().iter();
        rows.map(|it| (text(it, "rule").to_owned(), text(it, "target").to_owned())).collect()
    };
    let told = ("view.read_only".to_owned(), "/usr/planted".to_owned());
    assert_eq!(rows("telling"), [told.clone(), told], "of touch and of mkdir");
    // Control: nobody else is told.
    assert_eq!(rows("assist"), []);
}

#[test]
fn of_one_run_of_all_and_grouped() {
    let world = World::new();
    exec(&world, &connects("(1, 2, 2)"));
    let first = newest(&world);
    exec(&world, &format!("{}\nimport ctypes; ctypes.CDLL(None).setuid(0)", connects("(1,)")));
    let second = newest(&world);
    let one = denials(&world, &[&first]);
    insta::assert_json_snapshot!("denials_json", shape(&one));
    assert_eq!((one["denials"].as_u64(), one["records_total"].as_u64()), (Some(3), Some(2)));
    assert_eq!(
        (one["events_incomplete"].as_bool(), one["denials_lost"].as_u64()),
        (Some(false), Some(0))
    );
    let keys = |view: &Value| -> Vec<(String, u64, u64)> {
        let groups = view["groups"].as_array().unwrap().iter();
        let row = |it: &Value| {
            (
                text(it, "key").to_owned(),
                it["denials"].as_u64().unwrap(),
                it["runs"].as_u64().unwrap(),
            )
        };
        groups.map(row).collect()
    };
    let by = |what: &str| keys(&denials(&world, &["--all", "--by", what]));
    let of = |key: &str, denials: u64, runs: u64| (key.to_owned(), denials, runs);
    assert_eq!(by("rule"), [of("seccomp.connect", 4, 2), of("seccomp.privilege", 1, 1)]);
    let targets = [of("192.0.2.7:1", 2, 2), of("192.0.2.7:2", 2, 1), of("setuid(0)", 1, 1)];
    assert_eq!(by("target"), targets);
    assert_eq!(by("driver"), [of("attached", 5, 2)]);
    assert_eq!(keys(&denials(&world, &[&second, "--by", "driver"])), [of("attached", 2, 1)]);
    let cut = denials(&world, &["--all", "--limit", "1"]);
    assert_eq!((cut["records"].as_array().unwrap().len(), cut["more"].as_u64()), (1, Some(3)));
    // For people: nothing that steers a terminal, and the number at the end.
    let said = world.run(&["denials", &first]).expect(0);
    assert!(
        said.contains("seccomp.connect  192.0.2.7:1")
            && said.ends_with(&format!("3 refusals in {first}\n")),
        "{said}"
    );
    // Without a name it is what was last done here, which the answer names.
    let last = world.run(&["denials"]).expect(0);
    assert!(last.ends_with(&format!("2 refusals in {second}\n")), "{last}");
}

#[test]
fn a_name_that_the_session_chose_is_shown_escaped() {
    let world = World::new();
    let program = "import os, sys; os.symlink(sys.executable, '/tmp/a\\x1b[2Jb'); \
                   os.execv('/tmp/a\\x1b[2Jb', ['\\x1b]0;x\\x07', '-c', \
                   'import ctypes; ctypes.CDLL(None).setuid(0)'])";
    exec(&world, program);
    let run = newest(&world);
    let said = world.run(&["denials", &run]).expect(0)
        + &world.run(&["denials", &run, "--json"]).expect(0);
    assert!(said.contains("seccomp.privilege"), "{said}");
    assert!(!said.contains('\x1b') && !said.contains('\x07'), "{said:?}");
}

#[test]
fn without_refusals_it_says_so_and_an_unknown_run_is_refused() {
    let world = World::new();
    assert_eq!(world.run(&["denials"]).refusal(2), "run_unknown");
    exec(&world, "pass");
    let nothing = format!("nothing was refused in {}\n", newest(&world));
    assert_eq!(world.run(&["denials"]).expect(0), nothing);
    let unknown = "run_01jd0000000000000000000000";
    assert_eq!(world.run(&["denials", unknown]).refusal(2), "run_unknown");
    world.run(&["denials", unknown, "--all"]).expect(2);
}

/// A run whose driver changes a file and makes `count` distinct refusals.
fn flooded(world: &World, count: u32) -> Value {
    let script =
        format!("echo x > a; python3 -c \"{}\"", connects(&format!("range(1, {count} + 1)")));
    world.edit(&script)
}

/// What is lost makes the record incomplete wherever a person or a verifier looks.
#[test]
fn a_flood_is_a_finding_and_shows_everywhere() {
    let world = World::new();
    let run = flooded(&world, 1500);
    let lost = run["denials_lost"].as_u64().unwrap();
    assert_eq!(run["denials"].as_u64().unwrap() + lost, 1500);
    assert!(lost >= 500 && run["events_incomplete"] == true, "{run}");
    assert_eq!(text(&run, "verdict"), "escalate");
    let finds = |run: &Value| run["checks"].to_string().contains("record_incomplete");
    assert!(finds(&run), "{run}");
    let id = text(&run, "run").to_owned();
    let shown = world.run(&["show", &id]).expect(0);
    assert!(shown.contains(&format!("and {lost} more were not recorded")), "{shown}");
    let told = world.run(&["denials", &id]).expect(0);
    assert!(
        told.contains(&format!("events incomplete: {lost} more could not be recorded")),
        "{told}"
    );
    assert_eq!(denials(&world, &["--all"])["incomplete_runs"][0], id.as_str());
    assert!(attested(&world, &id).contains("\"events_incomplete\":true"));
    // The control: below the bound everything is told, and nobody says otherwise.
    let run = flooded(&world, 15);
    assert_eq!(
        (run["denials"].as_u64(), run["events_incomplete"].as_bool()),
        (Some(15), Some(false))
    );
    assert!(text(&run, "verdict") == "pass" && !finds(&run), "{run}");
    assert!(attested(&world, text(&run, "run")).contains("\"events_incomplete\":false"));
}

/// The signed statement about a run.
fn attested(world: &World, run: &str) -> String {
    world.run(&["reject", run, "--reason", "it was for the record"]).expect(0);
    let dir = world.home().join(run);
    world.run(&["evidence", "export", run, "-o", dir.to_str().unwrap()]).expect(0);
    let envelope = std::fs::read_to_string(dir.join("attestation.intoto.jsonl")).unwrap();
    let envelope: Value = serde_json::from_str(envelope.lines().next().unwrap()).unwrap();
    let payload = text(&envelope, "payload");
    let mut decoded = std::process::Command::new("base64");
    decoded.args(["-d"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = decoded.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), payload.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// The holder dies with records that it held back: the run says that some may be missing.
#[test]
fn a_holder_that_is_killed_leaves_an_incomplete_record() {
    let world = World::new();
    let mut child =
        world.start(&["exec", "--", "sh", "-c", "echo up; exec cat /dev/zero > /dev/null"]);
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    exec(&world, "pass");
    let ended = world.run(&["list", "--json"]).object(0);
    let runs = ended["runs"].as_array().unwrap();
    let of = |state: &str| {
        let row = runs.iter().find(|row| text(row, "state") == state);
        text(row.unwrap_or_else(|| panic!("{state}: {ended}")), "run").to_owned()
    };
    assert_eq!(denials(&world, &[&of("interrupted")])["events_incomplete"], true);
    assert_eq!(denials(&world, &[&of("closed")])["events_incomplete"], false);
}
