//! Stops: from the command to no process left, of a run whose processes cling to life.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::measure::{Contender, Rounds, interleave, timed};
use crate::report::{Goal, Medians, Table};
use crate::repositories::Generated;
use crate::world::World;

const STOP: &str = "`stop` by the program, until no process is left";
/// Processes that carry the marker: the agent and what it starts.
const PROCESSES: usize = 5;

/// Measures them.
///
/// # Errors
/// The first that fails, one that leaves a process among them.
pub(crate) fn table(world: &World, on: &Generated, rounds: Rounds) -> anyhow::Result<Table> {
    let mut number = 0;
    let stopping = Contender::new(STOP, || {
        number += 1;
        stop(world, on, &format!("cofferdam-bench-stop-{}-{number}", std::process::id()))
    });
    let timings = interleave(rounds, vec![stopping])?;
    let goal = Some(Goal::AtMost(200.0));
    let medians = Medians(&timings);
    let claims = vec![
        medians.median("stop, from the command to no process left, p50", STOP, goal).goes(WHERE),
        medians.slowest("stop, from the command to no process left, p99", STOP, goal).goes(WHERE),
    ];
    Ok(Table { title: "Stopping a busy run".to_owned(), about: ABOUT, claims, timings })
}

const ABOUT: &str = "A run that the background supervisor holds: the agent and four processes of \
    it ignore every signal that can be ignored, one in a process session of its own. The time is \
    that of the whole command `cofferdam stop`, the look for processes that are left included.";

const WHERE: &str = "The program's own start, until the holder's inbox rings, the kernel's end of the session's processes, and the synced write of the run's end.";

fn stop(world: &World, on: &Generated, marker: &str) -> anyhow::Result<Duration> {
    let path = on.path.to_str().context("a path is not UTF-8")?;
    let deaf = "trap '' TERM INT HUP QUIT; while :; do sleep 600; done";
    let script = format!(
        "trap '' TERM INT HUP QUIT
         for i in 1 2 3; do sh -c \"{deaf} # {marker}\" & done
         setsid sh -c \"{deaf} # {marker}\" < /dev/null > /dev/null 2>&1 &
         while :; do wait; done"
    );
    let mut args = vec!["run", "--detach", "--json", "--repo", path, "--base", "main"];
    args.extend(["--profile", "assist", "--task", "measure", "--", "/bin/sh", "-c", &script]);
    let run = world.object(&args)?;
    let run = run["run"].as_str().context("no run")?;
    while marked(marker)? < PROCESSES {
        std::thread::sleep(Duration::from_millis(1));
    }
    timed(|| {
        let stopped = world.object(&["stop", run, "--json"])?;
        ensure!(stopped["state"] == "cancelled", "the run is {}", stopped["state"]);
        let left = marked(marker)?;
        ensure!(left == 0, "{left} processes outlived the stop");
        Ok(())
    })
}

/// How many processes of this machine carry the marker in their arguments.
fn marked(marker: &str) -> anyhow::Result<usize> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    let lines = entries.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    Ok(lines.filter(|line| String::from_utf8_lossy(line).contains(marker)).count())
}
