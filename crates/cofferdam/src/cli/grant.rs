//! `grant`: one thing more for a session that works.

use std::str::FromStr;
use std::time::Duration;

use cofferdam_contract::grant::{GrantKind, GrantRef};
use cofferdam_contract::ids::{GrantId, GrantRequestId, RunId, SessionId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_engine::{Command, Engine, Given, GrantView};

use super::Edge;
use super::grants::row;
use super::request::duration;
use crate::exit::{DONE, Ending};
use crate::wiring::{SystemClock, SystemEntropy};

/// Give a session that works one thing more, for a while and a number of calls
///
/// KIND is read:PATH or write:PATH (a directory or file of this machine appears inside, below
/// /grants/ro or /grants/rw), debug (processes of one call may trace one another), or exec:CLASS
/// (executables that policy denies). Without KIND, --request names what the session asked for.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run, or the session, that it is for
    #[arg(value_name = "RUN|SESSION")]
    target: Target,
    /// What is widened
    #[arg(required_unless_present = "request")]
    kind: Option<String>,
    /// The session's request that this answers
    #[arg(long, value_name = "REQUEST")]
    request: Option<GrantRequestId>,
    /// For how long, such as 30m [default: 30m, or as long as the profile allows]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
    /// How many calls may use it [default: 10, or as many as the profile allows]
    #[arg(long, value_name = "N")]
    uses: Option<u64>,
    /// Why; it stays in the record
    #[arg(long)]
    reason: String,
}

/// What a grant is for.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Run(RunId),
    Session(SessionId),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let run = text.parse().map(Self::Run);
        let either = run.or_else(|_| text.parse().map(Self::Session));
        either.map_err(|_| "not the id of a run or a session, run_… or ses_…")
    }
}

impl Target {
    /// The run, and that this is its session where one was named.
    async fn run(&self, engine: &Engine) -> Result<RunId, Problem> {
        match self {
            Self::Run(run) => Ok(run.clone()),
            Self::Session(session) => engine.run_of_session(session).await,
        }
    }
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let kind = args.kind.as_deref().map(str::parse::<GrantKind>).transpose()?;
    let engine = edge.reader().await?;
    let run = args.target.run(&engine).await?;
    if let Target::Session(session) = &args.target
        && engine.show(&run).await?.sessions.last() != Some(session)
    {
        return Err(Problem::new(Code::NotInState, format!("{session} is over")));
    }
    let grant = GrantId::generate(&SystemClock, &SystemEntropy);
    let command = Command::Grant {
        grant: grant.clone(),
        kind,
        request: args.request,
        for_ms: args.lasts.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        uses: args.uses,
        reason: args.reason,
    };
    let given = Given { by: edge.principal.clone(), command };
    engine.command(&run, given, edge.observer()).await?;
    let view = find(&engine, &run, &GrantRef::Grant(grant)).await?;
    edge.screen.show(&view, row)?;
    Ok(DONE)
}

/// The grant as the record has it.
pub(super) async fn find(
    engine: &Engine,
    run: &RunId,
    what: &GrantRef,
) -> Result<GrantView, Problem> {
    let is = |view: &GrantView| match what {
        GrantRef::Grant(grant) => view.grant.as_ref() == Some(grant),
        GrantRef::Request(request) => view.request.as_ref() == Some(request),
    };
    let found = engine.grants(run).await?.into_iter().find(is);
    found.ok_or_else(|| Problem::new(Code::GrantUnknown, format!("the record has no {what}")))
}
