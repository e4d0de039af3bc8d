//! Sessions that are plain directories, in place of the sandbox.
//!
//! What a session does is told by the executable's name: `write` writes a file, `fail` exits with
//! 3, `nothing` does nothing, `hang` waits until it is ended, `spend` takes so many milliseconds
//! or, if that is longer, overstays its time limit by one. `git` is git, and the codemod's resident
//! runs in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cofferdam_contract::capability::{CapabilityReport, WorkspaceKind};
use cofferdam_contract::change::{FileKind, TreeChange, WorkspaceChange};
use cofferdam_contract::denial::Denial;
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::{CallId, SessionId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_engine::sessions::{Left, OpenSession, SessionOrder, Sessions};
use cofferdam_sandbox::{CallIo, CallResult, CallSpec, Program, SessionEnd};
use cofferdam_tools::{CodemodInput, Ending, Hands, Running};

use crate::world::Crossings;

/// Sessions that are plain directories.
pub(crate) struct PlainSessions {
    pub(crate) dir: PathBuf,
    /// How long one takes to open.
    pub(crate) opening: Duration,
    pub(crate) crossings: Crossings,
}

impl Sessions for PlainSessions {
    fn open(&self, order: SessionOrder<'_>) -> Result<Arc<dyn OpenSession>, Problem> {
        std::thread::sleep(self.opening);
        self.crossings.cross("session.open.before")?;
        let dir = self.dir.join(order.session.as_str());
        std::fs::create_dir_all(&dir).unwrap();
        let before = read_layers(&order.base_layers);
        for (path, bytes) in &before {
            put(&dir, path, bytes);
        }
        for change in order.fill {
            match change? {
                TreeChange::Remove { path } => {
                    std::fs::remove_file(dir.join(path.as_utf8().unwrap())).unwrap();
                }
                TreeChange::Put { path, mut content, .. } => {
                    let mut bytes = vec![];
                    content.read_to_end(&mut bytes).unwrap();
                    put(&dir, path.as_utf8().unwrap(), &bytes);
                }
            }
        }
        self.crossings.cross("session.open.after")?;
        Ok(Arc::new(PlainSession {
            session: order.session,
            dir,
            before,
            report: report(),
            crossings: self.crossings.clone(),
            ended: Arc::default(),
        }))
    }
}

fn report() -> CapabilityReport {
    CapabilityReport {
        backend: "plain".to_owned(),
        rootless: true,
        kernel: "none".to_owned(),
        landlock_abi: 0,
        workspace: WorkspaceKind::Copy,
        walls: vec![],
        event_sources: vec![],
        limits: Limits::default(),
    }
}

fn put(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A base from its lowest layer up: a whiteout, the character device 0/0, takes a path away.
fn read_layers(layers: &[PathBuf]) -> BTreeMap<String, Vec<u8>> {
    use std::os::unix::fs::FileTypeExt as _;
    let mut whole = BTreeMap::new();
    for layer in layers.iter().rev() {
        let mut dirs = vec![layer.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path();
                let name = path.strip_prefix(layer).unwrap().to_str().unwrap().to_owned();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    whole.remove(&name);
                    dirs.extend((name != ".git").then_some(path));
                    continue;
                }
                let inside = format!("{name}/");
                whole.retain(|other: &String, _| *other != name && !other.starts_with(&inside));
                if !kind.is_char_device() {
                    whole.insert(name, std::fs::read(path).unwrap());
                }
            }
        }
    }
    whole
}

fn read_all(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            match path.is_dir() {
                true if name == ".git" => {}
                true => dirs.push(path),
                false => {
                    found.insert(name, std::fs::read(path).unwrap());
                }
            }
        }
    }
    found
}

type Ended = Arc<(Mutex<bool>, Condvar)>;

struct PlainSession {
    session: SessionId,
    dir: PathBuf,
    before: BTreeMap<String, Vec<u8>>,
    report: CapabilityReport,
    crossings: Crossings,
    ended: Ended,
}

struct Done {
    exit_code: i32,
    hang: Option<Ended>,
    duration_ms: u64,
    timed_out: bool,
}

impl Running for Done {
    fn stopper(&self) -> Box<dyn Fn() + Send> {
        let hang = self.hang.clone();
        Box::new(move || {
            if let Some(ended) = &hang {
                *ended.0.lock().unwrap() = true;
                ended.1.notify_all();
            }
        })
    }

    fn wait(self: Box<Self>) -> Ending {
        Box::pin(async move { tokio::task::spawn_blocking(|| self.end()).await.unwrap() })
    }

    fn block(self: Box<Self>) -> CallResult {
        self.end()
    }
}

impl Done {
    fn end(self) -> CallResult {
        let mut end = if self.timed_out { CallEnd::TimedOut } else { CallEnd::Exited };
        if let Some(ended) = &self.hang {
            let over = ended.0.lock().unwrap();
            drop(ended.1.wait_while(over, |over| !*over).unwrap());
            end = CallEnd::SessionLost;
        }
        CallResult {
            end,
            exit_code: (end == CallEnd::Exited).then_some(self.exit_code),
            signal: None,
            not_started: None,
            stdout: b"done".to_vec(),
            stderr: vec![],
            truncated: false,
            duration_ms: self.duration_ms,
            denials: 0,
        }
    }
}

impl PlainSession {
    fn execute(&self, executable: &str, args: &[&str], stdin: &[u8], timeout_ms: u64) -> Done {
        let done = |exit_code| Done { exit_code, hang: None, duration_ms: 1, timed_out: false };
        match (executable, args) {
            ("write", [path, text]) => {
                put(&self.dir, path, text.as_bytes());
                done(0)
            }
            ("remove", [path]) => {
                std::fs::remove_file(self.dir.join(path)).unwrap();
                done(0)
            }
            ("has", [path]) => done(i32::from(!self.dir.join(path).exists())),
            ("git", args) => done(self.git(args, stdin)),
            ("fail", []) => done(3),
            ("hang", []) => Done { hang: Some(Arc::clone(&self.ended)), ..done(0) },
            ("spend", [ms]) => {
                let ms: u64 = ms.parse().unwrap();
                let timed_out = ms > timeout_ms;
                Done { duration_ms: ms.min(timeout_ms + 1), timed_out, ..done(0) }
            }
            _ => done(0),
        }
    }

    fn git(&self, args: &[&str], stdin: &[u8]) -> i32 {
        let mut git = Command::new("git");
        git.args(args).current_dir(&self.dir).stdin(Stdio::piped());
        git.env("GIT_CEILING_DIRECTORIES", self.dir.parent().unwrap());
        let mut child = git.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        child.wait().unwrap().code().unwrap()
    }

    /// What the resident does, in this process.
    fn rewrite(&self, stdin: &[u8]) -> Done {
        let input: CodemodInput = serde_json::from_slice(stdin).unwrap();
        cofferdam_agents::codemod::run(&input.rule, &self.dir).unwrap();
        Done { exit_code: 0, hang: None, duration_ms: 1, timed_out: false }
    }
}

impl Hands for PlainSession {
    fn session(&self) -> &SessionId {
        &self.session
    }

    fn start(&self, spec: CallSpec, io: CallIo) -> Result<Box<dyn Running>, Problem> {
        self.crossings.cross("call.before")?;
        let stdin = match io {
            CallIo::Captured { stdin } => stdin,
            CallIo::Passed { .. } => vec![],
        };
        let done = match &spec.program {
            Program::Execute { executable, args } => {
                let args: Vec<_> = args.iter().map(|it| it.to_str().unwrap()).collect();
                self.execute(executable.to_str().unwrap(), &args, &stdin, spec.timeout_ms)
            }
            Program::Resident { .. } => self.rewrite(&stdin),
        };
        self.crossings.cross("call.after")?;
        Ok(Box::new(done))
    }

    fn denials(&self, _call: &CallId) -> Vec<Denial> {
        vec![]
    }
}

impl OpenSession for PlainSession {
    fn report(&self) -> &CapabilityReport {
        &self.report
    }

    fn freeze(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn thaw(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn left(&self) -> Result<Left, Problem> {
        let after = read_all(&self.dir);
        let names: BTreeSet<_> = self.before.keys().chain(after.keys()).collect();
        let mut changes = vec![];
        for name in names {
            let path = RepoPath::new(name.as_bytes()).unwrap();
            match (self.before.get(name), after.get(name)) {
                (before, Some(now)) if before != Some(now) => changes.push(WorkspaceChange::Put {
                    path,
                    kind: FileKind::File,
                    size_bytes: now.len() as u64,
                }),
                (Some(_), None) => changes.push(WorkspaceChange::Remove { path }),
                _ => {}
            }
        }
        Ok(Left { changes, left_out: vec![] })
    }

    fn read(&self, path: &RepoPath) -> Result<(FileKind, u64, Box<dyn Read + Send>), Problem> {
        let file = std::fs::File::open(self.dir.join(path.as_utf8().unwrap())).unwrap();
        let size_bytes = file.metadata().unwrap().len();
        Ok((FileKind::File, size_bytes, Box::new(file)))
    }

    fn end(&self) -> SessionEnd {
        *self.ended.0.lock().unwrap() = true;
        self.ended.1.notify_all();
        SessionEnd::default()
    }

    fn discard(&self) {
        if self.crossings.cross("session.discard.before").is_ok() {
            self.end();
            let _ = std::fs::remove_dir_all(&self.dir);
            let _ = self.crossings.cross("session.discard.after");
        }
    }
}
