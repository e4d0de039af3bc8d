//! `__attacked`: the process that `redteam` starts to be attacked. It holds the planted credential
//! in its environment, its arguments and its key ring, as a careless caller of Cofferdam would.

use std::path::PathBuf;
use std::sync::Arc;

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::DriverRequest;
use cofferdam_engine::{Command, Engine, Given};
use cofferdam_redteam::{Class, Govern, Suite, Which};
use tokio::runtime::Handle;

use super::{Edge, Ground, Wanted};
use crate::attacks;
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
    /// A few of each class.
    #[arg(long)]
    quick: bool,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let Args { profile, dir, planted, class, quick } = args;
    let which = if quick { Which::Quick } else { Which::Classes(class) };
    let screen = edge.screen;
    let engine = wiring::engine(&edge.dirs, &edge.configuration).await?;
    let suite = Suite {
        govern: govern(engine, Edge::of_process(screen)?, profile.clone()),
        sessions: wiring::sessions(&edge.dirs, edge.configuration.config()?.landlock_audit)?,
        binary: attacks::own_digest()?,
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
    let report = wiring::blocking(move || suite.run(&which)).await?;
    edge.screen.object(&report)?;
    Ok(DONE)
}

/// The main job, for work that is an attack.
fn govern(engine: Engine, edge: Edge, profile: String) -> Govern {
    Box::new(move |repository, script| {
        Handle::current().block_on(governed(&engine, &edge, &profile, repository, script))
    })
}

async fn governed(
    engine: &Engine,
    edge: &Edge,
    profile: &str,
    repository: &std::path::Path,
    script: &str,
) -> Result<Vec<u8>, Problem> {
    let argv = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let wanted = Wanted::of(DriverRequest::Command { argv }, "be attacked".to_owned());
    let request = Ground::of(repository, profile).request(edge, wanted)?;
    let run = engine.admit(request).await?.run;
    let view = engine.advance(&run, edge.observer()).await?;
    let events = engine.events(&run, 0).await?;
    let mut shown = serde_json::to_vec(&events)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    // A run that the gate refuses has a change to show and none to apply.
    let patch = engine.diff(&run).await?.patch;
    if patch.is_empty() {
        return Err(Problem::new(Code::Internal, "the run left nothing to look at"));
    }
    shown.extend(patch);
    if let (Some(digest), "awaiting_approval") = (view.digest, &*view.state) {
        let command = Command::Approve { digest };
        let given = Given { by: edge.principal.clone(), command };
        if engine.command(&run, given, edge.observer()).await.is_ok() {
            shown.extend(branches(repository)?);
        }
    }
    Ok(shown)
}

/// All that is on the branches of a repository that git itself made.
fn branches(repository: &std::path::Path) -> Result<Vec<u8>, Problem> {
    let output = std::process::Command::new("git")
        .args(["log", "-p", "--all", "--no-ext-diff", "--no-textconv", "-c"])
        .current_dir(repository)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| Problem::new(Code::BoundaryUnavailable, error.to_string()))?;
    Ok(output.stdout)
}

/// Text that nobody can guess.
pub(super) fn random() -> String {
    let mut bytes = [0; 12];
    cofferdam_contract::ports::Entropy::fill(&SystemEntropy, &mut bytes);
    cofferdam_contract::digest::hex(&bytes)
}
