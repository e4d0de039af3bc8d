//! Opening a workspace and reading what changed in it, against what git does for the same.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::events::{BaseCommit, EventBody};
use cofferdam_contract::ids::{RunId, SessionId};
use cofferdam_contract::ports::{PortFuture, Record};
use cofferdam_contract::request::{DriverRequest, RepositorySource};
use cofferdam_engine::denials::DenialBook;
use cofferdam_engine::sessions::native::NativeSessions;
use cofferdam_engine::sessions::{OpenSession, SessionOrder, Sessions as _};
use cofferdam_engine::{Attached, Unobserved};
use cofferdam_policy::{Policy, Profile, builtin, compile};
use cofferdam_repository::{Broker, Repository};
use cofferdam_tools::CallRequest;

use crate::measure::{Contender, Rounds, interleave, timed};
use crate::report::{Goal, Medians, Table};
use crate::repositories::{Generated, command, git};
use crate::world::{SystemClock, SystemEntropy, World, request};

const OPEN: &str = "session ready over the cached base";
const CLOSE: &str = "session over and its workspace removed, 10 files written";
const ATTACH: &str = "the same as a run: admission, git, journal";
const WORKTREE: &str = "git worktree add";
const CHANGESET: &str = "changeset of 10 files: freeze, read what was written, thaw";
const CHECKPOINT: &str = "checkpoint: the same as a tree in git's store, with changeset and patch";
const STASH: &str = "git stash create with the same 10 files changed";
const STATUS: &str = "git status with the same 10 files changed";
/// How many files change.
const CHANGED: usize = 10;

/// Measures both on one repository. `worktree_every` is how many rounds go by between two
/// worktrees, which take seconds.
///
/// # Errors
/// The first that fails.
pub(crate) fn table(
    world: &World,
    on: &Generated,
    rounds: Rounds,
    worktree_every: usize,
    kind: WorkspaceKind,
) -> anyhow::Result<Table> {
    let native = world.sessions_of(kind, true)?;
    let opener = Opener::of_kind(world, on, Arc::clone(&native), kind)?;
    let called = format!("workspaces-{}-{}", on.files, name(kind));
    let engine = world.engine_of(&called, native, kind)?;
    let attach = || -> anyhow::Result<(Attached, Duration)> {
        let request = request(&on.path, DriverRequest::Attached {})?;
        let began = Instant::now();
        let attached = world.runtime.block_on(engine.attach(request, Arc::new(Unobserved)))?;
        Ok((attached, began.elapsed()))
    };
    let changed = Changed::new(world, on)?;
    let session = opener.open()?;
    let attached = attach()?.0;
    let script = changed.script();
    let edit = serde_json::json!({ "executable": "/bin/sh", "args": ["-c", script] });
    world.runtime.block_on(attached.call(CallRequest::new("exec", edit)))?;
    crate::calls::carry_out(world, &session, "/bin/sh", &["-c", &script])?;
    let number = Cell::new(0);
    let contenders = vec![
        Contender::new(OPEN, || open(&opener)),
        Contender::new(ATTACH, || {
            let (attached, took) = attach()?;
            world.runtime.block_on(attached.end())?;
            Ok(took)
        }),
        Contender::new(CHANGESET, || changed.scan(&*session)),
        Contender::new(CHECKPOINT, || {
            timed(|| {
                let diff = world.runtime.block_on(attached.diff())?;
                ensure!(diff.changeset.files.len() == CHANGED, "not every change was found");
                Ok(())
            })
        }),
        Contender::new(CLOSE, || opener.close(world, &script)),
        Contender::new(STATUS, || changed.status()),
        Contender::new(STASH, || changed.stash()),
        Contender::new(WORKTREE, || {
            number.set(number.get() + 1);
            let path = world.path(&format!("worktree-{}-{}", on.files, number.get()));
            let took = timed(|| on.add_worktree(&path))?;
            on.remove_worktree(&path)?;
            Ok(took)
        })
        .every(worktree_every),
    ];
    let timings = interleave(rounds, contenders.into_iter().map(Contender::settled).collect())?;
    session.discard();
    world.runtime.block_on(attached.end())?;
    changed.remove()?;
    Ok(Table {
        title: format!("Workspaces of {} files, {}", on.files, name(kind)),
        about: match kind {
            WorkspaceKind::Btrfs => ABOUT_SNAPSHOTS,
            WorkspaceKind::Copy => ABOUT_COPIES,
            _ => ABOUT,
        },
        claims: claims(on.files, &Medians(&timings)),
        timings,
    })
}

/// What a kind is called here.
pub(crate) fn name(kind: WorkspaceKind) -> &'static str {
    match kind {
        WorkspaceKind::Overlay => "overlay",
        WorkspaceKind::Btrfs => "btrfs",
        WorkspaceKind::Copy => "copy",
        WorkspaceKind::Empty => "none",
    }
}

fn open(opener: &Opener) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let session = opener.open()?;
    let took = began.elapsed();
    session.discard();
    Ok(took)
}

const ABOUT: &str = "Overlay workspaces. `session ready` is from the order to a session that takes \
    calls, with all its walls up, on a base that is in the cache. The worktree for `git status` is \
    warm: its index is refreshed and its files are in the page cache. Before each turn what others left \
    to be written is written.";

const ABOUT_SNAPSHOTS: &str = "The same with snapshots in a pool (`cofferdam pool create`). Opening \
    waits for one commit of the file system, and so does reading what was written.";

const ABOUT_COPIES: &str = "The same with copies, which a session gets where nothing better can be had: \
    opening and closing take as long as the files are many.";

const WHERE: &str = "the workspace itself is one mount and does not depend on the number of files. \
    On cgroup v1, moving init into its group waits for all processors, which is a third and more \
    of it; the rest is the private root: some hundred mounts of the toolchain view and 1,500 \
    system calls.";

const WHERE_CHANGESET: &str = "in a pool it is a snapshot first, so that nothing is missed that the \
    kernel still holds in memory: one commit of the file system, which checks every node that it \
    writes, half of the time and more. The rest is the search for what that commit and those before \
    it wrote, the names above each file that was found, and the directories on the way to them. In an \
    overlay it is the upper layer's own directories and nothing else.";

fn claims(files: usize, medians: &Medians<'_>) -> Vec<crate::report::Claim> {
    let large = files >= 200_000;
    let goal = |goal| large.then_some(goal);
    vec![
        medians.ratio(
            "git worktree add, against session ready",
            (WORKTREE, OPEN),
            goal(Goal::AtLeast(500.0)),
        ),
        medians.median("session ready", OPEN, goal(Goal::AtMost(10.0))).goes(WHERE),
        medians.median("session over, 10 files written", CLOSE, None),
        medians
            .ratio(
                "git status, against changeset of 10 files",
                (STATUS, CHANGESET),
                goal(Goal::AtLeast(50.0)),
            )
            .goes(WHERE_CHANGESET),
        medians.ratio("git status, against a checkpoint", (STATUS, CHECKPOINT), None),
        medians.ratio("git stash, against a checkpoint", (STASH, CHECKPOINT), None),
        medians.ratio("git worktree add, against session closed", (WORKTREE, CLOSE), None),
        medians.median("whole opening as a run", ATTACH, None),
    ]
}

/// Opens sessions on one prepared base without an engine.
pub(crate) struct Opener {
    native: Arc<NativeSessions>,
    broker: Broker,
    repository: Repository,
    base: BaseCommit,
    policy: Policy,
}

impl Opener {
    /// Prepares the base if it is not in the cache.
    ///
    /// # Errors
    /// What git says.
    pub(crate) fn new(
        world: &World,
        on: &Generated,
        native: Arc<NativeSessions>,
    ) -> anyhow::Result<Self> {
        Self::of_kind(world, on, native, WorkspaceKind::Overlay)
    }

    /// The same with workspaces of that kind.
    ///
    /// # Errors
    /// What git says.
    pub(crate) fn of_kind(
        world: &World,
        on: &Generated,
        native: Arc<NativeSessions>,
        kind: WorkspaceKind,
    ) -> anyhow::Result<Self> {
        Self::with(world, on, native, |profile| profile.session.workspace_kind = kind)
    }

    /// The same with a profile that is changed before it is used.
    ///
    /// # Errors
    /// What git says.
    pub(crate) fn with(
        world: &World,
        on: &Generated,
        native: Arc<NativeSessions>,
        change: impl FnOnce(&mut Profile),
    ) -> anyhow::Result<Self> {
        let broker = world.broker(&format!("opener-{}", on.files))?;
        let asked = request(&on.path, DriverRequest::Attached {})?;
        let path = on.path.to_str().context("a path is not UTF-8")?;
        let repository = broker.locate(&RepositorySource::Path(path.to_owned()))?;
        let base = repository.resolve("main")?;
        broker.prepare(&repository, &base, &|_| {})?;
        let mut profile = builtin(&asked.profile)?;
        change(&mut profile);
        let policy = compile(&profile, None, &asked)?;
        Ok(Self { native, broker, repository, base, policy })
    }

    /// What its sessions are overlays over, the uppermost first.
    ///
    /// # Errors
    /// What git says.
    pub(crate) fn layers(&self) -> anyhow::Result<Vec<PathBuf>> {
        Ok(self.broker.prepare(&self.repository, &self.base, &|_| {})?.layers.clone())
    }

    /// A session on the base, which is found in the cache.
    ///
    /// # Errors
    /// What the boundary lacks.
    pub(crate) fn open(&self) -> anyhow::Result<Arc<dyn OpenSession>> {
        let prepared = self.broker.prepare(&self.repository, &self.base, &|_| {})?;
        let order = SessionOrder {
            repository: vec![],
            session: SessionId::generate(&SystemClock, &SystemEntropy),
            run: RunId::generate(&SystemClock, &SystemEntropy),
            policy: &self.policy,
            base_layers: prepared.layers.clone(),
            fill: &mut std::iter::empty(),
            carry: vec![],
            workspace_path: PathBuf::from("/workspace"),
            book: Arc::new(DenialBook::new(Arc::new(Forgets))),
        };
        Ok(self.native.open(order)?)
    }
}

impl Opener {
    /// How long it takes to end a session that ran a script.
    fn close(&self, world: &World, script: &str) -> anyhow::Result<Duration> {
        let session = self.open()?;
        crate::calls::carry_out(world, &session, "/bin/sh", &["-c", script])?;
        timed(|| {
            session.discard();
            Ok(())
        })
    }
}

/// Records nothing.
struct Forgets;

impl Record for Forgets {
    fn commit(&self, _events: Vec<EventBody>) -> PortFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn observe(&self, _event: EventBody) {}
}

/// The same ten changes in a session and in a worktree.
struct Changed<'a> {
    on: &'a Generated,
    worktree: PathBuf,
    files: Vec<String>,
}

impl<'a> Changed<'a> {
    fn new(world: &World, on: &'a Generated) -> anyhow::Result<Self> {
        let worktree = world.path(&format!("status-{}", on.files));
        on.add_worktree(&worktree)?;
        let files = on.some_files(CHANGED);
        for file in &files {
            std::fs::write(worktree.join(file), "changed\n")?;
        }
        // Refreshes the index, which is what makes the next one fast.
        git(&worktree, &["status", "--porcelain"])?;
        Ok(Self { on, worktree, files })
    }

    /// Makes the changes inside a session.
    fn script(&self) -> String {
        format!("for f in {}; do echo changed > $f; done", self.files.join(" "))
    }

    fn scan(&self, session: &dyn OpenSession) -> anyhow::Result<Duration> {
        timed(|| {
            session.freeze()?;
            let left = session.left();
            session.thaw()?;
            let found = left?.changes.len();
            ensure!(found == CHANGED, "{found} changes were found");
            Ok(())
        })
    }

    fn status(&self) -> anyhow::Result<Duration> {
        let mut status: Command = command(&self.worktree, &["status", "--porcelain"]);
        status.stdin(Stdio::null());
        timed(|| {
            let output = status.output()?;
            let found = output.stdout.split(|byte| *byte == b'\n').count() - 1;
            ensure!(found == CHANGED, "git status found {found} changes");
            Ok(())
        })
    }

    /// Keeps the changes as a commit and leaves the files as they are.
    fn stash(&self) -> anyhow::Result<Duration> {
        let author = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"];
        let create: Vec<&str> = author.into_iter().chain(["stash", "create"]).collect();
        timed(|| git(&self.worktree, &create))
    }

    fn remove(&self) -> anyhow::Result<()> {
        self.on.remove_worktree(&self.worktree)
    }
}
