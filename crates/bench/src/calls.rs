//! One call of `/bin/true` in a warm session, against starting it bare and in a fresh sandbox.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cofferdam_contract::ids::CallId;
use cofferdam_contract::request::DriverRequest;
use cofferdam_engine::sessions::OpenSession;
use cofferdam_engine::{Attached, Engine, Unobserved};
use cofferdam_sandbox::{CallIo, CallSpec, Program};
use cofferdam_tools::CallRequest;

use crate::measure::{Contender, Rounds, interleave, timed};
use crate::report::{Goal, Medians, Table};
use crate::repositories::Generated;
use crate::runc::Container;
use crate::workspaces::Opener;
use crate::world::{NoSessions, SystemClock, SystemEntropy, World, request};

const BARE: &str = "bare spawn";
const SPAWN_CLIENT: &str = "bare spawn of the client, asked for its version";
const BWRAP: &str = "bubblewrap, a sandbox a call";
const RUNC: &str = "runc exec into a container that stays";
const CALL: &str = "call, journalled";
const UNRECORDED: &str = "the session's part alone";
const PIPELINE: &str = "the pipeline's part alone";
const CLIENT: &str = "session exec";
const CLIENT_JSON: &str = "session exec --json";

/// Measures it.
///
/// # Errors
/// The first that fails.
pub(crate) fn table(world: &World, on: &Generated, rounds: Rounds) -> anyhow::Result<Table> {
    let native = world.native_sessions(true)?;
    let engine = world.engine("calls", Arc::clone(&native) as _)?;
    let idle = world.engine("pipeline", Arc::new(NoSessions { native: Arc::clone(&native) }))?;
    let (attached, pipeline) = (attach(world, &engine, on)?, attach(world, &idle, on)?);
    let opener = Opener::new(world, on, native)?;
    let unrecorded = opener.open()?;
    let client = Client::start(world, on)?;
    let container = Container::start(&world.path("runc"))?;
    let mut contenders = vec![
        Contender::new(BARE, || spawn(&mut Command::new("/bin/true"))),
        Contender::new(CALL, || call(world, &attached)),
        Contender::new(BWRAP, || spawn(&mut bubblewrap())),
        Contender::new(UNRECORDED, || call_unrecorded(world, &unrecorded)),
        Contender::new(PIPELINE, || call(world, &pipeline)),
        Contender::new(SPAWN_CLIENT, || spawn(&mut world.program(&["--version"]))),
        Contender::new(CLIENT, || client.exec(&[])),
        Contender::new(CLIENT_JSON, || client.exec(&["--json"])),
    ];
    if let Some(container) = &container {
        contenders.push(Contender::new(RUNC, || container.exec()).every(10));
    }
    let timings = interleave(rounds, contenders)?;
    client.end()?;
    unrecorded.discard();
    world.runtime.block_on(async { (attached.end().await, pipeline.end().await) }).0?;
    let medians = Medians(&timings);
    let claims = vec![
        medians
            .ratio("call, journalled, against bare spawn", (CALL, BARE), at_most(1.15))
            .goes(WHERE_CALL),
        medians.ratio("bubblewrap a call, against bare spawn", (BWRAP, BARE), None),
        medians.ratio("bubblewrap a call, against our call", (BWRAP, CALL), None),
        medians.ratio("runc exec, against our call", (RUNC, CALL), None),
        medians
            .added("session exec, outside the call", (CLIENT, CALL), at_most(3.0))
            .goes(WHERE_CLIENT),
        medians.ratio("where: the session's part, against bare", (UNRECORDED, BARE), None),
        medians.median("where: the pipeline's part", PIPELINE, None),
    ];
    Ok(Table {
        title: "One call of `/bin/true` in a warm session".to_owned(),
        about: ABOUT,
        claims,
        timings,
    })
}

const ABOUT: &str = "`call, journalled` is the engine's own: policy, budget, intent, program, \
    outcome, settlement, with output captured. `the session's part alone` carries the same program \
    out without any of that; `the pipeline's part alone` is all of that without a program. \
    `session exec` is a process that asks the supervisor over its socket.";

const WHERE_CALL: &str = "three processes that wake one another (caller, init, program, init, \
    caller) where a bare spawn has two; the program's own start behind a system-call filter, \
    Landlock and an overlay; and two commits, one before the program and one after it, of one write \
    to a log each, which the database takes over in the background. In a profile of 200 calls \
    (`perf record -a -e sched:sched_switch,sched:sched_wakeup,sched:sched_process_fork,\
    sched:sched_process_exec,sched:sched_process_exit` beside this table) 1.7 times a bare spawn was \
    made of: the pipeline, a quarter of what is added; init from its wake-up to the fork, a quarter; \
    init from the program's end until the caller is woken, a fifth; the child before it is the \
    program, 0.15 of it, half of which is the call's own Landlock domain; the program's run and exit, \
    0.12. How fast a machine wakes and switches processes \
    decides the ratio: the same two programs had 1.2 on one day and 1.7 on another, while a bare spawn \
    took the same.";

const WHERE_CLIENT: &str = "starting the client, which is a large program, takes most of it: \
    of its 380 page faults where /bin/true has 50, half are relocations of read-only data, which a \
    program that can be loaded anywhere has. What it adds to that are a connection and the relay of \
    three descriptors.";

fn at_most(value: f64) -> Option<Goal> {
    Some(Goal::AtMost(value))
}

fn attach(world: &World, engine: &Engine, on: &Generated) -> anyhow::Result<Arc<Attached>> {
    let request = request(&on.path, DriverRequest::Attached {})?;
    let attached = engine.attach(request, Arc::new(Unobserved));
    Ok(Arc::new(world.runtime.block_on(attached)?))
}

/// Starts a program as plainly as can be and waits for it.
fn spawn(command: &mut Command) -> anyhow::Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    timed(|| {
        let status = command.status()?;
        ensure!(status.success(), "failed ({status}): {command:?}");
        Ok(())
    })
}

fn bubblewrap() -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr"]);
    for link in ["bin", "lib", "lib64"] {
        command.args(["--symlink", &format!("usr/{link}"), &format!("/{link}")]);
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "/bin/true"]);
    command
}

/// Where calls come from in a supervisor: a task.
fn call(world: &World, attached: &Arc<Attached>) -> anyhow::Result<Duration> {
    let attached = Arc::clone(attached);
    let task = world.runtime.spawn(async move {
        let input = serde_json::json!({ "executable": "/bin/true" });
        let began = Instant::now();
        let report = attached.call(CallRequest::new("exec", input)).await?;
        let took = began.elapsed();
        ensure!(report.outcome.exit_code == Some(0), "failed: {:?}", report.outcome);
        Ok(took)
    });
    world.runtime.block_on(task)?
}

/// As [`call`], without any pipeline.
fn call_unrecorded(world: &World, session: &Arc<dyn OpenSession>) -> anyhow::Result<Duration> {
    carry_out(world, session, "/bin/true", &[])
}

/// Runs a program in a session without any pipeline, and says how long it took.
///
/// # Errors
/// If it does not end with 0.
pub(crate) fn carry_out(
    world: &World,
    session: &Arc<dyn OpenSession>,
    executable: &str,
    args: &[&str],
) -> anyhow::Result<Duration> {
    let program = Program::Execute {
        executable: executable.into(),
        args: args.iter().map(Into::into).collect(),
    };
    let what = format!("{executable} {args:?}");
    let session = Arc::clone(session);
    let task = world.runtime.spawn(async move {
        let began = Instant::now();
        let spec = CallSpec {
            id: CallId::generate(&SystemClock, &SystemEntropy),
            program,
            environment: vec![],
            cwd: "/workspace".into(),
            // A first search reads every file from the disk.
            timeout_ms: 120_000,
            output_bytes_max: 1 << 20,
            background: false,
            is_agent: false,
            terminal: false,
        };
        let result = session.start(spec, CallIo::Captured { stdin: vec![] })?.wait().await;
        let took = began.elapsed();
        let said = String::from_utf8_lossy(&result.stderr);
        let end = (result.end, result.exit_code);
        ensure!(end.1 == Some(0), "{what}: {end:?}: {said}");
        Ok(took)
    });
    world.runtime.block_on(task)?
}

/// A session of the background supervisor, and the client to it.
struct Client<'a> {
    world: &'a World,
    session: String,
}

impl<'a> Client<'a> {
    fn start(world: &'a World, on: &Generated) -> anyhow::Result<Self> {
        let path = on.path.to_str().context("a path is not UTF-8")?;
        let started = world.object(&["session", "start", "--json", "--repo", path])?;
        let session = started["session"].as_str().context("no session")?.to_owned();
        Ok(Self { world, session })
    }

    fn exec(&self, flags: &[&str]) -> anyhow::Result<Duration> {
        let mut command = self.world.program(&["session", "exec", &self.session]);
        spawn(command.args(flags).args(["--", "/bin/true"]))
    }

    fn end(&self) -> anyhow::Result<()> {
        self.world.object(&["session", "end", "--json", &self.session]).map(|_| ())
    }
}
