//! `completions`: what a shell needs to complete our command line.

use clap::CommandFactory as _;
use cofferdam_contract::problem::Problem;

use super::{Cli, Edge};
use crate::exit::{DONE, Ending};
use crate::output::objects::CompletionsObject;

/// Print a completion script for a shell
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Cli::command(), "cofferdam", &mut script);
    let shell = args.shell.to_string();
    let script = String::from_utf8_lossy(&script).into_owned();
    edge.screen.show(&CompletionsObject { shell, script }, |_, object| object.script.clone())?;
    Ok(DONE)
}
