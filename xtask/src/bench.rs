//! `cargo xtask bench`: builds what users get, measures it, and writes `docs/benchmarks.md`.
//!
//! Must never judge the numbers: they are of one machine, and a busy one has others.

use std::path::Path;

use anyhow::{Context, bail};

use crate::{Outcome, shell};

const PAGE: &str = "docs/benchmarks.md";
/// Repositories, caches and state of the benchmark; kept, because making them takes minutes.
const DIR: &str = "target/bench";

/// The tables that are about the boundary.
const BOUNDARY: &[&str] = &["calls", "sessions", "commands", "writes", "workspaces"];

/// Measures and writes the page; with `--quick` or the names of tables prints it instead.
/// `boundary` names several.
pub(crate) fn main(root: &Path, args: &[String]) -> Outcome {
    if shell::probe(&["bwrap", "--version"]).is_none() {
        bail!("bwrap is what we compare with: apt-get install bubblewrap");
    }
    if shell::probe(&["btrfs", "--version"]).is_none() {
        bail!("snapshots need btrfs-progs: apt-get install btrfs-progs");
    }
    let build = ["build", "--release", "-p", "cofferdam", "-p", "cofferdam-bench"];
    let build: Vec<&str> = [env!("CARGO")].into_iter().chain(build).collect();
    if !shell::succeeds(root, &build, &[]) {
        bail!("the program could not be built");
    }
    let mut command = vec!["--dir", DIR, "--program", "target/release/cofferdam"];
    for arg in args {
        match arg.as_str() {
            "boundary" => command.extend(BOUNDARY.iter().flat_map(|table| ["--only", *table])),
            "--quick" => command.push("--quick"),
            flag if flag.starts_with('-') => bail!("{flag} is no flag of it; there is --quick"),
            table => command.extend(["--only", table]),
        }
    }
    let page = shell::output(root, "target/release/cofferdam-bench", &command)?;
    if args.is_empty() {
        std::fs::write(root.join(PAGE), page).with_context(|| format!("writing {PAGE}"))?;
        println!("wrote {PAGE}");
    } else {
        print!("{page}");
    }
    Ok(true)
}
