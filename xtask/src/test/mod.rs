//! `cargo xtask test`: the one command that says whether the project is in order.
//!
//! First it looks for what the tests need, since a test never skips itself; then every step runs,
//! in order, to the first that fails. A step is one line in [`STEPS`].

mod needs;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::{Outcome, shell};
use needs::Runner;

/// What it is called, its command, and what is added to its environment.
type Step = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const CARGO: &str = env!("CARGO");
const DENY_WARNINGS: (&str, &str) = ("RUSTDOCFLAGS", "-D warnings");
// A test that differs from its snapshot must fail and write nothing.
const SNAPSHOTS: (&str, &str) = ("INSTA_UPDATE", "no");

#[rustfmt::skip]
const STEPS: &[Step] = &[
    ("format", &[CARGO, "fmt", "--all", "--check"], &[]),
    ("lint", &[CARGO, "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"], &[]),
    ("tidy", &[CARGO, "run", "--locked", "--quiet", "--package", "xtask", "--", "tidy"], &[]),
    ("fuzz", &[CARGO, "run", "--locked", "--quiet", "--package", "xtask", "--", "fuzz", "--seconds", "3"], &[]),
    ("planted", &[CARGO, "run", "--locked", "--quiet", "--package", "xtask", "--", "fuzz", "--planted"], &[]),
    ("documentation", &[CARGO, "doc", "--locked", "--workspace", "--no-deps", "--document-private-items"], &[DENY_WARNINGS]),
];

const NEXTEST: Step =
    ("tests", &[CARGO, "nextest", "run", "--locked", "--workspace"], &[SNAPSHOTS]);
const CARGO_TEST: Step = ("tests", &[CARGO, "test", "--locked", "--workspace"], &[SNAPSHOTS]);
const GUARDS: Step =
    ("guards", &[CARGO, "run", "--locked", "--quiet", "--package", "xtask", "--", "guards"], &[]);
const DOC_TESTS: Step =
    ("examples", &[CARGO, "test", "--locked", "--workspace", "--doc", "--quiet"], &[]);

/// Runs everything. Stops at the first step that fails and says which.
pub(crate) fn main(root: &Path, args: &[String]) -> Outcome {
    if !args.is_empty() {
        bail!("it takes no arguments; one crate's tests: cargo nextest run -p cofferdam-NAME");
    }
    let started = Instant::now();
    let runner = needs::meet(root)?;
    let mut timings = vec![("needs", started.elapsed())];
    let mut passed = true;
    for step in steps(runner) {
        let began = Instant::now();
        passed = run(root, step);
        timings.push((step.0, began.elapsed()));
        if !passed {
            break;
        }
    }
    summary(&timings, passed, started.elapsed());
    Ok(passed)
}

fn steps(runner: Runner) -> Vec<Step> {
    let mut steps = STEPS.to_vec();
    match runner {
        Runner::Nextest => steps.extend([DOC_TESTS, NEXTEST]),
        Runner::Cargo => steps.push(CARGO_TEST),
    }
    steps.push(GUARDS);
    steps
}

fn run(root: &Path, (name, command, env): Step) -> bool {
    let program = Path::new(command[0]).file_name().unwrap_or_default().to_string_lossy();
    println!("\n== {name}: {program} {}", command[1..].join(" "));
    shell::succeeds(root, command, env)
}

fn summary(timings: &[(&str, Duration)], passed: bool, total: Duration) {
    println!();
    for (name, took) in timings {
        println!("{:>8.1} s  {name}", took.as_secs_f64());
    }
    let last = timings.last().map_or("", |(name, _)| name);
    let verdict = if passed { "everything passed".to_owned() } else { format!("failed: {last}") };
    println!("{:>8.1} s  {verdict}", total.as_secs_f64());
}
