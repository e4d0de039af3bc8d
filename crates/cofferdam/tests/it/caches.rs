//! Language caches of the host inside sessions: real tools build from them without a network,
//! what they add is the session's own, and the host's locks are not reached.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use crate::world::{Done, World};

/// A world whose profile `cached` names caches, and programs of the host that fill them.
struct Caches {
    world: World,
}

impl Caches {
    fn new(names: &str) -> Self {
        let world = World::new();
        world.configure("profiles/cached.toml", &format!("[session]\ncaches = [{names}]\n"));
        world.configure("profiles/none.toml", "[session]\ncaches = []\n");
        Self { world }
    }

    /// A program of the host, as the operator would use it; the caches are the world's.
    #[track_caller]
    fn host(&self, at: &Path, command: &[&str]) {
        let mut program = Command::new(command[0]);
        program.args(&command[1..]).current_dir(at).env("HOME", self.world.home());
        for name in ["PIP_CACHE_DIR", "PIP_NO_CACHE_DIR", "npm_config_cache", "XDG_CACHE_HOME"] {
            program.env_remove(name);
        }
        let done =
            Done::of(program.output().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        done.expect(0);
    }

    /// A script in a session under a profile, with the toolchains of whoever runs the tests.
    fn inside(&self, profile: &str, script: &str) -> Done {
        let args = ["exec", "--profile", profile, "--", "sh", "-ec", script];
        let mut command = self.world.command(&args);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        for (variable, below) in
            [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup"), ("PYENV_ROOT", ".pyenv")]
        {
            command.env(variable, home_of(variable, below));
        }
        Done::of(command.output().unwrap())
    }
}

/// Where a tool of whoever runs the tests has its things.
fn home_of(variable: &str, below: &str) -> OsString {
    let home = std::env::var_os("HOME").unwrap();
    std::env::var_os(variable).unwrap_or_else(|| Path::new(&home).join(below).into())
}

fn write(file: PathBuf, text: &str) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

#[test]
fn cargo_builds_from_the_hosts_downloads() {
    let caches = Caches::new("\"cargo\"");
    let at = &caches.world.cwd;
    write(
        at.join("Cargo.toml"),
        "[package]\nname = \"uses\"\nedition = \"2021\"\n[dependencies]\nfnv = \"=1.0.7\"\n",
    );
    write(
        at.join("src/lib.rs"),
        "pub fn map() -> fnv::FnvHashMap<u8, u8> { Default::default() }\n",
    );
    let mut fetch = Command::new("cargo");
    fetch.arg("fetch").current_dir(at);
    let fetched = fetch.output().unwrap();
    assert!(
        fetched.status.success(),
        "fnv 1.0.7 is needed: run this test once where the registry can be reached: {fetched:?}"
    );
    caches.world.commit("uses a crate");
    let build = "cargo build --quiet --offline --target-dir /tmp/target; echo built";
    assert_eq!(caches.inside("cached", build).expect(0), "built\n");
    let refused = caches.inside("none", build);
    assert_ne!(refused.code, Some(0), "the control: without the cache there is no crate");
    // Unpacking is writing; what is written is the session's own.
    let registry = PathBuf::from(home_of("CARGO_HOME", ".cargo")).join("registry");
    let mark = format!("of-a-test-{}", std::process::id());
    let script = format!("cd ~/.cargo/registry; echo x > {mark}; rm -r cache; ls");
    let seen = caches.inside("cached", &script).expect(0);
    assert!(seen.contains(&mark) && !seen.contains("cache\n"), "{seen}");
    assert!(!registry.join(mark).exists() && registry.join("cache").exists());
    let beside = caches.inside("cached", "ls -A ~/.cargo").expect(0);
    assert_eq!(beside.trim(), "registry", "nothing else of the host's");
}

/// A package with a build of its own, so that nothing but pip and Python is needed.
fn write_python_package(at: &Path) {
    write(
        at.join("pyproject.toml"),
        "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n\
         [project]\nname = \"cached-thing\"\nversion = \"1.0\"\n",
    );
    write(at.join("cached_thing.py"), "WHERE = 'from the cache'\n");
    write(
        at.join("backend.py"),
        "import zipfile\n\
         def build_wheel(directory, settings=None, metadata=None):\n\
         \x20   name = 'cached_thing-1.0-py3-none-any.whl'\n\
         \x20   info = 'cached_thing-1.0.dist-info/'\n\
         \x20   with zipfile.ZipFile(directory + '/' + name, 'w') as wheel:\n\
         \x20       wheel.write('cached_thing.py')\n\
         \x20       wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: cached-thing\\nVersion: 1.0\\n')\n\
         \x20       wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
         \x20       wheel.writestr(info + 'RECORD', ''.join(it + ',,\\n' for it in ('cached_thing.py', info + 'METADATA', info + 'WHEEL', info + 'RECORD')))\n\
         \x20   return name\n",
    );
}

/// pip asks an index before it looks at what it fetched, so that without a network it installs
/// what it built: the wheels of its cache, by their paths.
#[test]
fn pip_installs_the_wheels_that_the_host_built() {
    let caches = Caches::new("\"pip\"");
    let shelf = caches.world.home().join("shelf");
    let package = shelf.join("cached-thing-1.0");
    write_python_package(&package);
    caches.host(&shelf, &["tar", "-czf", "cached-thing-1.0.tar.gz", "cached-thing-1.0"]);
    std::fs::remove_dir_all(&package).unwrap();
    caches.host(
        &shelf,
        &[
            "python3",
            "-m",
            "pip",
            "install",
            "-q",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--disable-pip-version-check",
            "--root-user-action=ignore",
            "--find-links",
            ".",
            "--target",
            "installed",
            "cached-thing",
        ],
    );
    // The interpreter itself: a shim of pyenv would tend to its own directory afterwards.
    let install = "py=$(python3 -c 'import sys; print(sys.executable)'); \
        $py -m pip install -q --no-index --no-deps --target /tmp/t \
        $($py -m pip cache list --format=abspath); \
        PYTHONPATH=/tmp/t $py -c 'import cached_thing; print(cached_thing.WHERE)'";
    assert_eq!(caches.inside("cached", install).expect(0), "from the cache\n");
    assert_ne!(caches.inside("none", install).code, Some(0), "the control");
    // A lock on the host's file is not in the way, nor the other way round.
    let file = caches.world.home().join(".cache/pip/lock-of-the-host");
    write(file.clone(), "");
    let held = std::fs::File::open(&file).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let lock = "flock -n ~/.cache/pip/lock-of-the-host echo got it";
    assert_eq!(caches.inside("cached", lock).expect(0), "got it\n");
}

/// A registry on loopback: a directory of files.
struct Registry {
    server: Child,
    url: String,
}

impl Registry {
    fn of(dir: &Path) -> Self {
        let mut server = Command::new("python3")
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let url =
            said.split('(').nth(1).and_then(|rest| rest.split("/)").next()).unwrap().to_owned();
        Self { server, url }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn npm_installs_what_the_host_fetched() {
    let caches = Caches::new("\"npm\"");
    let shelf = caches.world.home().join("shelf");
    write(
        shelf.join("thing/package.json"),
        "{\"name\":\"cached-thing\",\"version\":\"1.0.0\",\"main\":\"index.js\"}",
    );
    write(shelf.join("thing/index.js"), "module.exports = 'from the cache';\n");
    caches.host(&shelf, &["npm", "pack", "--silent", "./thing"]);
    let registry = Registry::of(&shelf);
    let url = &registry.url;
    write(
        shelf.join("cached-thing"),
        &format!(
            "{{\"name\":\"cached-thing\",\"dist-tags\":{{\"latest\":\"1.0.0\"}},\"versions\":\
             {{\"1.0.0\":{{\"name\":\"cached-thing\",\"version\":\"1.0.0\",\"dist\":{{\"tarball\":\
             \"{url}/cached-thing-1.0.0.tgz\"}}}}}}}}"
        ),
    );
    let user = caches.world.home().join("user");
    write(user.join("package.json"), "{\"dependencies\":{\"cached-thing\":\"1.0.0\"}}");
    let from = format!("--registry={url}");
    caches.host(&user, &["npm", "install", "--silent", "--no-audit", "--no-fund", &from]);
    drop(registry);
    let at = &caches.world.cwd;
    write(at.join("package.json"), "{\"dependencies\":{\"cached-thing\":\"1.0.0\"}}");
    caches.world.commit("uses a package");
    let install = format!(
        "npm install --silent --offline --no-audit --no-fund {from}; \
         node -e 'console.log(require(\"cached-thing\"))'; ls -A ~/.npm"
    );
    let said = caches.inside("cached", &install).expect(0);
    assert!(said.starts_with("from the cache\n") && said.contains("_cacache"), "{said}");
    assert!(caches.world.home().join(".npm/_logs").exists());
    assert_ne!(caches.inside("none", &install).code, Some(0), "the control");
}
