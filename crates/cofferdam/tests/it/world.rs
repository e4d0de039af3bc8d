//! A private world for one test: home, repository, and the binary that sees nothing else.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// Where the tests find the binary once they run from elsewhere, as another user.
pub(crate) const BINARY_VARIABLE: &str = "COFFERDAM_TESTS_BINARY";

/// The binary that is tested.
pub(crate) fn binary() -> PathBuf {
    let copied = std::env::var_os(BINARY_VARIABLE);
    copied.map_or_else(|| env!("CARGO_BIN_EXE_cofferdam").into(), PathBuf::from)
}

/// What came of one command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Standard output of a command that must end so.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.stdout
    }

    /// The one JSON object of a command that must end so.
    #[track_caller]
    pub(crate) fn object(self, code: i32) -> Value {
        let said = format!("{self:?}");
        let stdout = self.expect(code);
        assert_eq!(stdout.matches('\n').count(), 1, "{said}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// The error code of a command that must fail so, from what people read.
    #[track_caller]
    pub(crate) fn refusal(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains("error: ") && self.stderr.contains("\nhint: "), "{self:?}");
        let line = self.stderr.lines().find_map(|line| line.strip_prefix("code: "));
        line.unwrap_or_else(|| panic!("no code: {:?}", self.stderr)).to_owned()
    }
}

/// The world.
pub(crate) struct World {
    temp: tempfile::TempDir,
    /// Where commands run.
    pub(crate) cwd: PathBuf,
}

impl World {
    /// A world with one repository of one commit, in which commands run.
    pub(crate) fn new() -> Self {
        let world = Self::empty();
        world.git(&["init", "-q", "-b", "main", "."]);
        std::fs::write(world.cwd.join("greeting.txt"), "hello\n").unwrap();
        std::fs::create_dir(world.cwd.join("src")).unwrap();
        std::fs::write(world.cwd.join("src/lib.rs"), "pub fn one() -> u8 {\n    1\n}\n").unwrap();
        world.commit("first");
        world
    }

    /// A world without a repository.
    pub(crate) fn empty() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let cwd = temp.path().canonicalize().unwrap().join("repository");
        std::fs::create_dir(&cwd).unwrap();
        std::fs::create_dir(temp.path().join("home")).unwrap();
        Self { temp, cwd }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.temp.path().join("home")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home().join(".local/state/cofferdam")
    }

    /// Writes a file of the operator's configuration.
    pub(crate) fn configure(&self, name: &str, text: &str) {
        let file = self.home().join(".config/cofferdam").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn environment(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.home());
        command.current_dir(&self.cwd);
    }

    /// Git as a user has it, without the configuration of this machine.
    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        self.environment(&mut command);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_AUTHOR_DATE", "@1700000000 +0000");
        command.env("GIT_COMMITTER_DATE", "@1700000000 +0000");
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.invalid"]).args(args);
        Done::of(command.output().unwrap()).expect(0).trim_end().to_owned()
    }

    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// The binary with these arguments, and nothing on standard input.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(binary());
        self.environment(&mut command);
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }

    /// Runs the binary with bytes on a pipe as standard input.
    pub(crate) fn run_with(&self, stdin: &[u8], args: &[&str]) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        Done::of(child.wait_with_output().unwrap())
    }

    /// Runs a script in the world.
    pub(crate) fn shell(&self, script: &str) -> Done {
        let mut command = Command::new("sh");
        self.environment(&mut command);
        command.args(["-c", script]).stdin(Stdio::null());
        Done::of(command.output().unwrap())
    }

    /// Starts the binary with its standard output on a pipe.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// A run of the command driver whose agent is a shell script.
    pub(crate) fn edit(&self, script: &str) -> Value {
        self.run(&["run", "--json", "--task", "edit", "--", "sh", "-c", script]).object(0)
    }

    /// The background supervisor's process, if it lives.
    pub(crate) fn supervisor(&self) -> Option<OwnedFd> {
        let socket = UnixStream::connect(self.state().join("supervisor.sock")).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&socket).unwrap();
        rustix::process::pidfd_open(peer.pid, rustix::process::PidfdFlags::empty()).ok()
    }
}

impl Drop for World {
    /// Ends what a failed test left open.
    fn drop(&mut self) {
        let listed = self.command(&["session", "list", "--json"]).output();
        let listed = listed.ok().and_then(|it| serde_json::from_slice::<Value>(&it.stdout).ok());
        let rows = listed.and_then(|it| it["sessions"].as_array().cloned()).unwrap_or_default();
        for row in rows {
            let session = row["session"].as_str().unwrap_or_default().to_owned();
            let _ = self.command(&["session", "end", &session]).output();
        }
    }
}

/// Waits until the process is gone.
pub(crate) fn wait_for_end(process: &OwnedFd) {
    let mut fds = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
}

/// The text of a field.
#[track_caller]
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("{field} of {object}"))
}

/// What an object is made of: the names and types of its fields, values left out.
pub(crate) fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
        Value::Array(items) => items.first().map(shape).into_iter().collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "truth".into(),
        Value::Null => Value::Null,
    }
}

/// Every file and link beneath `dir` with what is in it; whiteouts of prepared bases are neither.
pub(crate) fn contents(dir: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_symlink() {
                let target =
                    std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
                found.insert(path, target);
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}
