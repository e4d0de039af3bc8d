//! `cargo xtask fuzz`: fuzzes the parsers of foreign bytes, guided by coverage, for a bounded time.
//!
//! libFuzzer, driven by the compiler's own instrumentation, so that the released compiler is enough.
//! Inputs that reach new code are collected beneath `target/fuzz/corpus`; `--keep` takes the fewest
//! that reach as much into `fuzz/corpus`, which is where a run begins. `--planted` builds a copy of
//! the sources with a fault for each target, which must be found. Must never write to the corpus
//! otherwise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::altered::{self, Site};
use crate::{Outcome, shell};

/// Cargo gives flags to what runs on the target alone, and not to build scripts, if it is named.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// What libFuzzer needs of the code (<https://clang.llvm.org/docs/SanitizerCoverage.html>).
const INSTRUMENTED: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
const BUILT: &str = "target/fuzz";
const KEPT: &str = "fuzz/corpus";
/// Shapes that bytes alone would take long to come by.
const TOKENS: &str = "-dict=fuzz/tokens.dict";
/// For how long one target is fuzzed if nobody says otherwise.
const SECONDS: u64 = 60;

/// A fault for each target.
const PLANTED: &str = "fuzz/planted.toml";
/// How many inputs a planted fault may take to be found, from the kept corpus and always the same
/// beginning: many times what they take.
const PLANTED_BOUNDS: [&str; 4] = ["-runs=2000000", "-seed=1", "-max_len=4096", TOKENS];

/// What [`PLANTED`] has for one target.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    sites: Vec<Site>,
}

/// Builds and runs the targets that are named, or all.
pub(crate) fn main(root: &Path, args: &[String]) -> Outcome {
    let (mut seconds, mut keep, mut planted, mut named) = (SECONDS, false, false, vec![]);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keep" => keep = true,
            "--planted" => planted = true,
            "--seconds" => {
                let given = args.next().and_then(|it| it.parse().ok());
                seconds = given.context("--seconds needs a number")?;
            }
            name => named.push(name.to_owned()),
        }
    }
    let targets = targets(root)?;
    if let Some(unknown) = named.iter().find(|name| !targets.contains(name)) {
        bail!("{unknown} is no target; they are: {}", targets.join(", "));
    }
    let faults = faults(root, &targets)?;
    let chosen = if named.is_empty() { targets } else { named };
    if planted {
        return find_planted(root, &faults, &chosen);
    }
    build(root, &root.join(BUILT))?;
    let all = shell::with_each(&chosen, |target| {
        let held = if keep { merge(root, target)? } else { fuzz(root, target, seconds)? };
        println!("fuzz: {target} {}", if held { "held" } else { "FAILED" });
        Ok(held)
    });
    Ok(all?.into_iter().all(|held| held))
}

/// Every target has a corpus.
fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = vec![];
    for entry in std::fs::read_dir(root.join(KEPT)).context(KEPT)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn faults(root: &Path, targets: &[String]) -> anyhow::Result<BTreeMap<String, Fault>> {
    let text = std::fs::read_to_string(root.join(PLANTED)).context(PLANTED)?;
    let faults: BTreeMap<String, Fault> = toml::from_str(&text).context(PLANTED)?;
    let named: Vec<_> = faults.keys().cloned().collect();
    ensure!(
        named == targets,
        "{PLANTED} has faults for {named:?}, and the targets are {targets:?}"
    );
    Ok(faults)
}

/// Plants every fault at once, and runs each target until it finds its own.
fn find_planted(root: &Path, faults: &BTreeMap<String, Fault>, chosen: &[String]) -> Outcome {
    let copy = root.join(BUILT).join("planted");
    let sites = faults.values().flat_map(|fault| &fault.sites);
    altered::copy(root, &copy, sites.map(|site| (site, site.off.clone()))).context(PLANTED)?;
    build(&copy, &root.join(BUILT))?;
    let all = shell::with_each(chosen, |target| {
        let fresh = root.join(BUILT).join("corpus-planted").join(target);
        let _ = std::fs::remove_dir_all(&fresh);
        std::fs::create_dir_all(&fresh).context("making a directory for what is found")?;
        let output = Command::new(program(root))
            .args(PLANTED_BOUNDS)
            .arg(format!("-artifact_prefix={}/", fresh.display()))
            .arg(&fresh)
            .arg(root.join(KEPT).join(target))
            .env("COFFERDAM_FUZZ", target)
            .current_dir(root)
            .stdin(Stdio::null())
            .output()
            .context("running the fuzzer")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let found = !output.status.success() && said.contains(" panicked at ");
        println!("fuzz: {target}: its fault was {}", if found { "found" } else { "NOT FOUND" });
        if !found {
            println!("{said}");
        }
        Ok(found)
    });
    Ok(all?.into_iter().all(|found| found))
}

fn program(root: &Path) -> PathBuf {
    root.join(BUILT).join(TRIPLE).join("release/cofferdam-fuzz")
}

/// Builds the fuzzer of these sources.
fn build(sources: &Path, into: &Path) -> anyhow::Result<()> {
    let into = into.display().to_string();
    let command = [
        env!("CARGO"),
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--manifest-path=fuzz/Cargo.toml",
        "--target",
        TRIPLE,
        "--target-dir",
        &into,
    ];
    // What the compiler says against it is on standard error.
    if !shell::succeeds(sources, &command, &[("RUSTFLAGS", INSTRUMENTED)]) {
        bail!("the fuzzer could not be built{}", missing_compiler());
    }
    Ok(())
}

/// libFuzzer is C++, and is built by what `CXX` names or by `c++`.
fn missing_compiler() -> String {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    match shell::probe(&[&compiler, "--version"]) {
        Some(_) => String::new(),
        None => {
            format!(": it needs a C++ compiler, and there is no {compiler} (apt-get install g++)")
        }
    }
}

/// Inputs that are found go to a directory of the build's; those that are kept are read.
fn fuzz(root: &Path, target: &str, seconds: u64) -> Outcome {
    let found = found(root, target)?;
    let bounds = [
        format!("-max_total_time={seconds}"),
        format!("-artifact_prefix={BUILT}/{target}-"),
        "-max_len=4096".to_owned(),
        "-timeout=10".to_owned(),
        "-rss_limit_mb=1024".to_owned(),
        "-verbosity=0".to_owned(),
        TOKENS.to_owned(),
        "-print_final_stats=1".to_owned(),
    ];
    run(root, target, &bounds, &[&found, &format!("{KEPT}/{target}")])
}

fn merge(root: &Path, target: &str) -> Outcome {
    let found = found(root, target)?;
    run(root, target, &["-merge=1".to_owned()], &[&format!("{KEPT}/{target}"), &found])
}

fn found(root: &Path, target: &str) -> anyhow::Result<String> {
    let found = format!("{BUILT}/corpus/{target}");
    std::fs::create_dir_all(root.join(&found)).context("making a directory for what is found")?;
    Ok(found)
}

fn run(root: &Path, target: &str, flags: &[String], corpora: &[&str]) -> Outcome {
    let program = program(root).display().to_string();
    let mut command = vec![program.as_str()];
    command.extend(flags.iter().map(String::as_str));
    command.extend(corpora);
    Ok(shell::succeeds(root, &command, &[("COFFERDAM_FUZZ", target)]))
}
