//! `cargo xtask fuzz`: fuzzes the parsers of foreign bytes, guided by coverage, for a bounded time.
//!
//! libFuzzer, driven by the compiler's own instrumentation, so that the released compiler is enough.
//! Inputs that reach new code are collected beneath `target/fuzz/corpus`; `--keep` takes the fewest
//! that reach as much into `fuzz/corpus`, which is where a run begins. Must never write there
//! otherwise.

use std::path::Path;

use anyhow::{Context, bail};

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
/// For how long one target is fuzzed if nobody says otherwise.
const SECONDS: u64 = 60;

/// Builds and runs the targets that are named, or all.
pub(crate) fn main(root: &Path, args: &[String]) -> Outcome {
    let (mut seconds, mut keep, mut named) = (SECONDS, false, vec![]);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keep" => keep = true,
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
    let chosen = if named.is_empty() { targets } else { named };
    build(root)?;
    let mut held = true;
    for target in &chosen {
        let done = if keep { merge(root, target)? } else { fuzz(root, target, seconds)? };
        println!("fuzz: {target} {}", if done { "held" } else { "FAILED" });
        held &= done;
    }
    Ok(held)
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

fn build(root: &Path) -> anyhow::Result<()> {
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
        BUILT,
    ];
    // What the compiler says against it is on standard error.
    if !shell::succeeds(root, &command, &[("RUSTFLAGS", INSTRUMENTED)]) {
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
    let program = format!("{BUILT}/{TRIPLE}/release/cofferdam-fuzz");
    let mut command = vec![program.as_str()];
    command.extend(flags.iter().map(String::as_str));
    command.extend(corpora);
    Ok(shell::succeeds(root, &command, &[("COFFERDAM_FUZZ", target)]))
}
