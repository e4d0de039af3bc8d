//! What it costs that a profile wants to be told of writes to what is read-only: each call that means to
//! write waits for the supervisor.

use std::sync::Arc;

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_engine::sessions::OpenSession;

use crate::calls::carry_out;
use crate::measure::{Contender, Rounds, interleave};
use crate::report::{Medians, Table};
use crate::repositories::Generated;
use crate::workspaces::Opener;
use crate::world::World;

/// Six hundred small files in a repository and in an archive.
const MADE: &str = "mkdir /tmp/from && cd /tmp/from && for d in $(seq 30); do mkdir m$d; for f in $(seq 20); \
    do seq 60 | sed 's/.*/def f&(x): return x + &/' > m$d/f$f.py; done; done; tar cf /tmp/from.tar . && \
    git init -q . && git add . && git -c user.name=bench -c user.email=bench@example.invalid commit -qm made";

/// What is run, from the many small writes to none.
const REAL: &[(&str, &str)] = &[
    ("tar", "rm -rf /tmp/u && mkdir /tmp/u && tar xf /tmp/from.tar -C /tmp/u"),
    ("git clone", "rm -rf /tmp/c && git clone -q --no-hardlinks /tmp/from /tmp/c"),
    ("compileall", "rm -rf /tmp/p && cp -r /tmp/from /tmp/p && python3 -m compileall -q /tmp/p"),
    ("cat", "cat /tmp/from/*/*.py > /dev/null"),
];

const ABOUT: &str = "With `tells_writes` in the profile and without, in two sessions on overlays: `tar`, \
    `git clone` and Python's `compileall` write 600 files of 2 KB each and little else, which is the worst of \
    it; `cat` only reads them. The profiles that come with the program do without.";

/// Measures each in both sessions.
///
/// # Errors
/// The first that fails.
pub(crate) fn table(world: &World, on: &Generated, rounds: Rounds) -> anyhow::Result<Table> {
    let opener = |tells_writes: bool| {
        Opener::with(world, on, world.sessions_of(WorkspaceKind::Overlay, false)?, |profile| {
            profile.session.tells_writes = tells_writes;
        })
    };
    let (without, with) = (opener(false)?, opener(true)?);
    let sessions = [("", without.open()?), (", told", with.open()?)];
    let mut contenders = vec![];
    for (suffix, session) in &sessions {
        carry_out(world, session, "/bin/sh", &["-c", MADE])?;
        contenders.extend(REAL.iter().map(|real| contender(world, session, *real, suffix)));
    }
    let timings = interleave(rounds, contenders)?;
    sessions.iter().for_each(|(_, session)| session.discard());
    let medians = Medians(&timings);
    let claim = |(name, _): &(&str, &str)| {
        let told = format!("{name}, told");
        medians.ratio(&format!("{name}, told, against untold"), (&told, name), None)
    };
    let claims = REAL.iter().map(claim).collect();
    Ok(Table { title: "Telling of writes".to_owned(), about: ABOUT, claims, timings })
}

fn contender<'a>(
    world: &'a World,
    session: &'a Arc<dyn OpenSession>,
    (name, script): (&str, &'static str),
    suffix: &str,
) -> Contender<'a> {
    Contender::new(&format!("{name}{suffix}"), move || {
        carry_out(world, session, "/bin/sh", &["-c", script])
    })
}
