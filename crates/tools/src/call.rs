//! The only call pipeline: validate → decide → reserve → intent → do → outcome → settle.
//!
//! A crash between intent and outcome leaves a started call without an end: whoever takes the run
//! over sees it, and the reservation counts as spent. A refusal before the intent starts nothing.
//! Must never know which tool it is running, nor what its input means.

use std::path::PathBuf;
use std::sync::Arc;

use cofferdam_contract::budget::BudgetKind;
use cofferdam_contract::decision::DecisionKind;
use cofferdam_contract::denial::{Attribution, Denial, DenialSource, DeniedProcess, Operation};
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{
    CallEnd, CallEvent, CallOutcome, Decided, DenialEvent, EventBody, Started,
};
use cofferdam_contract::ids::{CallId, DenialId, RunId, SessionId};
use cofferdam_contract::ports::{Clock, Decide, Entropy, PortFuture, Record, Spend};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_sandbox::{CallIo, CallResult, CallSpec, NotStarted};
use serde_json::Value;

use crate::{Plan, Tool, find};

/// Puts text away where it is redacted and found again by its digest.
pub trait Keep: Send + Sync {
    /// Keeps `bytes` and gives the digest of what was kept.
    fn keep(&self, bytes: Vec<u8>) -> PortFuture<'_, Digest>;
}

/// A call under way.
pub trait Running: Send {
    /// Waits for its end. Blocks.
    fn wait(self: Box<Self>) -> CallResult;
}

/// What carries calls out: a session.
pub trait Hands: Send + Sync {
    /// The session.
    fn session(&self) -> &SessionId;

    /// Starts a program. Blocks only for the start.
    ///
    /// # Errors
    /// `session_lost`, or what the session says against the program.
    fn start(&self, spec: CallSpec, io: CallIo) -> Result<Box<dyn Running>, Problem>;

    /// The refusals that were recorded for a call that has ended, and forgets them.
    fn denials(&self, call: &CallId) -> Vec<Denial>;
}

/// Everything a call goes through on its way.
#[derive(Clone)]
pub struct Doors {
    /// The run it belongs to.
    pub run: RunId,
    /// Carries it out.
    pub hands: Arc<dyn Hands>,
    /// Answers for policy.
    pub decide: Arc<dyn Decide>,
    /// Writes events.
    pub record: Arc<dyn Record>,
    /// Takes from the budget.
    pub spend: Arc<dyn Spend>,
    /// Keeps text.
    pub keep: Arc<dyn Keep>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub entropy: Arc<dyn Entropy>,
    /// Longest that a call may take.
    pub call_timeout_ms: u64,
    /// Most that is kept of each output.
    pub output_bytes_max: u64,
    /// Where calls start: the workspace.
    pub workspace_path: PathBuf,
}

/// One call as the caller asks for it.
pub struct CallRequest {
    /// The tool's name.
    pub tool: &'static str,
    /// Its input.
    pub input: Value,
    /// Descriptors of the caller's own, in place of captured output.
    pub passed: Option<CallIo>,
    /// Shorter than the session's, where given.
    pub timeout_ms: Option<u64>,
    /// It gets a controlling terminal.
    pub terminal: bool,
    /// Its processes outlive it until the session ends.
    pub background: bool,
    /// It is the agent itself, so that what it starts belongs to it.
    pub is_agent: bool,
}

impl CallRequest {
    /// A captured call in the foreground with the session's own limits.
    pub fn new(tool: &'static str, input: Value) -> Self {
        Self {
            tool,
            input,
            passed: None,
            timeout_ms: None,
            terminal: false,
            background: false,
            is_agent: false,
        }
    }
}

/// What came of a call.
#[derive(Debug)]
pub struct CallReport {
    /// As it was recorded.
    pub outcome: CallOutcome,
    /// Standard output as it came, cut at its limit. Hostile bytes.
    pub stdout: Vec<u8>,
    /// Standard error, likewise.
    pub stderr: Vec<u8>,
    /// Refusals during it.
    pub denials: Vec<Denial>,
}

/// Calls a tool.
///
/// # Errors
/// `request_invalid`, `executable_denied`, `budget_exhausted`, a failed record, or a lost session.
/// A program that fails is not an error: its outcome says so.
pub async fn call(doors: &Doors, request: CallRequest) -> Result<CallReport, Problem> {
    let tool = find(request.tool)?;
    let plan = tool.plan(&request.input)?;
    let id = CallId::generate(&*doors.clock, &*doors.entropy);
    decide(doors, &id, tool, &plan).await?;
    let timeout_ms = request.timeout_ms.unwrap_or(doors.call_timeout_ms).min(doors.call_timeout_ms);
    let reservation = doors.spend.reserve(BudgetKind::ToolMs, timeout_ms).await?;
    let carried = carry_out(doors, &id, plan, request, timeout_ms).await;
    let spent_ms = match &carried {
        Ok(report) => report.outcome.duration_ms.min(timeout_ms),
        Err(_) => 0,
    };
    doors.spend.settle(reservation, spent_ms).await?;
    carried
}

/// Asks policy; a plain allow is not worth an event, everything else is.
async fn decide(doors: &Doors, id: &CallId, tool: &dyn Tool, plan: &Plan) -> Result<(), Problem> {
    let decision = doors.decide.decide(&format!("call:{}", tool.name()), &plan.inputs);
    if decision.decision == DecisionKind::Allow {
        return Ok(());
    }
    let reason_code =
        decision.reason_codes.first().cloned().unwrap_or_else(|| "policy_denied".to_owned());
    let hint = Code::ExecutableDenied.hint().to_owned();
    let target = plan.executable.clone().unwrap_or_else(|| tool.name().to_owned());
    let denial = Denial {
        id: DenialId::generate(&*doors.clock, &*doors.entropy),
        run: Some(doors.run.clone()),
        session: doors.hands.session().clone(),
        call: Some(id.clone()),
        attribution: Attribution::Exact,
        at: doors.clock.now(),
        source: DenialSource::ToolPolicy,
        operation: Operation::Execute,
        target: target.clone(),
        rule: format!("tool.{}", tool.name()),
        reason_code,
        process: DeniedProcess { pid: None, exe: None, argv0: None },
        count: 1,
        hint: hint.clone(),
    };
    let events = vec![
        EventBody::Call(CallEvent::Decided(Decided { call: id.clone(), decision })),
        EventBody::Denial(DenialEvent::Recorded(denial)),
    ];
    doors.record.commit(events).await?;
    Err(Problem::new(Code::ExecutableDenied, format!("policy does not allow {target}")).hint(hint))
}

async fn carry_out(
    doors: &Doors,
    id: &CallId,
    plan: Plan,
    request: CallRequest,
    timeout_ms: u64,
) -> Result<CallReport, Problem> {
    let input = doors.keep.keep(request.input.to_string().into_bytes()).await?;
    let started = Started {
        call: id.clone(),
        session: doors.hands.session().clone(),
        tool: request.tool.to_owned(),
        executable: plan.executable,
        input,
    };
    doors.record.commit(vec![EventBody::Call(CallEvent::Started(started))]).await?;
    let spec = CallSpec {
        id: id.clone(),
        program: plan.program,
        environment: vec![],
        cwd: doors.workspace_path.clone(),
        timeout_ms,
        output_bytes_max: doors.output_bytes_max,
        background: request.background,
        is_agent: request.is_agent,
        terminal: request.terminal,
    };
    let io = request.passed.unwrap_or(CallIo::Captured { stdin: plan.stdin });
    let hands = Arc::clone(&doors.hands);
    let done =
        tokio::task::spawn_blocking(move || hands.start(spec, io).map(|running| running.wait()))
            .await;
    let done = done.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    conclude(doors, id, done).await
}

/// Records the outcome; a call that could not be started has one too.
async fn conclude(
    doors: &Doors,
    id: &CallId,
    done: Result<CallResult, Problem>,
) -> Result<CallReport, Problem> {
    let (result, refused) = match done {
        Ok(result) => {
            let refused = result.not_started.map(not_started);
            (result, refused)
        }
        Err(problem) => {
            let end = match problem.code {
                Code::SessionLost => CallEnd::SessionLost,
                _ => CallEnd::NotStarted,
            };
            (nothing(end), Some(problem))
        }
    };
    let mut outcome = CallOutcome {
        call: id.clone(),
        end: result.end,
        exit_code: result.exit_code,
        signal: result.signal,
        stdout: None,
        stderr: None,
        truncated: result.truncated,
        duration_ms: result.duration_ms,
        denials: result.denials,
    };
    if !result.stdout.is_empty() {
        outcome.stdout = Some(doors.keep.keep(result.stdout.clone()).await?);
    }
    if !result.stderr.is_empty() {
        outcome.stderr = Some(doors.keep.keep(result.stderr.clone()).await?);
    }
    doors.record.commit(vec![EventBody::Call(CallEvent::Ended(outcome.clone()))]).await?;
    match refused {
        Some(problem) => Err(problem),
        None => Ok(CallReport {
            denials: doors.hands.denials(id),
            outcome,
            stdout: result.stdout,
            stderr: result.stderr,
        }),
    }
}

/// A program that was not started has no exit code to be mistaken for one.
fn not_started(why: NotStarted) -> Problem {
    let detail = match why {
        NotStarted::NotFound => "there is no such program in the session",
        NotStarted::NotExecutable => "the program cannot be executed in the session",
        NotStarted::NoDirectory => "the directory to start in cannot be entered",
        NotStarted::NoRoom => "a limit of the session leaves no room for another process",
    };
    Problem::new(Code::ExecutableUnavailable, detail)
}

fn nothing(end: CallEnd) -> CallResult {
    CallResult {
        end,
        exit_code: None,
        signal: None,
        not_started: None,
        stdout: vec![],
        stderr: vec![],
        truncated: false,
        duration_ms: 0,
        denials: 0,
    }
}
