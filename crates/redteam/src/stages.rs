//! Probes that need more than one session, other limits, or a governed run.
//!
//! Must never judge: what was seen is judged as everything else is.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;

use cofferdam_contract::capability::Boundary;
use cofferdam_contract::problem::Problem;
use cofferdam_sandbox::CallIo;

use crate::call::{self, Attacked};
use crate::classes::resources;
use crate::probe::{Attempt, Probe, Stage};
use crate::proof::{Seen, proven};
use crate::runner::{Observation, Observed, Runner, failed};
use crate::scene::{Ground, Request};
use crate::watch::Line;
use crate::world::Secrets;

/// The rule of the limit that a session stays beyond until it removes something, where it is watched.
const DISK: &str = "limit.disk";

impl Runner<'_> {
    /// A session with small limits, which another one must not notice.
    pub(crate) fn in_limited(&self, probe: &Probe) -> io::Result<Observed> {
        let limits = resources::limits(self.suite.profile.limits);
        let session = self.suite.open(limits, &self.world).map_err(io::Error::other)?;
        let observed = self.in_session(&session, probe);
        let own = call::answers(self.suite, &session);
        let other = call::answers(self.suite, &self.session);
        session.discard();
        let mut observed = observed?;
        let is_flat = self.suite.profile.session.boundary == Boundary::Flat;
        let is_watched = is_flat || probe.wall == resources::WATCHED;
        let is_full = is_watched && observed.denials.iter().any(|it| it.rule == DISK);
        observed.succeeded |= !(own || is_full) || !other;
        Ok(observed)
    }

    /// The neighbour of the session that is attacked from: opened once.
    fn neighbour(&self) -> Result<&Attacked, Problem> {
        if let Some(neighbour) = self.neighbour.get() {
            return Ok(neighbour);
        }
        let opened = self.suite.open(self.suite.profile.limits, &self.world)?;
        Ok(self.neighbour.get_or_init(|| opened))
    }

    /// An attempt at what a neighbour has, from another session and from the neighbour itself.
    pub(crate) fn beside_neighbour(
        &self,
        probe: &Probe,
    ) -> (io::Result<Observed>, io::Result<Observed>) {
        let neighbour = match self.neighbour() {
            Ok(neighbour) => neighbour,
            Err(problem) => {
                let error = || io::Error::other(problem.detail.clone());
                return (Err(error()), Err(error()));
            }
        };
        let from = |session: &Attacked| {
            self.observe(probe, |mut request, given| {
                request.ground.extend(call::ground(neighbour));
                let plant = Request {
                    probe: request.probe.clone(),
                    ground: request.ground.clone(),
                    open: None,
                    plants: true,
                };
                let with: Vec<_> = given.iter().map(AsFd::as_fd).collect();
                let (line, stdin) = Line::with(&plant, &with)?;
                let (_, stdout, stderr) = call::output()?;
                let attacker = call::attacker(self.suite);
                let spec = call::spec(self.suite, neighbour, attacker, &plant.ground);
                let io = CallIo::Passed { stdin, stdout, stderr };
                let planted = neighbour.start(spec, io).map_err(io::Error::other)?;
                let ready = line.watch_until_handed();
                // The attacker gets nothing that holds the canary.
                let mut out = call::attempt(self.suite, session, probe, request, &given[1..])?;
                drop(line);
                planted.block();
                out.received.no_place = ready.no_place;
                Ok(out)
            })
        };
        (from(&self.session), from(neighbour))
    }

    /// What governed runs leave: it is read, checked, shown and applied by the real engine. What
    /// came of it, by name.
    pub(crate) fn left_in_runs(
        &self,
        probes: &[&'static Probe],
    ) -> Vec<(&'static str, Observation)> {
        let run = |probe: &Probe| match probe.stage {
            Stage::Run(run) => Some(run),
            _ => None,
        };
        let runs: BTreeSet<u8> = probes.iter().filter_map(|it| run(it)).collect();
        let mut seen = Vec::new();
        for number in runs {
            let those: Vec<_> =
                probes.iter().copied().filter(|it| run(it) == Some(number)).collect();
            seen.extend(match self.in_run(&those) {
                Ok(seen) => seen,
                Err(why) => those.iter().map(|it| (it.name, Err(why.clone()))).collect(),
            });
        }
        seen
    }

    fn in_run(
        &self,
        probes: &[&'static Probe],
    ) -> Result<Vec<(&'static str, Observation)>, String> {
        let text = |error: io::Error| error.to_string();
        let secrets = self.world.renew().map_err(text)?;
        let mut ground = self.world.ground(&secrets, None);
        ground.extend(self.world.store().map_err(text)?);
        let variables = ["OUTSIDE", "SECRET", "SECRET_DIR", "SECRET_STORE", "SECRET_BLOB"];
        let set = |name: &str| Some(format!("{name}='{}'\n", ground.get(name)?));
        let mut whole: String = variables.into_iter().filter_map(set).collect();
        for probe in probes {
            if let Attempt::Script(script) = probe.attempt {
                let mark = self.world.mark(probe.name);
                whole.push_str(&format!("( MARK='{}'\n{script}\n)\n", mark.display()));
            }
        }
        let repository = self.world.repository().map_err(text)?;
        let said = (self.suite.govern)(&repository, &whole).map_err(|it| it.detail)?;
        let mut seen = Seen { said, canaries: vec![secrets.canary], ..Seen::default() };
        let mut observed = Vec::new();
        for probe in probes {
            seen.ran = self.world.mark(probe.name).exists();
            let succeeded = proven(probe.proof, &seen);
            observed.push((probe.name, Ok(Observed { succeeded, ..Observed::default() })));
        }
        Ok(observed)
    }

    /// What a session leaves is looked for by a later call of it, and by a later session: by name,
    /// what the later session found, and what the later call did.
    pub(crate) fn successors(
        &self,
        probes: &[&'static Probe],
    ) -> Result<Vec<(&'static str, Observation, Observation)>, Problem> {
        let those: Vec<_> =
            probes.iter().copied().filter(|it| matches!(it.stage, Stage::Successors)).collect();
        if those.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.suite.open(self.suite.profile.limits, &self.world)?;
        let mut left = Vec::new();
        for probe in those {
            let secrets = self.world.renew().map_err(failed)?;
            let mut ground: Ground = self.world.ground(&secrets, None);
            ground.extend(call::ground(&first));
            if let Attempt::Script(script) = probe.attempt {
                let mut knowing = ground.clone();
                knowing.insert("CANARY".to_owned(), secrets.canary.clone());
                call::script(self.suite, &first, script, &knowing).map_err(failed)?;
            }
            let fired = self.found(&first, probe, &ground, &secrets);
            left.push((probe, ground, secrets, fired));
        }
        first.discard();
        let next = self.suite.open(self.suite.profile.limits, &self.world)?;
        let found = left.into_iter().map(|(probe, ground, secrets, fired)| {
            (probe.name, self.found(&next, probe, &ground, &secrets), fired)
        });
        let found = found.collect();
        next.discard();
        Ok(found)
    }

    fn found(
        &self,
        session: &Attacked,
        probe: &Probe,
        ground: &Ground,
        secrets: &Secrets,
    ) -> Observation {
        let look = probe.look.unwrap_or_default();
        let said = call::script(self.suite, session, look, ground).map_err(|it| it.to_string())?;
        let canaries = vec![secrets.canary.clone()];
        let seen = Seen { said, canaries, ..Seen::default() };
        Ok(Observed { succeeded: proven(probe.proof, &seen), ..Observed::default() })
    }
}
