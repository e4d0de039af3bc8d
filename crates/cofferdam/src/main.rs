//! `cofferdam`: a governed runtime for coding agents, as one binary.
//!
//! This crate is the edge: it alone knows the command line, the environment, files of
//! configuration and terminals, and `wiring` alone connects the parts of the runtime.

mod attacks;
mod cli;
mod config;
mod demo;
mod dirs;
mod exit;
mod output;
mod pool;
mod principal;
mod relay;
mod repository;
mod supervisor;
mod wiring;

use std::ffi::OsString;
use std::process::ExitCode;

/// The hidden subcommand under which the sandbox executes this binary again.
const LAUNCHER: &str = "__launcher";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first() {
        Some(first) if first == LAUNCHER => cofferdam_sandbox::launcher_main(wiring::RESIDENTS),
        Some(first) if first == cofferdam_redteam::ATTEMPT_ARGUMENT => {
            cofferdam_redteam::attempt_main()
        }
        Some(first) if first == supervisor::daemon::ARGUMENT => supervisor::daemon::main(),
        _ => cli::fast_session_exec(&args).unwrap_or_else(cli::main),
    }
}
