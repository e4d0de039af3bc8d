//! Sessions themselves: from the order to the end of a first call, how many a second, and what an
//! idle one holds of memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use cofferdam_engine::sessions::OpenSession;
use rustix::process::{Resource, Rlimit};

use crate::calls::carry_out;
use crate::measure::{Contender, Rounds, interleave, timed};
use crate::report::{Claim, Goal, Medians, Table};
use crate::repositories::Generated;
use crate::workspaces::Opener;
use crate::world::World;

const COLD: &str = "cold: launcher, session and first call";
const ANEW: &str = "session and first call, nothing prepared";
const WARM: &str = "session and first call, groundwork laid";
const PAIR: &str = "session opened and closed, one after the other";
/// How many sessions are open at once.
const IDLE: usize = 1000;

/// Measures them.
///
/// # Errors
/// The first that fails.
pub(crate) fn table(
    world: &World,
    on: &Generated,
    rounds: Rounds,
    quick: bool,
) -> anyhow::Result<Table> {
    let anew = Opener::new(world, on, world.native_sessions(false)?)?;
    let warm = Opener::new(world, on, world.native_sessions(true)?)?;
    let timings = interleave(
        rounds,
        vec![
            Contender::new(COLD, || {
                let began = Instant::now();
                let cold = Opener::new(world, on, world.native_sessions(false)?)?;
                first_call(world, &cold, began)
            }),
            Contender::new(ANEW, || first_call(world, &anew, Instant::now())),
            Contender::new(WARM, || first_call(world, &warm, Instant::now())),
            Contender::new(PAIR, || {
                timed(|| {
                    warm.open()?.discard();
                    Ok(())
                })
            }),
        ],
    )?;
    drop((anew, warm));
    let medians = Medians(&timings);
    let mut claims = vec![
        medians.ratio("nothing prepared, against groundwork laid", (ANEW, WARM), None),
        medians.rate("sessions opened and closed, one after the other", PAIR),
    ];
    claims.extend(idle(world, on, if quick { 50 } else { IDLE })?);
    Ok(Table { title: "Sessions".to_owned(), about: ABOUT, claims, timings })
}

const ABOUT: &str = "On the small repository, base cached. After two sessions of one kind the \
    launcher lays the groundwork of a third in advance; `nothing prepared` is without that. \
    Memory is the proportional set size (`smaps_rollup`) of launcher and inits together, divided \
    by the number of sessions.";

fn first_call(world: &World, opener: &Opener, began: Instant) -> anyhow::Result<Duration> {
    let session = opener.open()?;
    carry_out(world, &session, "/bin/true", &[])?;
    let took = began.elapsed();
    session.discard();
    Ok(took)
}

/// Holds `count` sessions at once, each after a call.
fn idle(world: &World, on: &Generated, count: usize) -> anyhow::Result<Vec<Claim>> {
    // Eleven descriptors of the boundary for each and some of its workspace, its base and its control
    // groups, and as many as this process had before.
    let limit = Some(u64::try_from(count * 16 + 1024)?);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
    let opener = Opener::new(world, on, world.native_sessions(false)?)?;
    let began = Instant::now();
    let mut sessions: Vec<Arc<dyn OpenSession>> = Vec::with_capacity(count);
    for _ in 0..count {
        let session = opener.open()?;
        carry_out(world, &session, "/bin/true", &[])?;
        sessions.push(session);
    }
    let took = began.elapsed();
    let (processes, kib) = beneath_this_process()?;
    ensure!(processes > count, "{processes} processes for {count} sessions");
    sessions.iter().for_each(|session| session.discard());
    let each_mib = kib as f64 / 1024.0 / count as f64;
    Ok(vec![
        Claim::new("memory of an idle session", each_mib, "MiB").with_goal(Goal::AtMost(2.0)),
        Claim::new("sessions held at once", count as f64, "").with_goal(Goal::AtLeast(1000.0)),
        Claim::new("opening them, each with a call", took.as_secs_f64() * 1000.0, "ms"),
    ])
}

/// The processes beneath this one, and their memory in KiB.
fn beneath_this_process() -> anyhow::Result<(usize, u64)> {
    let mut parents = vec![];
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse::<u32>().ok()) else {
            continue;
        };
        // A process that ended meanwhile.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, it)| it.split_whitespace().nth(1));
        parents.extend(parent.and_then(|it| it.parse::<u32>().ok()).map(|parent| (pid, parent)));
    }
    let (mut count, mut kib, mut open) = (0, 0, vec![std::process::id()]);
    while let Some(at) = open.pop() {
        for (pid, _) in parents.iter().filter(|(_, parent)| *parent == at) {
            open.push(*pid);
            count += 1;
            let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            let size = line.and_then(|it| it.split_whitespace().next());
            kib += size.and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok((count, kib))
}
