//! The only call pipeline: validate → decide → reserve → intent → do → outcome → settle.
//!
//! Reservation and intent are one write, and outcome and settlement are one: a call waits for the
//! journal twice.
//! A crash between intent and outcome leaves a started call without an end: whoever takes the run
//! over sees it, and the reservation counts as spent. A refusal before the intent starts nothing.
//! Must never know which tool it is running, nor what its input means.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use cofferdam_contract::decision::DecisionKind;
use cofferdam_contract::denial::{Attribution, Denial, DenialSource, DeniedProcess, Operation};
use cofferdam_contract::events::{
    CallEnd, CallEvent, CallOutcome, Decided, DenialEvent, EventBody,
};
use cofferdam_contract::ids::{CallId, DenialId, ReservationId, RunId, SessionId};
use cofferdam_contract::ports::{Clock, Decide, Entropy, PortFuture, Record};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_sandbox::{CallIo, CallResult, CallSpec, NotStarted};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{Plan, Tool, find};

/// A call that is about to be started.
pub struct Opening {
    /// The call.
    pub call: CallId,
    /// Where.
    pub session: SessionId,
    /// The tool's name.
    pub tool: String,
    /// What it executes, where it executes anything.
    pub executable: Option<String>,
    /// The tool's input.
    pub input: Vec<u8>,
    /// How much tool time is to be set aside for it, at most.
    pub tool_ms: u64,
}

/// What was set aside for a call.
#[derive(Debug)]
pub struct SetAside {
    /// By this it is settled.
    pub reservation: ReservationId,
    /// What was asked for, or what the budget had left: at least 1.
    pub tool_ms: u64,
}

/// A call that is over.
pub struct Closing<'a> {
    /// What was set aside for it.
    pub reservation: ReservationId,
    /// How much of that it spent.
    pub tool_ms: u64,
    /// What came of it, without what it printed.
    pub outcome: CallOutcome,
    /// Standard output.
    pub stdout: &'a [u8],
    /// Standard error.
    pub stderr: &'a [u8],
}

/// Where calls are written down. Text is redacted there and kept under its digest.
pub trait Book: Send + Sync {
    /// Reserves, keeps the input and records the intent: all of it or, with the refusal, nothing.
    /// Comes back once that survives the death of this process. Refuses only where nothing is left.
    fn open(&self, opening: Opening) -> PortFuture<'_, SetAside>;

    /// Keeps the output, records the outcome and settles: all of it or nothing. Gives the outcome
    /// with the digests of what was kept.
    fn close<'a>(&'a self, closing: Closing<'a>) -> PortFuture<'a, CallOutcome>;
}

/// A call under way.
pub trait Running: Send {
    /// Something that kills it from elsewhere, without waiting for it.
    fn stopper(&self) -> Box<dyn Fn() + Send>;

    /// Waits for its end. Dropped before, it is stopped.
    fn wait(self: Box<Self>) -> Ending;

    /// As [`Running::wait`], in a thread that may block.
    fn block(self: Box<Self>) -> CallResult;
}

/// The end of a call, when it comes.
pub type Ending = Pin<Box<dyn Future<Output = CallResult> + Send>>;

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
    /// Writes denials.
    pub record: Arc<dyn Record>,
    /// Writes calls, and takes from the budget for them.
    pub book: Arc<dyn Book>,
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
    /// Stops the call when it receives or when its sender is gone.
    pub stop: Option<oneshot::Receiver<()>>,
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
            stop: None,
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
    let asked_ms = request.timeout_ms.unwrap_or(doors.call_timeout_ms).min(doors.call_timeout_ms);
    let opening = Opening {
        call: id.clone(),
        session: doors.hands.session().clone(),
        tool: request.tool.to_owned(),
        executable: plan.executable.clone(),
        input: request.input.to_string().into_bytes(),
        tool_ms: asked_ms,
    };
    // The last of a budget can be spent to its end: the call gets what is left, and no more.
    let SetAside { reservation, tool_ms: timeout_ms } = doors.book.open(opening).await?;
    let done = carry_out(doors, &id, plan, request, timeout_ms).await;
    let report = conclude(doors, id, reservation, timeout_ms, done).await?;
    if report.outcome.end == CallEnd::TimedOut && timeout_ms < asked_ms {
        let detail = "the run's tool time was used up during the call";
        return Err(Problem::new(Code::BudgetExhausted, detail));
    }
    Ok(report)
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

/// Has the session do it. What the session has against the call is an outcome, too.
async fn carry_out(
    doors: &Doors,
    id: &CallId,
    plan: Plan,
    request: CallRequest,
    timeout_ms: u64,
) -> Result<CallResult, Problem> {
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
    let running = doors.hands.start(spec, io)?;
    let stopper = running.stopper();
    Ok(until_done(running.wait(), request.stop, stopper).await)
}

/// Waits for the end of a call, which comes at once when it is told to stop.
async fn until_done(
    mut done: Ending,
    stop: Option<oneshot::Receiver<()>>,
    stopper: Box<dyn Fn() + Send>,
) -> CallResult {
    if let Some(stop) = stop {
        tokio::select! {
            biased;
            done = &mut done => return done,
            _ = stop => stopper(),
        }
    }
    done.await
}

/// Records the outcome; a call that could not be started has one too.
async fn conclude(
    doors: &Doors,
    id: CallId,
    reservation: ReservationId,
    timeout_ms: u64,
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
    let outcome = CallOutcome {
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
    let closing = Closing {
        reservation,
        tool_ms: result.duration_ms.min(timeout_ms),
        outcome,
        stdout: &result.stdout,
        stderr: &result.stderr,
    };
    let outcome = doors.book.close(closing).await?;
    match refused {
        Some(problem) => Err(problem),
        None => Ok(CallReport {
            denials: doors.hands.denials(&id),
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
