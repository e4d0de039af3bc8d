//! `cargo xtask`: what the project does to itself: its style as a test, generated files, and the
//! one command that runs every test.
//!
//! A subcommand is one module and one line in [`SUBCOMMANDS`]. Must never be needed to use
//! Cofferdam, only to work on it.

mod altered;
mod bench;
mod binaries;
mod fuzz;
mod generate;
mod guards;
mod guest;
mod shell;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Name, arguments, what it does, and the function that does it.
type Subcommand = (&'static str, &'static str, &'static str, fn(&Path, &[String]) -> Outcome);
/// Whether it found everything in order; an error if it could not tell.
type Outcome = anyhow::Result<bool>;

const SUBCOMMANDS: &[Subcommand] = &[
    ("tidy", "", "the style as a test", tidy::main),
    ("generate", "[--check]", "writes what is made from code: schemas, reference", generate::main),
    (
        "bench",
        "[boundary|TABLE…] [--quick]",
        "measures against bare processes, bubblewrap, runc and git",
        bench::main,
    ),
    (
        "fuzz",
        "[TARGET…] [--seconds N] [--keep | --planted]",
        "fuzzes the parsers of foreign bytes, or finds the faults of fuzz/planted.toml",
        fuzz::main,
    ),
    ("guards", "[GUARD…]", "makes every attack with its guard off: it must be seen", guards::main),
    (
        "guest",
        "KERNEL.deb [attacks | TEST…]",
        "the boundary's tests on another kernel",
        guest::main,
    ),
    ("test", "", "looks for what the tests need, then runs every check and test", test::main),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else { return usage() };
    let Some((_, _, _, run)) = SUBCOMMANDS.iter().find(|(known, ..)| known == name) else {
        return usage();
    };
    match run(&root(), rest) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("cargo xtask …");
    for (name, args, about, _) in SUBCOMMANDS {
        eprintln!("  {:22}{about}", format!("{name} {args}"));
    }
    ExitCode::from(2)
}

/// The project's top directory: this crate lies directly in it.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
