//! `__attacked`: the process that `redteam` starts to be attacked. It holds the planted credential
//! in its environment, its arguments and its key ring, as a careless caller of Cofferdam would.

use std::path::PathBuf;
use std::sync::Arc;

use cofferdam_contract::problem::Problem;
use cofferdam_redteam::{Class, Suite};

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::wiring::{self, SystemClock, SystemEntropy};

/// Be attacked
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The profile of the sessions.
    #[arg(long)]
    profile: String,
    /// Where the suite's own world is.
    #[arg(long)]
    dir: PathBuf,
    /// What is planted in this process.
    #[arg(long)]
    planted: String,
    /// Which classes.
    #[arg(long, value_parser = super::redteam::class)]
    class: Vec<Class>,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let Args { profile, dir, planted, class } = args;
    let screen = edge.screen;
    let suite = Suite {
        sessions: wiring::sessions(&edge.dirs, edge.configuration.config()?.landlock_audit)?,
        profile: edge.configuration.profile(&profile)?,
        profile_name: profile,
        dir,
        workspace_path: PathBuf::from("/workspace"),
        planted,
        actor: edge.principal.clone(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        random,
        progress: Box::new(move |class| screen.progress(&format!("attacking: {class}"))),
    };
    let report = wiring::blocking(move || suite.run(&class)).await?;
    edge.screen.object(&report)?;
    Ok(DONE)
}

/// Text that nobody can guess.
pub(super) fn random() -> String {
    let mut bytes = [0; 12];
    cofferdam_contract::ports::Entropy::fill(&SystemEntropy, &mut bytes);
    cofferdam_contract::digest::hex(&bytes)
}
