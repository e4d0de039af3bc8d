//! What every command has at hand: the screen, the directories, the user, the engine.

use std::path::PathBuf;
use std::sync::Arc;

use cofferdam_contract::ids::{PrincipalId, RunId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_engine::{Command, Engine, Given, Observer, RunView, Settled, Unobserved};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Configuration;
use crate::dirs::Dirs;
use crate::exit::{DONE, Ending};
use crate::output::Screen;
use crate::output::objects::CommandObject;
use crate::output::progress::Progress;
use crate::{principal, repository, wiring};

/// The edge of this process.
pub(crate) struct Edge {
    pub(crate) screen: Screen,
    pub(crate) dirs: Dirs,
    pub(crate) configuration: Configuration,
    pub(crate) principal: PrincipalId,
    pub(crate) cwd: PathBuf,
}

impl Edge {
    /// The edge as the environment says. Touches nothing yet.
    ///
    /// # Errors
    /// `configuration_invalid` if a directory cannot be found out.
    pub(crate) fn of_process(screen: Screen) -> Result<Self, Problem> {
        let dirs = Dirs::find(&|name| std::env::var_os(name))?;
        let cwd = std::env::current_dir().map_err(|error| {
            Problem::new(Code::RequestInvalid, format!("the current directory: {error}"))
                .hint("change to a directory that is there")
        })?;
        Ok(Self {
            screen,
            configuration: Configuration::new(dirs.config.clone()),
            dirs,
            principal: principal::of_process()?,
            cwd,
        })
    }

    /// The engine, for commands that only read.
    ///
    /// # Errors
    /// What keeps a part from being made.
    pub(crate) async fn reader(&self) -> Result<Engine, Problem> {
        wiring::engine(&self.dirs, &self.configuration).await
    }

    /// The engine, for commands that write: first it settles what dead processes left.
    ///
    /// # Errors
    /// What keeps a part from being made.
    pub(crate) async fn writer(&self) -> Result<Engine, Problem> {
        let engine = self.reader().await?;
        wiring::sweep_sessions(&self.dirs);
        for Settled { run, problem } in engine.settle_orphans(Arc::new(Unobserved)).await? {
            self.screen.progress(&match problem {
                None => format!("settled {run}, which nobody held any more"),
                Some(problem) => format!("{run}, which nobody holds, is not settled: {problem}"),
            });
        }
        Ok(engine)
    }

    /// Tells the person who waits, unless a script does.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        if self.screen.json { Arc::new(Unobserved) } else { Arc::new(Progress::new(self.screen)) }
    }

    /// The run that is named, or the last governed one of the repository that one stands in.
    ///
    /// # Errors
    /// `run_unknown`.
    pub(crate) async fn run(
        &self,
        engine: &Engine,
        named: Option<RunId>,
    ) -> Result<RunId, Problem> {
        self.last(engine, named, |driver| driver != "attached").await
    }

    /// The run that is named, or the last of the repository that one stands in whose driver
    /// is `wanted`.
    ///
    /// # Errors
    /// `run_unknown`.
    pub(crate) async fn last(
        &self,
        engine: &Engine,
        named: Option<RunId>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<RunId, Problem> {
        if let Some(run) = named {
            return Ok(run);
        }
        let here = crate::output::review::plain_source(&repository::source(None, &self.cwd)?);
        let rows = engine.runs().await?;
        let here = rows.into_iter().find(|row| row.repository == here && wanted(&row.driver));
        here.map(|row| row.run).ok_or_else(|| {
            let detail = "the repository in the current directory has no run";
            Problem::new(Code::RunUnknown, detail).hint("name a run that cofferdam list shows")
        })
    }

    /// Gives a command to a run and shows what came of it.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) async fn command(
        &self,
        run: Option<RunId>,
        command: Command,
        done: impl FnOnce(&RunView) -> String,
    ) -> Result<Ending, Problem> {
        // A stop waits for nothing: it settles its run by itself.
        let engine = match command {
            Command::Stop {} => self.reader().await?,
            _ => self.writer().await?,
        };
        let run = self.run(&engine, run).await?;
        let given = Given { by: self.principal.clone(), command };
        let answer = engine.command(&run, given, self.observer()).await?;
        let (view, already) = (answer.view, answer.already);
        let text = if already { "it was done before".to_owned() } else { done(&view) };
        let object = CommandObject::of(view, already);
        self.screen.show(&object, |_, _| format!("{text}\n"))?;
        Ok(DONE)
    }
}

/// Comes back when the person or the system wants this process to end: 128 plus the signal.
///
/// # Errors
/// If signals cannot be listened for.
pub(crate) async fn interrupted() -> Result<u8, Problem> {
    let failed = |error: std::io::Error| Problem::new(Code::Internal, error.to_string());
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    Ok(tokio::select! {
        _ = interrupt.recv() => 128 + 2,
        _ = terminate.recv() => 128 + 15,
        _ = hangup.recv() => 128 + 1,
    })
}
