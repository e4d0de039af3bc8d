//! Whole runs: from admission to the signed head that evidence is made from.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cofferdam_contract::request::DriverRequest;
use cofferdam_engine::{Command, Engine, Given, Unobserved};

use crate::measure::{Contender, Rounds, interleave, timed};
use crate::report::{Goal, Medians, Table};
use crate::repositories::Generated;
use crate::world::{World, owner, request};

const NOTHING: &str = "run that changes nothing";
const CHANGE: &str = "run that adds a file: gate, approval, branch";
const EVIDENCE: &str = "export of its evidence";
const NOTHING_BINARY: &str = "the same by the program: changes nothing";
const CHANGE_BINARY: &str = "the same by the program: adds a file";
const DEMO: &str = "the demo, all of it";

/// Measures them.
///
/// # Errors
/// The first that fails.
pub(crate) fn table(world: &World, on: &Generated, rounds: Rounds) -> anyhow::Result<Table> {
    let engine = world.engine("runs", world.native_sessions(true)?)?;
    let mut number = 0;
    let mut evidence = vec![];
    let mut timings = interleave(
        rounds,
        vec![
            Contender::new(NOTHING, || in_process(world, &engine, on, &["/bin/true"], None)),
            Contender::new(NOTHING_BINARY, || by_program(world, on, &["/bin/true"], "unchanged")),
            Contender::new(CHANGE_BINARY, || {
                by_program(world, on, &["/usr/bin/touch", "added.txt"], "applied")
            }),
            Contender::new(CHANGE, || {
                number += 1;
                let bundle = world.path(&format!("evidence-{number}"));
                let export = (bundle.as_path(), &mut evidence);
                in_process(world, &engine, on, &["/usr/bin/touch", "added.txt"], Some(export))
            }),
        ],
    )?;
    // It needs a run to export, so it was measured beside the run that it exports.
    timings.push(crate::measure::timing(EVIDENCE, evidence.split_off(rounds.warm)));
    // It takes seconds, so a few are enough.
    let demo = Contender::new(DEMO, || demo(world, on));
    timings.extend(interleave(Rounds { counted: 3, warm: 0 }, vec![demo])?);
    let medians = Medians(&timings);
    let claims = vec![
        medians
            .median("no-op run, admit to signed head", NOTHING, Some(Goal::AtMost(60.0)))
            .goes(WHERE),
        medians.median("run that adds a file, admit to branch", CHANGE, None),
        medians.added("the program's own part of a no-op run", (NOTHING_BINARY, NOTHING), None),
        medians.slowest("the demo", DEMO, Some(Goal::AtMost(60_000.0))),
    ];
    Ok(Table {
        title: format!("Whole runs on {} files, base cached", on.files),
        about: ABOUT,
        claims,
        timings,
    })
}

const ABOUT: &str = "The `command` driver under the profile `assist`. A run that changes nothing \
    is admitted, gets its workspace and session, works, is compared and attested; one that adds a \
    file also goes through the gate, is approved and becomes a branch.";

const WHERE: &str = "git is asked by its command line, a process a question: seven of them \
    in such a run. Opening the session comes next (see workspaces), then the synced writes of \
    admission, end and attestation.";

type Export<'a> = (&'a std::path::Path, &'a mut Vec<Duration>);

fn in_process(
    world: &World,
    engine: &Engine,
    on: &Generated,
    argv: &[&str],
    export: Option<Export<'_>>,
) -> anyhow::Result<Duration> {
    let argv = argv.iter().map(|it| (*it).to_owned()).collect();
    let request = request(&on.path, DriverRequest::Command { argv })?;
    world.runtime.block_on(async {
        let began = Instant::now();
        let run = engine.admit(request).await?.run;
        let view = engine.advance(&run, Arc::new(Unobserved)).await?;
        let Some((bundle, exported)) = export else {
            let took = began.elapsed();
            ensure!(view.state == "unchanged", "the run is {}: {:?}", view.state, view.problem);
            return Ok(took);
        };
        let digest = view.digest.with_context(|| format!("the run is {}", view.state))?;
        let given = Given { by: owner()?, command: Command::Approve { digest } };
        let answer = engine.command(&run, given, Arc::new(Unobserved)).await?;
        let took = began.elapsed();
        ensure!(answer.view.state == "applied", "the run is {}", answer.view.state);
        let began = Instant::now();
        engine.export_evidence(&run, bundle.to_owned(), vec![]).await?;
        exported.push(began.elapsed());
        Ok(took)
    })
}

fn by_program(
    world: &World,
    on: &Generated,
    argv: &[&str],
    state: &str,
) -> anyhow::Result<Duration> {
    let path = on.path.to_str().context("a path is not UTF-8")?;
    let mut args = vec!["run", "--json", "--yes", "--repo", path, "--base", "main"];
    args.extend(["--profile", "assist", "--driver", "command", "--task", "measure", "--"]);
    args.extend(argv);
    let mut command = world.program(&args);
    command.stderr(Stdio::null());
    timed(|| {
        let output = command.output()?;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("failed ({}): {command:?}", output.status))?;
        ensure!(said["state"] == state, "the run is {}: {said}", said["state"]);
        Ok(())
    })
}

fn demo(world: &World, on: &Generated) -> anyhow::Result<Duration> {
    let path = on.path.to_str().context("a path is not UTF-8")?;
    let mut command = world.program(&["demo", "--json", "--yes", "--repo", path]);
    timed(|| {
        let output = command.stderr(Stdio::null()).output()?;
        ensure!(output.status.success(), "the demo did not prove everything ({})", output.status);
        Ok(())
    })
}
