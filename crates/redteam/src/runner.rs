//! Runs the probes: each in a session, each once more where the wall is not.
//!
//! ```text
//! renew the world ─▶ attempt in the session ─▶ look from outside ─▶ judge ─▶ did it succeed?
//!        └─────────▶ attempt in the control ─▶ look from outside ─▶ judge ─▶ did it fire?
//! ```
//! Must never know what a probe tries.

use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use cofferdam_contract::denial::Denial;
use cofferdam_contract::ids::CallId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_engine::sessions::OpenSession;
use cofferdam_sandbox::view::HOME;
use cofferdam_sandbox::{CallIo, CallSpec, Program};

use crate::Suite;
use crate::probe::{Attempt, Class, Open, Probe, Proof};
use crate::proof::{Seen, proven};
use crate::registry;
use crate::report::{EventSeen, Outcome, ProbeResult, Report};
use crate::scene::{Ground, Request};
use crate::watch::{Line, Received};
use crate::world::{Places, Secrets, Victim, World};

/// The hidden argument that starts an attempt.
pub const ATTEMPT_ARGUMENT: &str = "__redteam-attempt";
/// Longest that one attempt may take.
const ATTEMPT_MS: u64 = 10_000;
/// The rule that tells of an opened decoy.
const DECOY: &str = "decoy.opened";
/// Most of an output that is looked through.
const SAID_BYTES_MAX: u64 = 8 << 20;

/// Runs the probes of these classes, or all.
///
/// # Errors
/// What keeps the world from being made or a session from being opened.
pub(crate) fn run(suite: &Suite, classes: &[Class]) -> Result<Report, Problem> {
    let (started, at) = (Instant::now(), suite.clock.now());
    let world = World::plant(&suite.dir, suite.planted.clone(), suite.random).map_err(failed)?;
    world.renew().map_err(failed)?;
    let policy = suite.policy(suite.profile.limits)?;
    let session = suite.open(&policy, world.base())?;
    let decoys = suite.profile.session.decoys;
    let runner = Runner { world, session: &*session, decoys };
    let mut probes = Vec::new();
    for (class, line) in registry::ALL {
        if classes.is_empty() || classes.contains(class) {
            (suite.progress)(class.name());
            probes.extend(line.iter().map(|probe| runner.probe(suite, *class, probe)));
        }
    }
    let report = session.report();
    let (rootless, kernel) = (report.rootless, report.kernel.clone());
    session.discard();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        profile: suite.profile_name.clone(),
        rootless,
        kernel,
        at,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        probes,
    })
}

fn failed(error: io::Error) -> Problem {
    Problem::new(Code::StorageFailed, format!("the world to attack: {error}"))
}

/// What was seen of one attempt, and what was recorded of it.
struct Observed {
    succeeded: bool,
    denials: Vec<Denial>,
    refusal: Option<String>,
    no_place: Option<String>,
}

struct Runner<'a> {
    world: World,
    session: &'a dyn OpenSession,
    /// Whether the profile lays decoys out.
    decoys: bool,
}

impl Runner<'_> {
    fn probe(&self, suite: &Suite, class: Class, probe: &Probe) -> ProbeResult {
        let started = Instant::now();
        let attacked = self.in_session(suite, probe);
        let control = self.in_control(probe);
        let denials = attacked.as_ref().map_or(&[][..], |it| &it.denials);
        let told = probe.told.filter(|rule| self.decoys || *rule != DECOY);
        let event = event(told, denials);
        let outcome = outcome(probe, &attacked, &control);
        let control_fired = control.is_ok_and(|it| it.succeeded);
        ProbeResult {
            name: probe.name.to_owned(),
            class,
            tries: probe.tries.to_owned(),
            wall: probe.wall.to_owned(),
            outcome,
            event,
            control_fired,
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn in_session(&self, suite: &Suite, probe: &Probe) -> io::Result<Observed> {
        let other = io::Error::other::<Problem>;
        self.observe(probe, |request, given| {
            let mut request = request;
            request.ground.extend([
                ("WORKSPACE".to_owned(), suite.workspace_path.to_string_lossy().into_owned()),
                ("SHARED".to_owned(), suite.workspace_path.to_string_lossy().into_owned()),
                ("OWN_MOUNT".to_owned(), "/dev/shm".to_owned()),
                ("SESSION_HOME".to_owned(), HOME.to_owned()),
            ]);
            let ground = request.ground.clone();
            let program = match probe.attempt {
                Attempt::Code(_) => Program::Execute {
                    executable: Places::attacker(&suite.dir).into(),
                    args: vec![ATTEMPT_ARGUMENT.into()],
                },
                Attempt::Script(script) => shell(script),
            };
            let mut out = self.call(suite, program, request, given).map_err(other)?;
            if let Some(look) = probe.look {
                let request = Request { probe: String::new(), ground, open: None };
                let seen = self.call(suite, shell(look), request, given).map_err(other)?;
                out.said.extend(seen.said);
            }
            Ok(out)
        })
    }

    /// One call in the session.
    fn call(
        &self,
        suite: &Suite,
        program: Program,
        request: Request,
        given: &[OwnedFd],
    ) -> Result<Output, Problem> {
        let id = CallId::generate(&*suite.clock, &*suite.entropy);
        let given: Vec<_> = given.iter().map(AsFd::as_fd).collect();
        let (line, stdin) = Line::with(&request, &given).map_err(failed)?;
        let (said, stdout, stderr) = output().map_err(failed)?;
        let spec = CallSpec {
            id: id.clone(),
            program,
            environment: request.ground.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            cwd: suite.workspace_path.clone(),
            timeout_ms: ATTEMPT_MS,
            output_bytes_max: SAID_BYTES_MAX,
            background: false,
            is_agent: false,
            terminal: false,
        };
        let running = self.session.start(spec, CallIo::Passed { stdin, stdout, stderr })?;
        let received = line.watch();
        running.block();
        Ok(Output {
            said: read_back(said).map_err(failed)?,
            received,
            denials: self.session.denials(&id),
        })
    }

    fn in_control(&self, probe: &Probe) -> io::Result<Observed> {
        if probe.open == Open::Root && !rustix::process::geteuid().is_root() {
            let why = "only root can try this where the wall is not";
            return Ok(Observed {
                succeeded: false,
                denials: Vec::new(),
                refusal: None,
                no_place: Some(why.to_owned()),
            });
        }
        self.observe(probe, |mut request, given| {
            request.ground.extend(self.world.open_ground());
            request.open = Some(probe.open);
            let given: Vec<_> = given.iter().map(AsFd::as_fd).collect();
            let (line, stdin) = Line::with(&request, &given)?;
            let (said, stdout, _) = output()?;
            let mut child = Command::new("/proc/self/exe")
                .arg(ATTEMPT_ARGUMENT)
                .stdin(stdin)
                .stdout(stdout)
                .stderr(Stdio::null())
                .spawn()?;
            let received = line.watch();
            // It leads a group, which is this control's alone: what it left in there ends too.
            let group = rustix::process::Pid::from_child(&child);
            let _none_left =
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _killed = child.kill();
            child.wait()?;
            Ok(Output { said: read_back(said)?, received, denials: Vec::new() })
        })
    }

    /// Renews the world, has the attempt made, and looks at what came of it.
    fn observe(
        &self,
        probe: &Probe,
        make: impl FnOnce(Request, &[OwnedFd]) -> io::Result<Output>,
    ) -> io::Result<Observed> {
        let secrets = self.world.renew()?;
        let victim = matches!(probe.proof, Proof::Victim).then(Victim::start).transpose()?;
        let before = self.world.fingerprint()?;
        let _nothing_left = self.world.was_typed();
        let ground: Ground = self.world.ground(&secrets, victim.as_ref());
        let request = Request { probe: probe.name.to_owned(), ground, open: None };
        let Output { said, received, denials } = make(request, &self.world.given(&secrets)?)?;
        let Secrets { canary, nonce } = secrets;
        let seen = Seen {
            said,
            handed: received.handed,
            heard: self.world.was_reached(&nonce, &received.listeners),
            changed: self.world.fingerprint()? != before,
            victim_touched: victim.is_some_and(|mut it| it.was_touched()),
            typed: self.world.was_typed(),
            canaries: vec![canary, self.world.planted.clone()],
            nonce,
        };
        Ok(Observed {
            succeeded: proven(probe.proof, &seen),
            denials,
            refusal: received.refusal,
            no_place: received.no_place,
        })
    }
}

struct Output {
    said: Vec<u8>,
    received: Received,
    denials: Vec<Denial>,
}

fn shell(script: &str) -> Program {
    Program::Execute { executable: "/bin/sh".into(), args: vec!["-c".into(), script.into()] }
}

/// A file without a name for what is put out, open three times.
fn output() -> io::Result<(std::fs::File, OwnedFd, OwnedFd)> {
    let file = rustix::fs::memfd_create("said", rustix::fs::MemfdFlags::CLOEXEC)?;
    let (stdout, stderr) = (rustix::io::dup(&file)?, rustix::io::dup(&file)?);
    Ok((file.into(), stdout, stderr))
}

fn read_back(mut said: std::fs::File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    said.rewind()?;
    said.take(SAID_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn event(told: Option<&str>, denials: &[Denial]) -> EventSeen {
    match told {
        Some(rule) if denials.iter().any(|it| it.rule == rule) => {
            EventSeen::Arrived(rule.to_owned())
        }
        Some(rule) => EventSeen::Missing(rule.to_owned()),
        None => match denials.first() {
            Some(denial) => EventSeen::Told(denial.rule.clone()),
            None => EventSeen::Unobserved,
        },
    }
}

fn outcome(
    probe: &Probe,
    attacked: &io::Result<Observed>,
    control: &io::Result<Observed>,
) -> Outcome {
    let (attacked, control) = match (attacked, control) {
        (Ok(attacked), _) if attacked.succeeded => return Outcome::Escaped,
        (Ok(attacked), Ok(control)) => (attacked, control),
        (Err(error), _) => return Outcome::Error(format!("in the session: {error}")),
        (_, Err(error)) => return Outcome::Error(format!("in the control: {error}")),
    };
    if let Some(why) = &attacked.no_place {
        return Outcome::Error(format!("in the session: {why}"));
    }
    if control.succeeded {
        return Outcome::Held;
    }
    let why = control.no_place.as_ref().or(control.refusal.as_ref());
    let why = why.map_or("nothing came of it", String::as_str);
    match (probe.open, probe.needs) {
        (Open::Root, _) if !rustix::process::geteuid().is_root() => {
            Outcome::Skipped(why.to_owned())
        }
        (_, Some(needs)) => Outcome::Skipped(format!("this host does not give {needs}: {why}")),
        _ => Outcome::Error(format!("the control did not fire: {why}")),
    }
}

/// Opens sessions for the suite.
impl Suite {
    /// A session over a base.
    pub(crate) fn open(
        &self,
        policy: &cofferdam_policy::Policy,
        base_root: PathBuf,
    ) -> Result<Arc<dyn OpenSession>, Problem> {
        use cofferdam_contract::ids::{RunId, SessionId};
        use cofferdam_engine::denials::DenialBook;
        use cofferdam_engine::sessions::SessionOrder;
        self.sessions.open(SessionOrder {
            session: SessionId::generate(&*self.clock, &*self.entropy),
            run: RunId::generate(&*self.clock, &*self.entropy),
            policy,
            base_layers: vec![base_root],
            fill: &mut std::iter::empty(),
            carry: Vec::new(),
            workspace_path: self.workspace_path.clone(),
            book: Arc::new(DenialBook::new(Arc::new(crate::Unrecorded))),
        })
    }
}
