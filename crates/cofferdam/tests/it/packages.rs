//! The main job on packages that we did not write, with their own tests run inside sessions.
//!
//! Each package is fetched once by its registry's ordinary client, compared with a known digest
//! and kept under the build directory, so that later runs need no network.

use std::path::{Path, PathBuf};
use std::process::Command;

use cofferdam_contract::digest::Digest;
use serde_json::Value;

use crate::snapshot::{ADDED, Snapshot};
use crate::world::{Done, World, text};

/// A published package and how its own tests are run.
struct Package {
    /// Name and version.
    name: &'static str,
    version: &'static str,
    /// The archive as its registry calls it.
    archive: &'static str,
    sha256: &'static str,
    /// The directory in the archive that holds everything.
    top: &'static str,
    client: Client,
    /// The command that tests the package, and what it prints when it really ran them.
    test: &'static [&'static str],
    printed: &'static str,
}

/// Who fetches a package by its name.
#[derive(Clone, Copy)]
enum Client {
    Cargo,
    Pip,
    /// By pip as well, built and not as sources.
    Wheel,
    Npm,
}

const RUST: Package = Package {
    name: "fnv",
    version: "1.0.7",
    archive: "fnv-1.0.7.crate",
    sha256: "3f9eec918d3f24069decb9af1554cad7c880e2da24a9afd88aca000531ab82c1",
    top: "fnv-1.0.7",
    client: Client::Cargo,
    test: &["cargo", "test", "--offline"],
    printed: "test test::basic_tests ... ok",
};

const PYTHON: Package = Package {
    name: "pyflakes",
    version: "3.2.0",
    archive: "pyflakes-3.2.0.tar.gz",
    sha256: "1c61603ff154621fb2a9172037d84dca3500def8c8b630657d1701f026f8af3f",
    top: "pyflakes-3.2.0",
    client: Client::Pip,
    test: &["python3", "-m", "pytest", "-q", "pyflakes/test"],
    printed: " passed",
};

const NODE: Package = Package {
    name: "color-convert",
    version: "0.5.3",
    archive: "color-convert-0.5.3.tgz",
    sha256: "b13bd81b16b614fa4cd6386477019556a02e437940c2eea32dd1c27bdfadac2f",
    top: "package",
    client: Client::Npm,
    test: &["npm", "test"],
    printed: "node test/basic.js",
};

/// A run-time of WebAssembly that compiles to machine code by itself.
const WASM: Package = Package {
    name: "wasmtime",
    version: "50.0.1",
    archive: "wasmtime-50.0.1-py3-none-manylinux1_x86_64.whl",
    sha256: "cc14c3a17654e0394e0225b11813532ef0cd7bd1e222a0c5494cdedaabeddac4",
    top: "wasmtime",
    client: Client::Wheel,
    test: &["/usr/bin/python3", "wasm.py"],
    printed: "42\nTrap\nTrap\n",
};

/// Adds, reaches what cannot be reached, and reads beyond its memory: two of the three are signals
/// that the run-time catches.
const WASM_SCRIPT: &str = r#"
from wasmtime import Store, Module, Instance
store = Store()
module = Module(store.engine, """(module (memory 1)
    (func (export "add") (param i32) (result i32) local.get 0 i32.const 1 i32.add)
    (func (export "trap") unreachable)
    (func (export "beyond") (result i32) i32.const 99999999 i32.load))""")
exports = Instance(store, module, []).exports(store)
print(exports["add"](store, 41))
for name in ("trap", "beyond"):
    try:
        exports[name](store)
    except Exception as error:
        print(type(error).__name__)
"#;

/// The check that runs a package's own tests.
const CHECK: &str = "own-tests";

/// The python that has pytest: the first of the path, or the system's own, which its package is for.
fn python_with_pytest() -> &'static str {
    let has = |python: &str| {
        let asked = Command::new(python).args(["-m", "pytest", "--version"]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(|python| has(python));
    found.expect("pytest is missing: cargo xtask test says how to get it")
}

impl Package {
    /// The command that tests it on this machine.
    fn tested_by(&self) -> Vec<&'static str> {
        let on_this_machine = |word: &&'static str| match *word {
            "python3" => python_with_pytest(),
            word => word,
        };
        self.test.iter().map(on_this_machine).collect()
    }

    /// The archive, fetched if it is not there yet, with the digest that it must have.
    fn archive(&self) -> PathBuf {
        let build = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let dir = build.join("test-packages");
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join(self.archive);
        if !file.exists() {
            let scratch = tempfile::tempdir_in(&dir).unwrap();
            // Several tests may fetch at once: the last rename wins, and each file is whole.
            std::fs::rename(self.fetch(scratch.path(), &file), &file).unwrap();
        }
        let found = Digest::of(&std::fs::read(&file).unwrap()).hex();
        assert_eq!(found, self.sha256, "{} is not what was published: remove it", file.display());
        file
    }

    fn fetch(&self, scratch: &Path, wanted: &Path) -> PathBuf {
        let Self { name, version, .. } = self;
        let mut command = match self.client {
            Client::Cargo => {
                let manifest = format!(
                    "[package]\nname = \"scratch\"\nedition = \"2024\"\n[workspace]\n\
                     [dependencies]\n{name} = \"={version}\"\n"
                );
                std::fs::write(scratch.join("Cargo.toml"), manifest).unwrap();
                std::fs::create_dir(scratch.join("src")).unwrap();
                std::fs::write(scratch.join("src/lib.rs"), "").unwrap();
                program("cargo", &["fetch"])
            }
            Client::Pip | Client::Wheel => {
                let as_what = match self.client {
                    Client::Wheel => "--only-binary",
                    _ => "--no-binary",
                };
                let exact = format!("{name}=={version}");
                let asked = ["-m", "pip", "download", as_what, ":all:", "--no-deps", "-d", "."];
                program("python3", &[&asked[..], &[&exact]].concat())
            }
            Client::Npm => program("npm", &["pack", &format!("{name}@{version}")]),
        };
        let remedy = format!(
            "{name} {version} is needed and could not be fetched with {command:?}: run this test \
             once where the registry can be reached, or put the archive at {}",
            wanted.display()
        );
        let output = command.current_dir(scratch).output();
        let output = output.unwrap_or_else(|error| panic!("{remedy}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{remedy}\n{said}");
        let file = match self.client {
            Client::Cargo => downloaded_crate(self.archive),
            Client::Pip | Client::Wheel | Client::Npm => Some(scratch.join(self.archive)),
        };
        let file = file.filter(|file| file.exists()).unwrap_or_else(|| panic!("{remedy}\n{said}"));
        let copy = scratch.join("fetched");
        std::fs::copy(file, &copy).unwrap();
        copy
    }
}

/// Where cargo put the archive of a crate.
fn downloaded_crate(archive: &str) -> Option<PathBuf> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cargo"),
    };
    let sources = home.join("registry/cache").read_dir().ok()?;
    sources.flatten().map(|it| it.path().join(archive)).find(|file| file.exists())
}

fn program(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args);
    command
}

/// A package as a repository of one commit whose branch is not checked out, and a profile whose
/// gate runs the package's own tests.
struct Place {
    world: World,
    package: &'static Package,
}

impl Place {
    fn new(package: &'static Package) -> Self {
        let mut world = World::empty();
        let archive = package.archive();
        // The archive's owners are of no interest: the files are ours, as git wants it.
        let unpacked = program("tar", &["--no-same-owner", "-xzf"])
            .arg(archive)
            .current_dir(&world.cwd)
            .output()
            .unwrap();
        assert!(unpacked.status.success(), "{unpacked:?}");
        world.cwd.push(package.top);
        let argv = serde_json::to_string(&package.tested_by()).unwrap();
        world.configure(
            "profiles/own.toml",
            &format!(
                "[gate]\ndetect = false\n[[gate.commands]]\nname = \"{CHECK}\"\nargv = {argv}\n\
                 required = true\nkind = \"test\"\ntimeout_ms = 240000\n"
            ),
        );
        let place = Self { world, package };
        place.world.git(&["init", "-q", "-b", "main", "."]);
        place.world.git(&["add", "-A", "-f"]);
        place.world.git(&["commit", "-q", "-m", "as published"]);
        place.world.git(&["checkout", "-q", "--detach"]);
        place
    }

    /// The binary with the toolchains of whoever runs the tests, and all else private.
    fn run(&self, args: &[&str]) -> Done {
        let home = self.world.home();
        let output = self
            .world
            .command(args)
            .envs(std::env::vars_os())
            .env("COFFERDAM_STATE_DIR", self.world.state())
            .env("COFFERDAM_CACHE_DIR", home.join(".cache/cofferdam"))
            .env("COFFERDAM_CONFIG_DIR", home.join(".config/cofferdam"))
            .output()
            .unwrap();
        Done {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A run with the codemod driver.
    fn rewrite(&self, rule: &str) -> Done {
        let file = self.world.home().join("rule.yml");
        std::fs::write(&file, rule).unwrap();
        let rule = ["--driver", "codemod", "--rule", file.to_str().unwrap()];
        self.govern(&rule)
    }

    /// A run under the profile with the package's own tests.
    fn govern(&self, rest: &[&str]) -> Done {
        let mut args = vec!["run", "--json", "--profile", "own", "--task", "rewrite"];
        args.extend(rest);
        self.run(&args)
    }

    /// The result of the check with the package's own tests.
    fn own_tests<'a>(&self, run: &'a Value) -> &'a str {
        let mut checks = run["checks"].as_array().unwrap().iter();
        let check = checks.find(|it| it["name"] == CHECK);
        text(check.unwrap_or_else(|| panic!("{run}")), "status")
    }

    /// From a proposal whose tests passed to a branch, a merge, back, and its evidence.
    fn approve_merge_and_take_back(&self, before: &Snapshot, run: &Value, added: &str) {
        let world = &self.world;
        let base = world.git(&["rev-parse", "main"]);
        assert_eq!(text(run, "state"), "awaiting_approval", "{run}");
        assert_eq!((text(run, "verdict"), self.own_tests(run)), ("pass", "passed"), "{run}");
        let output = self.run(&["show", "--output"]).expect(0);
        assert!(output.contains(self.package.printed), "{output}");
        before.assert_kept(&world.cwd, &[]);

        let approved = self.run(&["approve", "--digest", text(run, "digest"), "--json"]).object(0);
        let (branch, commit) = (text(&approved, "branch"), text(&approved, "commit"));
        assert_eq!(world.git(&["rev-parse", branch]), commit);
        assert_eq!(world.git(&["rev-parse", &format!("{branch}^")]), base);
        let diff = world.git(&["diff", "--full-index", "main", branch]);
        assert!(diff.contains(added), "{diff}");
        assert!(self.run(&["diff"]).expect(0).trim_end() == diff, "{diff}");
        before.assert_kept(&world.cwd, ADDED);

        self.run(&["merge", "--into", "main"]).expect(0);
        assert_eq!(world.git(&["rev-parse", "main"]), commit);
        let target = [ADDED, &[".git/refs/heads/main", ".git/logs/refs/heads/main"]].concat();
        before.assert_kept(&world.cwd, &target);

        let back = self.run(&["rollback", "--json"]).object(0);
        assert_eq!(text(&back, "state"), "rolled_back");
        assert_eq!(world.git(&["rev-parse", "main"]), base);
        let log = [ADDED, &[".git/logs/refs/heads/main"]].concat();
        before.assert_kept(&world.cwd, &log);
        world.git(&["fsck", "--strict"]);

        self.run(&["evidence", "export", "-o", "../../bundle"]).expect(0);
        let verified = self.run(&["evidence", "verify", "../../bundle", "--json"]).object(0);
        assert_eq!(verified["ok"], true, "{verified}");
        let intact = self.run(&["journal", "verify", "--json"]).object(0);
        assert_eq!(intact["ok"], true, "{intact}");
    }
}

#[test]
fn a_rust_crate_is_rewritten_tested_merged_and_restored() {
    let place = Place::new(&RUST);
    let before = Snapshot::of(&place.world.cwd);
    let rule = "language: Rust\nrule: { pattern: \"hash = hash ^ ($BYTE as u64);\" }\n\
                fix: \"hash ^= u64::from($BYTE);\"\n";
    let run = place.rewrite(rule).object(0);
    place.approve_merge_and_take_back(&before, &run, "+            hash ^= u64::from(*byte);\n");
}

#[test]
fn a_python_sdist_is_rewritten_tested_merged_and_restored() {
    let place = Place::new(&PYTHON);
    let before = Snapshot::of(&place.world.cwd);
    let to_tuple = r"s/isinstance\((\w+), ast\.(\w+)\)/isinstance(\1, (ast.\2,))/";
    let run = place.govern(&["--", "sed", "-i", "-E", to_tuple, "pyflakes/checker.py"]).object(0);
    place.approve_merge_and_take_back(&before, &run, "+    if isinstance(n, (ast.If,)):\n");
}

#[test]
fn an_npm_package_is_rewritten_tested_merged_and_restored() {
    let place = Place::new(&NODE);
    let before = Snapshot::of(&place.world.cwd);
    let rule = "language: JavaScript\nrule: { pattern: typeof $VALUE == $KIND }\n\
                fix: typeof $VALUE === $KIND\n";
    let run = place.rewrite(rule).object(0);
    place.approve_merge_and_take_back(&before, &run, "+   if (typeof values === \"number\") {\n");
}

/// Rounds down where the package rounds to the nearest, which its tests tell.
const BREAKING: &str = "language: JavaScript\nrule: { pattern: Math.round($VALUE) }\n\
                        fix: Math.floor($VALUE)\n";

#[test]
fn a_change_that_breaks_a_packages_tests_goes_nowhere() {
    let place = Place::new(&NODE);
    let before = Snapshot::of(&place.world.cwd);
    let run = place.rewrite(BREAKING).object(4);
    assert_eq!((text(&run, "state"), text(&run, "verdict")), ("failed", "fail"));
    assert_eq!(place.own_tests(&run), "failed");
    // One for the work, two on the result, since a test may be flaky, and one on the base.
    assert_eq!(run["sessions"].as_array().unwrap().len(), 4, "{run}");
    let done = place.run(&["approve", "--digest", text(&run, "digest")]);
    assert_eq!(done.refusal(7), "not_in_state");
    before.assert_kept(&place.world.cwd, &[]);
}

#[test]
fn tests_that_failed_before_are_not_the_changes_fault() {
    let place = Place::new(&NODE);
    let tests = place.world.cwd.join("test/basic.js");
    let more = std::fs::read_to_string(&tests).unwrap() + "assert.equal(1, 2);\n";
    std::fs::write(&tests, more).unwrap();
    place.world.commit("a test that fails");
    let before = Snapshot::of(&place.world.cwd);
    let run = place.rewrite(BREAKING).object(0);
    assert_eq!((text(&run, "state"), text(&run, "verdict")), ("awaiting_approval", "pass"));
    assert_eq!(place.own_tests(&run), "failed_before");
    // Said, and not taken for low risk.
    assert_eq!(text(&run, "risk_level"), "medium");
    assert_eq!(run["sessions"].as_array().unwrap().len(), 3, "{run}");
    before.assert_kept(&place.world.cwd, &[]);
}

#[test]
fn a_wasm_run_time_compiles_runs_and_traps() {
    let world = World::new();
    let unpacked = program("python3", &["-m", "zipfile", "-e"])
        .args([WASM.archive(), world.cwd.clone()])
        .output()
        .unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    std::fs::write(world.cwd.join("wasm.py"), WASM_SCRIPT).unwrap();
    world.commit("a run-time");
    let mut args = vec!["exec", "--json", "--"];
    args.extend(WASM.test);
    let done = world.run(&args).object(0);
    assert_eq!(text(&done, "stdout"), WASM.printed, "{done}");
    assert_eq!(done["denials"], serde_json::json!([]));
}
