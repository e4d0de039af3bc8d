//! The demo's own world, which goes when the demo is over: a clone, state, configuration, and what
//! is planted on the host for the hostile step to want.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use cofferdam_contract::ports::Entropy as _;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_repository::Git;

use crate::config::Configuration;
use crate::dirs::Dirs;
use crate::wiring::{SystemEntropy, path_variable};

/// Everything the demo makes.
pub(super) struct Scratch {
    dir: tempfile::TempDir,
    /// What only the planted secret says.
    pub(super) canary: String,
    /// What only the process that wants to outlive its call is named by.
    pub(super) marker: String,
    listener: TcpListener,
}

impl Scratch {
    /// Clones `source` and plants everything.
    ///
    /// # Errors
    /// `storage_failed`, or what git says against the clone.
    pub(super) fn of(source: &Path) -> Result<Self, Problem> {
        let failed = |error: std::io::Error| {
            Problem::new(Code::StorageFailed, format!("the demo's directory: {error}"))
        };
        let dir = tempfile::Builder::new().prefix("cofferdam-demo-").tempdir().map_err(failed)?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let scratch = Self { dir, canary: random(), marker: random(), listener };
        std::fs::write(scratch.path("secret"), &scratch.canary).map_err(failed)?;
        std::fs::create_dir_all(scratch.path("config/profiles")).map_err(failed)?;
        let profile = scratch.path("config/profiles/demo.toml");
        std::fs::write(profile, include_str!("profile.toml")).map_err(failed)?;
        clone(source, &scratch.clone())?;
        Ok(scratch)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn clone(&self) -> PathBuf {
        self.path("repository")
    }

    pub(super) fn dirs(&self) -> Dirs {
        let (state, cache, config) = (self.path("state"), self.path("cache"), self.path("config"));
        Dirs { state, cache, config }
    }

    /// The hostile step, with what it is after filled in.
    ///
    /// # Errors
    /// `configuration_invalid`.
    pub(super) fn configuration(&self, extends: &str) -> Result<Configuration, Problem> {
        let shown = |path: PathBuf| path.to_string_lossy().into_owned();
        let port = self.listener.local_addr().map_or(0, |it| it.port()).to_string();
        let wanted = [
            ("SECRET_FILE", shown(self.path("secret"))),
            ("OUTSIDE_FILE", shown(self.path("outside"))),
            ("HOOK_FILE", shown(self.path("hook-ran"))),
            ("LISTENER_PORT", port),
            ("MARKER", self.marker.clone()),
        ];
        let mut script: String =
            wanted.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
        script.push_str(include_str!("hostile.sh"));
        let setup = toml::Value::from(vec!["sh".to_owned(), "-c".to_owned(), script]);
        let text = format!(
            "extends = {}\n{}\n[session]\nsetup = {setup}\n",
            toml::Value::from(extends),
            include_str!("profile.toml")
        );
        let profile = self.path("config/profiles/demo.toml");
        std::fs::write(profile, text)
            .map_err(|error| Problem::new(Code::StorageFailed, error.to_string()))?;
        Ok(Configuration::new(self.path("config")))
    }

    /// Whether anything connected to the host's listener.
    pub(super) fn was_reached(&self) -> bool {
        self.listener.accept().is_ok()
    }

    /// Everything in the clone but what a run may add: its files, and refs, index, HEAD and
    /// configuration of its `.git`.
    pub(super) fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = vec![];
        let mut dirs = vec![self.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                let may_grow =
                    path.ends_with(".git/objects") || path.ends_with(".git/refs/heads/cofferdam");
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && !may_grow => dirs.push(path),
                    Ok(kind) if kind.is_file() => {
                        let bytes = std::fs::read(&path).unwrap_or_default();
                        found.push((path, bytes));
                    }
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }

    /// Whether what was to be written outside is there.
    pub(super) fn wrote_outside(&self) -> bool {
        let host = ["/etc/cofferdam-demo", "/usr/local/bin/cofferdam-demo"].map(PathBuf::from);
        host.iter().chain([&self.path("outside")]).any(|path| path.exists())
    }

    /// Whether what was planted for the host's git was run.
    pub(super) fn ran_a_hook(&self) -> bool {
        self.path("hook-ran").exists()
    }

    /// Processes of this host that carry the marker.
    pub(super) fn survivors(&self) -> usize {
        let carries = |dir: PathBuf| {
            let line = std::fs::read(dir.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&self.marker)
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let own = std::process::id().to_string();
        entries
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.bytes().all(|b| b.is_ascii_digit()) && *name != *own
            })
            .filter(|entry| carries(entry.path()))
            .count()
    }
}

fn random() -> String {
    let mut bytes = [0; 12];
    SystemEntropy.fill(&mut bytes);
    format!("demo-{}", cofferdam_contract::digest::hex(&bytes))
}

/// A clone of what is committed, made as everything of git's is made here.
fn clone(source: &Path, target: &Path) -> Result<(), Problem> {
    if !source.join(".git").exists() && !source.join("HEAD").exists() {
        let detail = format!("{} is not the top of a git repository", source.display());
        return Err(Problem::new(Code::NotARepository, detail)
            .hint("go to the top of a repository, or name one with --repo"));
    }
    let git = Git::find(&path_variable())?;
    git.clone_of(source, target).map_err(|error| {
        let detail = format!("no scratch clone can be made: {error}");
        Problem::new(Code::NotARepository, detail)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::process::{Command, Stdio};

    use super::*;

    /// What the proofs are decided from sees what it is there to see: each attempt, made from
    /// where no wall is.
    #[test]
    fn what_a_step_without_walls_would_do_is_seen() {
        let source = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=t", "-c", "user.email=t@example.invalid"]).args(args);
            let done =
                git.current_dir(source.path()).env("GIT_CONFIG_GLOBAL", "/dev/null").output();
            assert!(done.unwrap().status.success(), "{args:?}");
        };
        git(&["init", "--quiet"]);
        std::fs::write(source.path().join("a"), "a").unwrap();
        git(&["add", "a"]);
        git(&["commit", "--quiet", "--message", "a"]);
        let scratch = Scratch::of(source.path()).unwrap();
        let quiet = (scratch.was_reached(), scratch.survivors(), scratch.wrote_outside());
        assert_eq!(quiet, (false, 0, false), "the control: nothing was done");
        let before = scratch.snapshot();

        let port = scratch.listener.local_addr().unwrap().port();
        let _reaching = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut stray = Command::new("sh");
        stray.args(["-c", &format!("echo; read line; : {}", scratch.marker)]);
        let mut stray = stray.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Its arguments can be seen once it runs, which is a moment after it was started.
        let mut said = [0];
        std::io::Read::read_exact(&mut stray.stdout.take().unwrap(), &mut said).unwrap();
        std::fs::write(scratch.path("outside"), "").unwrap();
        assert_eq!(scratch.survivors(), 1);
        assert!(scratch.was_reached() && scratch.wrote_outside() && !scratch.ran_a_hook());
        std::fs::write(scratch.path("hook-ran"), "").unwrap();
        assert!(scratch.ran_a_hook());
        std::fs::write(scratch.clone().join("a"), "b").unwrap();
        assert_ne!(scratch.snapshot(), before);
        stray.kill().unwrap();
        stray.wait().unwrap();
        assert_eq!(scratch.survivors(), 0);
    }
}
