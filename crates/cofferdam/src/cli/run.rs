//! `run`: one governed run, from request to proposal.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use cofferdam_contract::check::Verdict;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::{DriverRequest, PatchSource, RuntimeRequest};
use cofferdam_engine::{Command, Engine, Given, RunView};

use super::request::{Ground, LOCAL_TENANT, Wanted, duration, text_of};
use super::{Edge, interrupted};
use crate::exit::{DONE, Ending, LEFT_AT_ONCE, of_run};
use crate::output::review;
use crate::supervisor::client::ask_or_start;
use crate::supervisor::wire::{Answer, Request};
use crate::wiring::blocking;

/// Largest rule or patch that is read, in bytes; a request has at most 1 MiB.
const INPUT_BYTES_MAX: u64 = 900 << 10;

/// What a request says by itself.
const SAID_BY_REQUEST: [&str; 13] = [
    "repo",
    "base",
    "profile",
    "carry",
    "driver",
    "task",
    "rule",
    "from",
    "allow",
    "protect",
    "wall_time",
    "idempotency_key",
    "argv",
];

/// Give a task to an agent and get a proposal: a change that was made behind walls and checked
///
/// The run ends with a proposal that awaits approval (or with the reason why there is none); on a
/// terminal it is shown and you are asked.
/// Nothing is written to the repository before `cofferdam approve`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    ground: Ground,
    /// The whole request, a JSON file of the runtime-request contract; it stands instead of the
    /// options that say the same
    #[arg(long, value_name = "FILE", conflicts_with_all = SAID_BY_REQUEST)]
    request: Option<PathBuf>,
    /// The agent [default: command]
    #[arg(long, value_enum)]
    driver: Option<Driver>,
    /// What is to be done, in words
    #[arg(long, value_name = "TEXT", default_value = "")]
    task: String,
    /// With the codemod driver: the rule, a YAML file of ast-grep with a `fix`
    #[arg(long, value_name = "FILE")]
    rule: Option<PathBuf>,
    /// With the patch driver: a file with a unified diff, or a revision of the repository
    #[arg(long, value_name = "FILE|REV")]
    from: Option<String>,
    /// Only paths that match may change; may be repeated
    #[arg(long, value_name = "GLOB")]
    allow: Vec<String>,
    /// Paths that may not change, in addition to the profile's; may be repeated
    #[arg(long, value_name = "GLOB")]
    protect: Vec<String>,
    /// Less wall time than the profile gives, such as 10m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wall_time: Option<Duration>,
    /// The same key for the same request names the same run
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Approve the proposal if its verdict is pass; one that escalates still waits for an answer
    #[arg(long)]
    yes: bool,
    /// Leave the run to the background supervisor and come back at once
    #[arg(long)]
    detach: bool,
    /// With the command driver: the program and its arguments
    #[arg(last = true, value_name = "EXE ARG")]
    argv: Vec<std::ffi::OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Driver {
    /// Any program is the agent
    Command,
    /// A structural rewrite, without a model
    Codemod,
    /// A change that was made elsewhere
    Patch,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let (yes, detach) = (args.yes, args.detach);
    let request = args.into_request(edge)?;
    if detach {
        return self::detach(edge, request, yes).await;
    }
    request.validate()?;
    let engine = edge.writer().await?;
    let admitted = engine.admit(request).await?;
    if admitted.existed {
        edge.screen.progress(&format!("the same request was made before: {}", admitted.run));
    }
    let advanced = advance(edge, &engine, &admitted.run).await;
    let view = match advanced {
        Ok(Some(view)) => view,
        Ok(None) => return Ok(Ending::Program(LEFT_AT_ONCE)),
        Err(problem) if problem.code == Code::RunHeld && admitted.existed => {
            engine.show(&admitted.run).await?
        }
        Err(problem) => return Err(problem),
    };
    let view = if yes { approve(edge, &engine, view).await? } else { view };
    show(edge, &engine, view).await
}

/// Drives the run; a first signal stops the run, a second one leaves at once.
async fn advance(edge: &Edge, engine: &Engine, run: &RunId) -> Result<Option<RunView>, Problem> {
    let advancing = engine.advance(run, edge.observer());
    tokio::pin!(advancing);
    tokio::select! {
        view = &mut advancing => return view.map(Some),
        signal = interrupted() => drop(signal?),
    }
    edge.screen.progress("stopping the run; once more to leave at once");
    let given = Given { by: edge.principal.clone(), command: Command::Stop {} };
    let stopping = async {
        let (view, stopped) =
            tokio::join!(&mut advancing, engine.command(run, given, edge.observer()));
        stopped.and(view)
    };
    tokio::select! {
        view = stopping => view.map(Some),
        _ = interrupted() => Ok(None),
    }
}

async fn approve(edge: &Edge, engine: &Engine, view: RunView) -> Result<RunView, Problem> {
    let (Some(digest), Some(Verdict::Pass), "awaiting_approval") =
        (view.digest, view.verdict, view.state.as_str())
    else {
        return Ok(view);
    };
    let given = Given { by: edge.principal.clone(), command: Command::Approve { digest } };
    Ok(engine.command(&view.run, given, edge.observer()).await?.view)
}

pub(super) async fn show(edge: &Edge, engine: &Engine, view: RunView) -> Result<Ending, Problem> {
    let ending = of_run(&view.state, view.problem.as_ref());
    let text = match (edge.screen.json, &view.digest) {
        (false, Some(_)) => {
            let diff = engine.diff(&view.run).await?;
            review::review(&edge.screen, &view, &diff)
        }
        _ => review::summary(&edge.screen, &view),
    };
    edge.screen.show(&view, |_, _| text)?;
    Ok(super::approve::ask(edge, &view).await?.unwrap_or(ending))
}

async fn detach(edge: &Edge, mut request: RuntimeRequest, yes: bool) -> Result<Ending, Problem> {
    // So that sending it again, should the supervisor be lost, makes no second run.
    let own_key = request.request_id.to_string();
    request.idempotency_key.get_or_insert(own_key);
    request.validate()?;
    let dirs = edge.dirs.clone();
    let request = Request::Detach { request: Box::new(request), yes };
    let (answer, _) = blocking(move || ask_or_start(&dirs, &request)).await?;
    let Answer::Detached { run, .. } = answer else {
        return Err(Problem::new(Code::Internal, "the supervisor answered something else"));
    };
    let view = edge.reader().await?.show(&run).await?;
    edge.screen.show(&view, |screen, view| {
        let summary = review::summary(screen, view);
        format!("{summary}\nwatch it   cofferdam events {run} --follow\n")
    })?;
    Ok(DONE)
}

impl Args {
    fn into_request(self, edge: &Edge) -> Result<RuntimeRequest, Problem> {
        if let Some(file) = &self.request {
            return whole(&edge.cwd.join(file), edge);
        }
        let driver = self.driver(edge)?;
        let wanted = Wanted {
            driver,
            task: self.task,
            allowed_paths: self.allow,
            protected_paths: self.protect,
            wall_time: self.wall_time,
            idempotency_key: self.idempotency_key,
        };
        self.ground.request(edge, wanted)
    }

    /// The driver with its input; an input that the driver has no use for is a mistake.
    fn driver(&self, edge: &Edge) -> Result<DriverRequest, Problem> {
        let driver = self.driver.unwrap_or(Driver::Command);
        let useless = [
            (self.rule.is_some() && driver != Driver::Codemod, "--rule", "codemod"),
            (self.from.is_some() && driver != Driver::Patch, "--from", "patch"),
            (!self.argv.is_empty() && driver != Driver::Command, "-- EXE ARG", "command"),
        ];
        if let Some((_, flag, owner)) = useless.iter().find(|(is_useless, ..)| *is_useless) {
            return Err(Problem::new(
                Code::RequestInvalid,
                format!("{flag} is for the {owner} driver"),
            )
            .at(Some("driver".to_owned()))
            .hint(format!("add --driver {owner}, or leave {flag} away")));
        }
        match (driver, &self.rule, &self.from) {
            (Driver::Command, ..) if self.argv.is_empty() => {
                Err(missing("the command driver needs a program", "-- EXE ARG…"))
            }
            (Driver::Command, ..) => {
                Ok(DriverRequest::Command { argv: text_of(self.argv.clone())? })
            }
            (Driver::Codemod, Some(rule), _) => {
                Ok(DriverRequest::Codemod { rule: read(&edge.cwd.join(rule))? })
            }
            (Driver::Codemod, None, _) => {
                Err(missing("the codemod driver needs a rule", "--rule FILE"))
            }
            (Driver::Patch, _, Some(from)) => {
                let file = edge.cwd.join(from);
                let is_path = from.starts_with('/') || from.contains("./");
                let from = match file.is_file() || is_path {
                    true => PatchSource::Text(read(&file)?),
                    false => PatchSource::Revision(from.clone()),
                };
                Ok(DriverRequest::Patch { from })
            }
            (Driver::Patch, _, None) => {
                Err(missing("the patch driver needs a change", "--from FILE or --from REV"))
            }
        }
    }
}

/// A request that came as a document. Who asks is who runs this, whatever the document says.
fn whole(file: &Path, edge: &Edge) -> Result<RuntimeRequest, Problem> {
    let request = RuntimeRequest::parse(read(file)?.as_bytes())?;
    let refuse = |field: &str, detail: String| {
        Err(Problem::new(Code::RequestInvalid, detail).at(Some(field.to_owned())))
    };
    if request.actor != edge.principal {
        return refuse("actor", format!("the actor is {}, who runs this", edge.principal));
    }
    if request.tenant != LOCAL_TENANT {
        return refuse("tenant", format!("on one machine the tenant is {LOCAL_TENANT}"));
    }
    Ok(request)
}

fn missing(detail: &str, flag: &str) -> Problem {
    Problem::new(Code::RequestInvalid, detail)
        .at(Some("driver".to_owned()))
        .hint(format!("add {flag}"))
}

fn read(file: &Path) -> Result<String, Problem> {
    let shown = crate::dirs::shown(file);
    let refuse = |detail: &str| Problem::new(Code::RequestInvalid, format!("{shown}: {detail}"));
    let opened =
        std::fs::File::open(file).map_err(|error| refuse(&error.to_string().to_lowercase()))?;
    let mut bytes = vec![];
    opened
        .take(INPUT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(&error.to_string().to_lowercase()))?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(refuse("it has over 900 KiB")
            .hint("commit the change and name the revision with --from REV"));
    }
    String::from_utf8(bytes).map_err(|_| {
        refuse("it is not UTF-8").hint("commit the change and name the revision with --from REV")
    })
}
