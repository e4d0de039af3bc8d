//! The gate through the binary: detected and declared commands in real sessions, scanners that
//! print SARIF, sizes and dependencies. Each refusal has the same run with a harmless change.
//!
//! A test that fails once and passes once cannot be had here without chance, since sessions share
//! nothing: that one is in the gate's own tests.

use serde_json::Value;

use crate::world::{Done, World, text};

/// The binary with the toolchains of whoever runs the tests, and all else private.
fn run(world: &World, profile: &str, script: &str) -> Value {
    let args = ["run", "--json", "--profile", profile, "--task", "t", "--", "sh", "-c", script];
    let (home, mut command) = (world.home(), world.command(&args));
    command.envs(std::env::vars_os()).env("COFFERDAM_STATE_DIR", world.state());
    command.env("COFFERDAM_CACHE_DIR", home.join(".cache/cofferdam"));
    command.env("COFFERDAM_CONFIG_DIR", home.join(".config/cofferdam"));
    let done = Done::of(command.output().unwrap());
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

/// State, verdict, and the status of one check.
fn told<'a>(run: &'a Value, check: &str) -> (&'a str, &'a str, &'a str) {
    let mut checks = run["checks"].as_array().unwrap_or_else(|| panic!("{run}")).iter();
    let found = checks.find(|it| it["name"] == check).unwrap_or_else(|| panic!("{check}: {run}"));
    (text(run, "state"), text(run, "verdict"), text(found, "status"))
}

const LIBRARY: &str =
    "pub fn one() -> u8 {\n    1\n}\n\n#[test]\nfn it_is_one() {\n    assert_eq!(one(), 1);\n}\n";

/// A crate with a formatter and tests that pass, and no word about how it is checked.
fn crate_of_rust() -> World {
    let world = World::empty();
    world.git(&["init", "-q", "-b", "main", "."]);
    let manifest = "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    std::fs::write(world.cwd.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(world.cwd.join(".gitignore"), "target\nCargo.lock\n").unwrap();
    std::fs::create_dir(world.cwd.join("src")).unwrap();
    std::fs::write(world.cwd.join("src/lib.rs"), LIBRARY).unwrap();
    world.commit("first");
    world
}

#[test]
fn cargos_formatter_and_tests_are_detected() {
    let world = crate_of_rust();
    let good = run(&world, "assist", "echo '// a comment' >> src/lib.rs");
    assert_eq!(told(&good, "cargo-fmt"), ("awaiting_approval", "pass", "passed"), "{good}");
    assert_eq!(told(&good, "cargo-test"), ("awaiting_approval", "pass", "passed"), "{good}");

    let untidy = run(&world, "assist", "echo 'pub fn two()->u8{2}' >> src/lib.rs");
    assert_eq!(told(&untidy, "cargo-fmt"), ("awaiting_approval", "pass", "failed"), "{untidy}");
    assert_eq!(told(&untidy, "cargo-test").2, "passed");
    assert_eq!((text(&good, "risk_level"), text(&untidy, "risk_level")), ("low", "medium"));

    let broken = run(&world, "assist", "sed -i '2s/1/2/' src/lib.rs");
    assert_eq!(told(&broken, "cargo-test"), ("failed", "fail", "failed"), "{broken}");
    assert_eq!(told(&broken, "cargo-fmt").2, "passed");
}

#[test]
fn a_test_that_failed_before_is_not_the_changes_fault() {
    let world = crate_of_rust();
    std::fs::write(world.cwd.join("src/lib.rs"), LIBRARY.replace("one(), 1", "one(), 7")).unwrap();
    world.commit("a test that fails");
    let before = run(&world, "assist", "echo '// a comment' >> src/lib.rs");
    assert_eq!(told(&before, "cargo-test"), ("awaiting_approval", "pass", "failed_before"));
    assert_eq!(text(&before, "risk_level"), "medium");
}

/// Reports every line with a mark, as a scanner in the operator's profile would.
const SCANNER: &str = r#"
[gate]
detect = false
[[gate.commands]]
name = "marks"
kind = "scanner"
required = true
timeout_ms = 60000
argv = ["python3", "-c", """
import json, subprocess
files = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], capture_output=True, text=True).stdout.split()
results = []
for name in files:
    for number, line in enumerate(open(name), 1):
        if 'MARK' in line:
            place = {'physicalLocation': {'artifactLocation': {'uri': name}, 'region': {'startLine': number}}}
            results.append({'ruleId': 'mark', 'level': 'error', 'message': {'text': line.strip()}, 'locations': [place]})
driver = {'name': 'marks', 'rules': []}
print(json.dumps({'version': '2.1.0', 'runs': [{'tool': {'driver': driver}, 'results': results}]}))
"""]
"#;

#[test]
fn a_scanner_is_judged_by_what_it_says_of_the_change() {
    let world = World::new();
    world.configure("profiles/scanned.toml", SCANNER);
    std::fs::write(world.cwd.join("old.txt"), "MARK that was there\n").unwrap();
    world.commit("second");
    let harmless = run(&world, "scanned", "echo harmless > new.txt");
    assert_eq!(told(&harmless, "marks"), ("awaiting_approval", "pass", "passed"), "{harmless}");

    let marked = run(&world, "scanned", "printf 'one\\ntwo MARK\\n' > new.txt");
    assert_eq!(told(&marked, "marks"), ("failed", "fail", "failed"), "{marked}");
    let mut checks = marked["checks"].as_array().unwrap().iter();
    let marks = checks.find(|it| it["name"] == "marks").unwrap();
    let [finding] = &marks["findings"].as_array().unwrap()[..] else { panic!("{marks}") };
    assert_eq!((text(finding, "path"), finding["line"].as_u64()), ("new.txt", Some(2)));
}

#[test]
fn a_scanner_that_says_nothing_readable_lets_nothing_pass() {
    let world = World::new();
    let unreadable = SCANNER.replace("print(json.dumps(", "print('no sarif'); (((");
    world.configure("profiles/scanned.toml", &unreadable);
    let done = run(&world, "scanned", "echo harmless > new.txt");
    assert_eq!(told(&done, "marks"), ("failed", "fail", "errored"), "{done}");
}

#[test]
fn declared_formatter_and_linter_warn_or_stop_as_the_profile_says() {
    let world = World::new();
    let profile = |required: bool| {
        let one = |name: &str, kind: &str, word: &str| {
            format!(
                "[[gate.commands]]\nname = \"{name}\"\nkind = \"{kind}\"\nrequired = {required}\n\
                 timeout_ms = 60000\nargv = [\"sh\", \"-c\", \"! grep -rq {word} --exclude-dir=.git .\"]\n"
            )
        };
        let commands =
            one("own-format", "formatter", "CROOKED") + &one("own-lint", "linter", "LINT");
        world.configure("profiles/own.toml", &format!("[gate]\ndetect = false\n{commands}"));
    };
    profile(false);
    let crooked = run(&world, "own", "echo CROOKED > a");
    assert_eq!(told(&crooked, "own-format"), ("awaiting_approval", "pass", "failed"));
    assert_eq!(told(&crooked, "own-lint").2, "passed");
    assert_eq!(text(&crooked, "risk_level"), "medium", "said, and not taken for low risk");
    profile(true);
    let linted = run(&world, "own", "echo LINT > a");
    assert_eq!(told(&linted, "own-lint"), ("failed", "fail", "failed"));
    assert_eq!(told(&linted, "own-format").2, "passed");
    let clean = run(&world, "own", "echo clean > a");
    assert_eq!(told(&clean, "own-lint"), ("awaiting_approval", "pass", "passed"));
}

#[test]
fn a_change_that_is_too_large_or_depends_on_what_it_may_not() {
    let world = World::new();
    world.configure(
        "profiles/narrow.toml",
        "[change]\nlines_max = 5\n[dependencies.pypi]\nnames = [\"allowed\"]\n[gate]\ndetect = false\n",
    );
    let large = run(&world, "narrow", "seq 6 > numbers.txt");
    assert_eq!(told(&large, "size"), ("failed", "fail", "failed"), "{large}");
    let small = run(&world, "narrow", "seq 5 > numbers.txt");
    assert_eq!(told(&small, "size"), ("awaiting_approval", "pass", "passed"), "{small}");

    let foreign = run(&world, "narrow", "echo 'unknown==1.0' > requirements.txt");
    assert_eq!(told(&foreign, "dependencies").2, "failed", "{foreign}");
    assert_ne!(text(&foreign, "verdict"), "pass");
    let elsewhere = "echo '--index-url https://packages.invalid/simple' > requirements.txt; \
                     echo 'allowed==1.0' >> requirements.txt";
    assert_ne!(text(&run(&world, "narrow", elsewhere), "verdict"), "pass");
    let known = run(&world, "narrow", "echo 'allowed==1.0' > requirements.txt");
    assert_eq!(told(&known, "dependencies"), ("awaiting_approval", "pass", "passed"), "{known}");
}
