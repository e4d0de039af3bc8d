//! What the gate asks of the outside, answered from the broker's store and by fresh sessions.
//!
//! The gate looks at a change where blocking is allowed; sessions are opened where awaiting is.
//! Questions go from one to the other over a channel.

use std::sync::{Arc, mpsc as blocking_channel};

use cofferdam_contract::change::{Changeset, FileChange, FileVersion};
use cofferdam_contract::check::GateReport;
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_gate::{CommandOutcome, Contents, Runner, SCAN_BYTES_MAX, Side};
use cofferdam_policy::CheckCommand;
use cofferdam_repository::Repository;
use cofferdam_tools::{CallRequest, ExecInput, call};
use tokio::sync::mpsc;

use crate::live::Live;
use crate::parts::Parts;
use crate::run_session::RunSession;
use crate::state::Ground;

/// Both trees, from the broker's store.
pub(crate) struct StoreContents {
    parts: Arc<Parts>,
    repository: Arc<Repository>,
    base_tree: ObjectId,
    tree: ObjectId,
}

impl StoreContents {
    pub(crate) fn new(live: &Live, changeset: &Changeset) -> Result<Self, Problem> {
        Ok(Self {
            parts: Arc::clone(&live.parts),
            repository: live.repository()?,
            base_tree: changeset.base_tree.clone(),
            tree: changeset.tree.clone(),
        })
    }

    fn side(&self, side: Side) -> &ObjectId {
        match side {
            Side::Base => &self.base_tree,
            Side::Result => &self.tree,
        }
    }

    fn version(&self, version: Option<&FileVersion>) -> Result<Vec<u8>, Problem> {
        let version = version
            .ok_or_else(|| Problem::new(Code::Internal, "there is no such side of a change"))?;
        Ok(self.parts.broker.read_blob(&self.repository, &version.blob, SCAN_BYTES_MAX)?)
    }
}

impl Contents for StoreContents {
    fn before(&self, change: &FileChange) -> Result<Vec<u8>, Problem> {
        self.version(change.before.as_ref())
    }

    fn after(&self, change: &FileChange) -> Result<Vec<u8>, Problem> {
        self.version(change.after.as_ref())
    }

    fn file(&self, side: Side, path: &RepoPath) -> Result<Option<Vec<u8>>, Problem> {
        let tree = self.side(side);
        Ok(self.parts.broker.read_file(&self.repository, tree, path, SCAN_BYTES_MAX)?)
    }

    fn paths(&self, side: Side, visit: &mut dyn FnMut(&RepoPath)) -> Result<(), Problem> {
        Ok(self.parts.broker.paths(&self.repository, self.side(side), visit)?)
    }
}

/// A command to be run, and where its outcome goes.
struct Ask {
    side: Side,
    command: CheckCommand,
    reply: blocking_channel::Sender<Result<CommandOutcome, Problem>>,
}

/// The gate's end.
pub(crate) struct Asks {
    asks: mpsc::UnboundedSender<Ask>,
}

impl Runner for Asks {
    fn run(&self, side: Side, command: &CheckCommand) -> Result<CommandOutcome, Problem> {
        let (reply, answer) = blocking_channel::channel();
        let gone = || Problem::new(Code::Internal, "nobody runs the gate's commands any more");
        self.asks.send(Ask { side, command: command.clone(), reply }).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

/// Runs the gate's commands, each in a fresh session.
pub(crate) struct SessionRunner {
    asked: mpsc::UnboundedReceiver<Ask>,
    ground: Ground,
    tree: ObjectId,
}

impl SessionRunner {
    /// The two ends.
    pub(crate) fn new(ground: &Ground, tree: &ObjectId) -> (Asks, Self) {
        let (asks, asked) = mpsc::unbounded_channel();
        (Asks { asks }, Self { asked, ground: ground.clone(), tree: tree.clone() })
    }

    /// Answers until the gate is done.
    pub(crate) async fn serve(
        mut self,
        live: &Live,
        looking: impl Future<Output = Result<GateReport, Problem>>,
    ) -> Result<GateReport, Problem> {
        let mut looking = std::pin::pin!(looking);
        loop {
            tokio::select! {
                report = &mut looking => return report,
                Some(ask) = self.asked.recv() => {
                    let outcome = self.run(live, ask.side, &ask.command).await;
                    let _ = ask.reply.send(outcome);
                }
            }
        }
    }

    async fn run(
        &self,
        live: &Live,
        side: Side,
        command: &CheckCommand,
    ) -> Result<CommandOutcome, Problem> {
        if let Some(interrupt) = live.interrupt() {
            return Err(interrupt.problem());
        }
        let (result, name) = match side {
            Side::Base => (None, "base"),
            Side::Result => (Some(self.tree.clone()), "result"),
        };
        let purpose = format!("check {} on {name}", command.name);
        let session = RunSession::open(live, &self.ground, result, &purpose).await?;
        let outcome = in_session(live, &session, command).await;
        session.close(live).await?;
        outcome
    }
}

async fn in_session(
    live: &Live,
    session: &RunSession,
    command: &CheckCommand,
) -> Result<CommandOutcome, Problem> {
    let (executable, args) = command
        .argv
        .split_first()
        .ok_or_else(|| Problem::new(Code::ConfigurationInvalid, "a check has no command"))?;
    let input =
        ExecInput { executable: executable.clone(), args: args.to_vec(), stdin: String::new() };
    let mut request = CallRequest::new("exec", serde_json::json!(input));
    request.timeout_ms = Some(command.timeout_ms);
    let report = call(&session.doors(live), request).await?;
    Ok(CommandOutcome {
        end: report.outcome.end,
        exit_code: report.outcome.exit_code,
        truncated: report.outcome.truncated,
        output: report.outcome.stdout.or(report.outcome.stderr),
        duration_ms: report.outcome.duration_ms,
        stdout: report.stdout,
    })
}
