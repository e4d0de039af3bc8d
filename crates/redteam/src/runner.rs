//! Runs the probes: each in a session, each once more where the wall is not.
//!
//! ```text
//! renew the world ─▶ attempt in the session ─▶ look from outside ─▶ judge ─▶ did it succeed?
//!        └─────────▶ attempt in the control ─▶ look from outside ─▶ judge ─▶ did it fire?
//! ```
//! Must never know what a probe tries.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Instant;

use cofferdam_contract::capability::{Boundary, CapabilityReport, WallName, WallStatus};
use cofferdam_contract::denial::Denial;
use cofferdam_contract::problem::{Code, Problem};

use crate::call::{self, Attacked, Output};
use crate::flat;
use crate::probe::{Class, Open, Probe, Proof, Stage};
use crate::proof::{Seen, proven};
use crate::registry;
use crate::report::{EventSeen, Outcome, ProbeResult, Report};
use crate::scene::Request;
use crate::victim::Victim;
use crate::watch::Line;
use crate::world::{Secrets, World, end_left};
use crate::{Suite, Which};

/// The hidden argument that starts an attempt.
pub const ATTEMPT_ARGUMENT: &str = "__redteam-attempt";
/// The rule that tells of an opened decoy.
const DECOY: &str = "decoy.opened";

/// Runs those probes.
///
/// # Errors
/// What keeps the world from being made or a session from being opened.
pub(crate) fn run(suite: &Suite, which: &Which) -> Result<Report, Problem> {
    let (started, at) = (Instant::now(), suite.clock.now());
    let world = World::plant(&suite.dir, suite.planted.clone(), suite.random).map_err(failed)?;
    world.renew().map_err(failed)?;
    let session = suite.open(suite.profile.limits, &world)?;
    let runner = Runner { suite, world, session, neighbour: OnceCell::new() };
    let mut probes = Vec::new();
    for (class, line) in registry::ALL {
        let line: Vec<&Probe> = line.iter().filter(|it| which.has(*class, it)).collect();
        if !line.is_empty() {
            (suite.progress)(class.name());
            let (later, left) = (runner.successors(&line)?, runner.left_in_runs(&line));
            for probe in line {
                let (mut attacked, control, took) = match later.iter().find(|it| it.0 == probe.name)
                {
                    Some((_, attacked, control)) => (attacked.clone(), control.clone(), 0),
                    None => runner.both(probe),
                };
                if let Some((_, seen)) = left.iter().find(|it| it.0 == probe.name) {
                    attacked = seen.clone();
                }
                probes.push(runner.result(*class, probe, (attacked, control), took));
            }
        }
    }
    let CapabilityReport { backend, rootless, kernel, .. } = runner.session.report().clone();
    for session in [Some(&runner.session), runner.neighbour.get()].into_iter().flatten() {
        session.discard();
    }
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        binary: suite.binary,
        profile: suite.profile_name.clone(),
        session: suite.policy(suite.profile.limits)?.tables().session.clone(),
        backend,
        rootless,
        kernel,
        at,
        duration_ms: milliseconds(started),
        probes,
    })
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn failed(error: io::Error) -> Problem {
    Problem::new(Code::StorageFailed, format!("the world to attack: {error}"))
}

/// What was seen of one attempt, and what was recorded of it; or why it could not be made.
pub(crate) type Observation = Result<Observed, String>;

/// See [`Observation`].
#[derive(Clone, Default)]
pub(crate) struct Observed {
    pub(crate) succeeded: bool,
    pub(crate) denials: Vec<Denial>,
    /// What the kernel said against it.
    pub(crate) refusal: Option<String>,
    /// Why there was no place for it.
    pub(crate) no_place: Option<String>,
    /// Why there were no namespaces for it.
    pub(crate) no_namespaces: Option<String>,
}

pub(crate) struct Runner<'a> {
    pub(crate) suite: &'a Suite,
    pub(crate) world: World,
    pub(crate) session: Attacked,
    pub(crate) neighbour: OnceCell<Attacked>,
}

impl Runner<'_> {
    /// Both attempts, and how long they took.
    fn both(&self, probe: &Probe) -> (Observation, Observation, u64) {
        let started = Instant::now();
        let (attacked, control) = match probe.stage {
            Stage::Walls | Stage::Successors => {
                (self.in_session(&self.session, probe), self.in_control(probe))
            }
            Stage::Limits => (self.in_limited(probe), self.in_control(probe)),
            Stage::Neighbours(_) => self.beside_neighbour(probe),
            Stage::Run(_) => (Ok(Observed::default()), self.in_control(probe)),
        };
        let text = |error: io::Error| error.to_string();
        (attacked.map_err(text), control.map_err(text), milliseconds(started))
    }

    fn result(
        &self,
        class: Class,
        probe: &Probe,
        (attacked, control): (Observation, Observation),
        duration_ms: u64,
    ) -> ProbeResult {
        let session = &self.suite.profile.session;
        let report = self.session.report();
        let told = probe.told.filter(|rule| session.decoys || *rule != DECOY);
        let told = told.filter(|_| lacking(report, probe.teller).is_none());
        let is_flat = session.boundary == Boundary::Flat;
        let told = told.map(|rule| if is_flat { flat::rule(rule) } else { rule });
        ProbeResult {
            name: probe.name.to_owned(),
            class,
            tries: probe.tries.to_owned(),
            wall: if is_flat { flat::wall(probe.wall) } else { probe.wall }.to_owned(),
            outcome: outcome(probe, report, &attacked, &control),
            event: event(told, attacked.as_ref().map_or(&[][..], |it| &it.denials)),
            control_fired: control.is_ok_and(|it| it.succeeded),
            duration_ms,
        }
    }

    /// The attempt and its look, in a session.
    pub(crate) fn in_session(&self, session: &Attacked, probe: &Probe) -> io::Result<Observed> {
        self.observe(probe, |mut request, given| {
            request.ground.extend(call::ground(session));
            let ground = request.ground.clone();
            let mut out = call::attempt(self.suite, session, probe, request, given)?;
            if let Some(look) = probe.look.filter(|_| matches!(probe.stage, Stage::Walls)) {
                out.said.extend(call::script(self.suite, session, look, &ground)?);
            }
            Ok(out)
        })
    }

    /// The attempt and its look, in throwaway namespaces.
    pub(crate) fn in_control(&self, probe: &Probe) -> io::Result<Observed> {
        if probe.open == Open::Root && !rustix::process::geteuid().is_root() {
            let why = "only root can try this where the wall is not";
            return Ok(Observed { no_place: Some(why.to_owned()), ..Observed::default() });
        }
        self.observe(probe, |mut request, given| {
            if matches!(probe.stage, Stage::Run(_)) {
                self.world.open_repository()?;
                let mark = self.world.mark(probe.name).to_string_lossy().into_owned();
                request.ground.insert("MARK".to_owned(), mark);
                request.ground.extend(self.world.store()?);
            }
            request.ground.extend(self.world.open_ground());
            request.open = Some(probe.open);
            let given: Vec<_> = given.iter().map(AsFd::as_fd).collect();
            let (line, stdin) = Line::with(&request, &given)?;
            let (said, stdout, _) = call::output()?;
            let mut child = Command::new("/proc/self/exe")
                .arg(ATTEMPT_ARGUMENT)
                .stdin(stdin)
                .stdout(stdout)
                .stderr(Stdio::null())
                .spawn()?;
            let received = line.watch();
            // It leads a group, which is this control's alone: what it left in there ends too.
            let group = rustix::process::Pid::from_child(&child);
            if !matches!(probe.proof, Proof::Alive) {
                let kill = rustix::process::Signal::KILL;
                let _none_left = rustix::process::kill_process_group(group, kill);
            }
            let _killed = child.kill();
            child.wait()?;
            Ok(Output { said: call::read_back(said)?, received, denials: Vec::new() })
        })
    }

    /// Renews the world, has the attempt made, and looks at what came of it.
    pub(crate) fn observe(
        &self,
        probe: &Probe,
        make: impl FnOnce(Request, &[OwnedFd]) -> io::Result<Output>,
    ) -> io::Result<Observed> {
        let secrets = self.world.renew()?;
        let victim = matches!(probe.proof, Proof::Victim).then(Victim::start).transpose()?;
        let before = self.world.fingerprint()?;
        let _nothing_left = self.world.was_typed();
        let request = Request {
            probe: probe.name.to_owned(),
            ground: self.world.ground(&secrets, victim.as_ref()),
            open: None,
            plants: false,
        };
        let made = make(request, &self.world.given(&secrets)?);
        let Secrets { canary, nonce } = secrets;
        // Ended in any case: nothing of a control may stay.
        let alive = matches!(probe.proof, Proof::Alive) && end_left(&nonce);
        let Output { said, received, denials } = made?;
        let seen = Seen {
            said,
            handed: received.handed,
            heard: self.world.was_reached(&nonce, &received.listeners),
            changed: self.world.fingerprint()? != before,
            victim_touched: victim.is_some_and(|mut it| it.was_touched()),
            typed: self.world.was_typed(),
            alive,
            ran: self.world.mark(probe.name).exists(),
            canaries: vec![canary, self.world.planted.clone()],
            nonce,
        };
        Ok(Observed {
            succeeded: proven(probe.proof, &seen),
            denials,
            refusal: received.refusal,
            no_place: received.no_place,
            no_namespaces: received.no_namespaces,
        })
    }
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

/// What the report says of a wall that is not enforced.
fn lacking(report: &CapabilityReport, wall: Option<WallName>) -> Option<&str> {
    let wall = wall.filter(|it| report.status(*it) != WallStatus::Enforced)?;
    let found = report.walls.iter().find(|it| it.name == wall);
    Some(found.map_or("it is absent", |it| &it.detail))
}

fn outcome(
    probe: &Probe,
    report: &CapabilityReport,
    attacked: &Observation,
    control: &Observation,
) -> Outcome {
    if let Some(why) = lacking(report, probe.requires) {
        return Outcome::Skipped(format!("the wall is not enforced here: {why}"));
    }
    let (attacked, control) = match (attacked, control) {
        (Ok(attacked), _) if attacked.succeeded => return Outcome::Escaped,
        (Ok(attacked), Ok(control)) => (attacked, control),
        (Err(error), _) => return Outcome::Error(format!("in the session: {error}")),
        (_, Err(error)) => return Outcome::Error(format!("in the control: {error}")),
    };
    if control.succeeded && attacked.no_place.is_none() {
        return Outcome::Held;
    }
    if let Some(why) = lacking(report, probe.place) {
        return Outcome::Skipped(format!("no session has it here: {why}"));
    }
    if let Some(why) = &attacked.no_place {
        return Outcome::Error(format!("in the session: {why}"));
    }
    if let Some(why) = &control.no_namespaces {
        return Outcome::Skipped(format!("this host does not give namespaces: {why}"));
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
