//! A user's repository made with ordinary git, and a broker beside it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use cofferdam_contract::change::{FileKind, TreeChange};
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::events::EffectIntent;
use cofferdam_contract::ids::OperationKey;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::time::UtcTime;
use cofferdam_repository::{
    Broker, BrokerOptions, CrashPoint, FETCH_TIMEOUT_MS, Git, Repository, no_crash,
};

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) repo: PathBuf,
}

/// Ordinary git with an empty home, its configuration in force.
pub(crate) fn git_in<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Output {
    Command::new("git")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "file:ext:ssh:git:https")
        .envs(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|name| (name, "Owner")))
        .envs(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, "owner@localhost")))
        .output()
        .unwrap()
}

pub(crate) fn ok<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> String {
    let output = git_in(dir, args);
    let shown: Vec<_> = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
    assert!(output.status.success(), "git {shown:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
}

pub(crate) fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let path = path.as_ref();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

pub(crate) fn script(path: &Path, body: &str) {
    write(path, format!("#!/bin/sh\n{body}\n"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Fixture {
    /// A repository on branch `main` with two commits, and a directory for the broker.
    pub(crate) fn new() -> Self {
        Self::named("repo")
    }

    pub(crate) fn named(name: impl AsRef<OsStr>) -> Self {
        Self::made(name.as_ref(), &["init", "-q", "-b", "main"])
    }

    pub(crate) fn sha256() -> Self {
        Self::made(OsStr::new("repo"), &["init", "-q", "-b", "main", "--object-format=sha256"])
    }

    fn made(name: &OsStr, init: &[&str]) -> Self {
        let fixture = Self::empty(name, init);
        write(fixture.repo.join("first.txt"), "one\ntwo\nthree\n");
        fixture.commit("first");
        write(fixture.repo.join("src/lib.rs"), "fn main() {}\n");
        fixture.commit("second");
        fixture
    }

    pub(crate) fn empty(name: &OsStr, init: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join(name);
        std::fs::create_dir(&repo).unwrap();
        ok(&repo, init);
        Self { dir, repo }
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        ok(&self.repo, args)
    }

    pub(crate) fn commit(&self, message: &str) -> ObjectId {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.rev("HEAD")
    }

    pub(crate) fn rev(&self, name: &str) -> ObjectId {
        self.git(&["rev-parse", "--verify", name]).parse().unwrap()
    }

    pub(crate) fn broker(&self) -> Broker {
        self.broker_with(no_crash())
    }

    pub(crate) fn broker_with(&self, crash_point: CrashPoint) -> Broker {
        broker_at(self.dir.path(), crash_point)
    }

    pub(crate) fn located(&self) -> (Broker, Repository) {
        let broker = self.broker();
        let repository = broker.locate_path(&self.repo).unwrap();
        (broker, repository)
    }

    /// The result tree of putting `text` at `path` over `base`.
    pub(crate) fn result(&self, path: &str, text: &str) -> ObjectId {
        let (broker, repository) = self.located();
        let base = repository.resolve("HEAD").unwrap();
        broker
            .write_tree(&repository, &base.tree, &mut vec![Ok(put(path, text))].into_iter())
            .unwrap()
    }

    pub(crate) fn intent(&self, base: &ObjectId, tree: &ObjectId) -> EffectIntent {
        apply_intent("refs/heads/cofferdam/run-1", base, tree)
    }
}

pub(crate) fn broker_at(dir: &Path, crash_point: CrashPoint) -> Broker {
    Broker::open(BrokerOptions {
        store: dir.join("state/store"),
        cache: dir.join("cache"),
        git: Git::find(&std::env::var_os("PATH").unwrap()).unwrap(),
        crash_point,
        fetch_environment: Vec::new(),
        fetch_timeout_ms: FETCH_TIMEOUT_MS,
    })
    .unwrap()
}

pub(crate) fn apply_intent(branch: &str, base: &ObjectId, tree: &ObjectId) -> EffectIntent {
    EffectIntent::Apply {
        key: OperationKey("run/apply/1".to_owned()),
        branch: branch.to_owned(),
        base: base.clone(),
        tree: tree.clone(),
        message: "change it\n\nCofferdam-Run: run_1\n".to_owned(),
        author: "local:owner".parse().unwrap(),
        at: UtcTime::from_unix_ms(1_790_000_000_000),
    }
}

pub(crate) fn merge_intent(branch: &str, expected: &ObjectId, commit: &ObjectId) -> EffectIntent {
    EffectIntent::Merge {
        key: OperationKey("run/merge/1".to_owned()),
        branch: branch.to_owned(),
        expected: expected.clone(),
        commit: commit.clone(),
    }
}

pub(crate) fn rollback_intent(
    branch: &str,
    expected: &ObjectId,
    restore: Option<&ObjectId>,
) -> EffectIntent {
    EffectIntent::Rollback {
        key: OperationKey("run/rollback/1".to_owned()),
        branch: branch.to_owned(),
        expected: expected.clone(),
        restore: restore.cloned(),
    }
}

pub(crate) fn path(bytes: impl AsRef<[u8]>) -> RepoPath {
    RepoPath::new(bytes.as_ref()).unwrap()
}

pub(crate) fn put(at: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> TreeChange<'static> {
    put_kind(at, FileKind::File, bytes)
}

pub(crate) fn put_kind(
    at: impl AsRef<[u8]>,
    kind: FileKind,
    bytes: impl AsRef<[u8]>,
) -> TreeChange<'static> {
    let bytes = bytes.as_ref().to_vec();
    let size_bytes = bytes.len() as u64;
    TreeChange::Put {
        path: path(at),
        kind,
        size_bytes,
        content: Box::new(std::io::Cursor::new(bytes)),
    }
}

pub(crate) fn remove(at: impl AsRef<[u8]>) -> TreeChange<'static> {
    TreeChange::Remove { path: path(at) }
}

pub(crate) fn all(
    changes: Vec<TreeChange<'static>>,
) -> impl Iterator<Item = Result<TreeChange<'static>, Problem>> {
    changes.into_iter().map(Ok)
}

/// Everything beneath a directory: mode, modification time and content by path.
pub(crate) type Picture = BTreeMap<PathBuf, (u32, i64, Vec<u8>)>;

pub(crate) fn picture(dir: &Path) -> Picture {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let file = entry.unwrap().path();
            let data = file.symlink_metadata().unwrap();
            let content = if data.is_dir() {
                pending.push(file);
                continue;
            } else if data.is_symlink() {
                std::fs::read_link(&file).unwrap().into_os_string().into_encoded_bytes()
            } else {
                let mut bytes = Vec::new();
                std::fs::File::open(&file).unwrap().read_to_end(&mut bytes).unwrap();
                bytes
            };
            let path = file.strip_prefix(dir).unwrap().to_owned();
            // Git dates an object that is written again anew, so that it is not collected.
            let nanos = match path.starts_with(".git/objects") {
                true => 0,
                false => data.mtime() * 1_000_000_000 + data.mtime_nsec(),
            };
            found.insert(path, (data.mode(), nanos, content));
        }
    }
    found
}

/// The paths that differ between two pictures.
pub(crate) fn differing(before: &Picture, after: &Picture) -> Vec<PathBuf> {
    let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    paths.into_iter().filter(|it| before.get(*it) != after.get(*it)).cloned().collect()
}

/// Whether an owner may find this path new: an object that was not there, or a branch of ours.
pub(crate) fn is_ours(before: &Picture, path: &Path) -> bool {
    let new = !before.contains_key(path);
    (new && path.starts_with(".git/objects")) || path.starts_with(".git/refs/heads/cofferdam")
}

/// A crash point that dies by panic the `nth` time that `name` is reached.
pub(crate) fn die_at(name: &'static str) -> CrashPoint {
    Arc::new(move |reached| assert_ne!(reached, name, "the crash that was asked for"))
}
