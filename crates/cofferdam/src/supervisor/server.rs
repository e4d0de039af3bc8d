//! The server: a task per connection, so that a slow client keeps nobody waiting.
//!
//! Every connection is bounded in size, time and number. Must never know how sessions or runs
//! work: it hands requests to the engine and answers back.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cofferdam_contract::check::Verdict;
use cofferdam_contract::events::{EventBody, RunEvent};
use cofferdam_contract::ids::{RunId, SessionId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::{RepositorySource, RuntimeRequest};
use cofferdam_contract::time::UtcTime;
use cofferdam_engine::{Attached, Command, Engine, Given, Observer, Unobserved};
use cofferdam_sandbox::CallIo;
use cofferdam_tools::{CallRequest, ExecInput};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::socket::{Place, is_own};
use super::stream::{Asking, Stream, gone, read_request, write_answer};
use super::wire::{Answer, Called, ExecOrder, Request, SessionRow, Which};

/// Most connections that are served at once; others wait in the kernel's queue. How many sessions
/// and runs there can be, the limit of open files decides.
const CONNECTIONS_MAX: usize = 4096;
/// How long a new supervisor waits for its first client.
const FIRST_CLIENT: Duration = Duration::from_secs(10);
/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long a client may take to read its answer.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// How long connections wait where none can be accepted.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// An open session.
struct Open {
    attached: Attached,
    source: RepositorySource,
    started: UtcTime,
    calls: AtomicU64,
}

/// What keeps the supervisor alive: connections, sessions and runs.
#[derive(Clone)]
struct Busy(Arc<watch::Sender<u64>>);

impl Busy {
    fn hold(&self) -> Held {
        self.0.send_modify(|count| *count += 1);
        Held(Arc::clone(&self.0))
    }
}

struct Held(Arc<watch::Sender<u64>>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// The background supervisor.
pub(super) struct Server {
    engine: Engine,
    sessions: Mutex<BTreeMap<SessionId, (Arc<Open>, Held)>>,
    busy: Busy,
    connections: Arc<Semaphore>,
}

impl Server {
    /// A supervisor over this engine.
    pub(super) fn new(engine: Engine) -> Arc<Self> {
        let busy = Busy(Arc::new(watch::Sender::new(0)));
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Arc::new(Self { engine, sessions: Mutex::default(), busy, connections })
    }

    /// Serves until nothing keeps it alive, or until it is told to go; then ends what is open.
    ///
    /// # Errors
    /// If it cannot listen or be told to go.
    pub(super) async fn serve(
        self: Arc<Self>,
        listener: UnixListener,
        place: &Place,
    ) -> Result<(), Problem> {
        let system = |error: std::io::Error| Problem::new(Code::Internal, error.to_string());
        listener.set_nonblocking(true).map_err(system)?;
        #[expect(deprecated, reason = "what replaces it is unsafe; a listener stays what it is")]
        let listener = AsyncFd::with_interest(listener, Interest::READABLE).map_err(system)?;
        let mut told = signal(SignalKind::terminate()).map_err(system)?;
        let mut count = self.busy.0.subscribe();
        let mut first = Some(self.busy.hold());
        let patience = tokio::time::sleep(FIRST_CLIENT);
        tokio::pin!(patience);
        loop {
            tokio::select! {
                biased;
                _ = told.recv() => break,
                accepted = self.accept(&listener) => {
                    match accepted {
                        Ok((stream, permit)) => self.take(stream, permit),
                        // Out of descriptors, most likely; whoever asks is still in the queue.
                        Err(_) => tokio::time::sleep(ACCEPT_AGAIN_AFTER).await,
                    }
                    first = None;
                }
                () = &mut patience, if first.is_some() => first = None,
                _ = count.wait_for(|count| *count == 0) => break,
            }
        }
        let _ = place.remove();
        self.end_all().await;
        Ok(())
    }

    async fn accept(
        &self,
        listener: &AsyncFd<UnixListener>,
    ) -> std::io::Result<(UnixStream, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        let permit = permit.map_err(std::io::Error::other)?;
        let accepted = listener.async_io(Interest::READABLE, UnixListener::accept).await?;
        Ok((accepted.0, permit))
    }

    /// Serves one connection in a task of its own.
    fn take(self: &Arc<Self>, stream: UnixStream, permit: OwnedSemaphorePermit) {
        if !is_own(&stream) {
            return;
        }
        let Ok(stream) = Stream::new(stream) else { return };
        let (server, held) = (Arc::clone(self), self.busy.hold());
        tokio::spawn(async move {
            let asked = tokio::time::timeout(REQUEST_TIME, read_request(&stream)).await;
            let Ok(Ok(asking)) = asked else { return };
            let (answer, body) = match asking {
                Ok(asking) => server.answer(asking, &stream).await,
                Err(error) => (Answer::Refused(error.into()), vec![]),
            };
            let _ = tokio::time::timeout(ANSWER_TIME, write_answer(&stream, &answer, &body)).await;
            drop((held, permit));
        });
    }

    async fn answer(self: &Arc<Self>, asking: Asking, stream: &Stream) -> (Answer, Vec<u8>) {
        let Asking { request, body, descriptors } = asking;
        let bare = |answered: Result<Answer, Problem>| answered.map(|answer| (answer, vec![]));
        let answered = match request {
            Request::Start(request) => bare(self.start(*request).await),
            Request::Exec(order) => {
                let (client, stop) = oneshot::channel();
                let calling = self.exec(order, body, descriptors, stop);
                tokio::pin!(calling);
                tokio::select! {
                    called = &mut calling => called,
                    () = gone(stream) => {
                        drop(client);
                        calling.await
                    }
                }
            }
            Request::Diff(which) => self.diff(&which).await,
            Request::End(which) => bare(self.end(&which).await),
            Request::List {} => Ok((Answer::Sessions(self.rows()), vec![])),
            Request::Detach { request, yes } => bare(self.detach(*request, yes).await),
        };
        answered.unwrap_or_else(|problem| (Answer::Refused(problem), vec![]))
    }

    async fn start(self: &Arc<Self>, mut request: RuntimeRequest) -> Result<Answer, Problem> {
        request.actor = self.engine.parts().owner.clone();
        let source = request.repository.source.clone();
        let ended = Arc::new(watch::Sender::new(false));
        let over = ended.subscribe();
        let attached = self.engine.attach(request, Arc::new(TellsEnd { ended })).await?;
        let session = attached.session().clone();
        let answer = Answer::Started {
            run: attached.run().clone(),
            session: session.clone(),
            capabilities: Box::new(attached.report().clone()),
        };
        let started = self.engine.parts().clock.now();
        let open = Open { attached, source, started, calls: AtomicU64::new(0) };
        self.lock().insert(session.clone(), (Arc::new(open), self.busy.hold()));
        self.forget_when_over(session, over);
        Ok(answer)
    }

    /// A session that was ended from elsewhere keeps nothing alive.
    fn forget_when_over(self: &Arc<Self>, session: SessionId, mut over: watch::Receiver<bool>) {
        let server: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            let _ = over.wait_for(|over| *over).await;
            if let Some(server) = server.upgrade() {
                let _ = server.end_session(&session).await;
            }
        });
    }

    async fn exec(
        &self,
        order: ExecOrder,
        stdin: Vec<u8>,
        descriptors: Vec<OwnedFd>,
        stop: oneshot::Receiver<()>,
    ) -> Result<(Answer, Vec<u8>), Problem> {
        let open = self.find(&order.which)?;
        let io = match (order.capture, <[OwnedFd; 3]>::try_from(descriptors)) {
            (true, _) => CallIo::Captured { stdin },
            (false, Ok([stdin, stdout, stderr])) => CallIo::Passed { stdin, stdout, stderr },
            (false, Err(_)) => {
                let detail = "a call needs three descriptors";
                return Err(Problem::new(Code::RequestInvalid, detail));
            }
        };
        let mut request = exec_request(order.argv)?;
        request.passed = Some(io);
        request.timeout_ms = order.timeout_ms;
        request.terminal = order.terminal;
        request.background = order.background;
        request.stop = Some(stop);
        let _counted = Counted::new(&open.calls);
        let report = open.attached.call(request).await?;
        let called = Called {
            end: report.outcome.end,
            exit_code: report.outcome.exit_code,
            signal: report.outcome.signal,
            truncated: report.outcome.truncated,
            duration_ms: report.outcome.duration_ms,
            denials: report.denials,
            stdout_bytes: report.stdout.len() as u64,
        };
        let body = [report.stdout, report.stderr].concat();
        Ok((Answer::Called(Box::new(called)), body))
    }

    async fn diff(&self, which: &Which) -> Result<(Answer, Vec<u8>), Problem> {
        let open = self.find(which)?;
        let diff = open.attached.diff().await?;
        let run = open.attached.run().clone();
        Ok((Answer::Changed { run, changeset: Box::new(diff.changeset) }, diff.patch))
    }

    async fn end(&self, which: &Which) -> Result<Answer, Problem> {
        let open = self.find(which)?;
        let session = open.attached.session().clone();
        let run = open.attached.run().clone();
        self.end_session(&session).await?;
        Ok(Answer::Ended { run, session })
    }

    /// Ends a session and forgets it once it is over.
    async fn end_session(&self, session: &SessionId) -> Result<(), Problem> {
        let open = self.lock().get(session).map(|(open, _)| Arc::clone(open));
        let Some(open) = open else { return Ok(()) };
        let ended = open.attached.end().await;
        self.lock().remove(session);
        ended.map(|_| ())
    }

    async fn end_all(&self) {
        let sessions: Vec<SessionId> = self.lock().keys().cloned().collect();
        for session in sessions {
            let _ = self.end_session(&session).await;
        }
    }

    fn rows(&self) -> Vec<SessionRow> {
        let row = |(session, (open, _)): (&SessionId, &(Arc<Open>, Held))| SessionRow {
            session: session.clone(),
            run: open.attached.run().clone(),
            repository: crate::output::review::source(&open.source),
            started: open.started,
            calls: open.calls.load(Ordering::Relaxed),
        };
        self.lock().iter().rev().map(row).collect()
    }

    async fn detach(
        self: &Arc<Self>,
        mut request: RuntimeRequest,
        yes: bool,
    ) -> Result<Answer, Problem> {
        request.actor = self.engine.parts().owner.clone();
        let admitted = self.engine.admit(request).await?;
        let (server, held) = (Arc::clone(self), self.busy.hold());
        let run = admitted.run.clone();
        tokio::spawn(async move {
            if let Err(problem) = server.carry(&run, yes).await {
                eprintln!("{run}: {problem}");
            }
            drop(held);
        });
        Ok(Answer::Detached { run: admitted.run, existed: admitted.existed })
    }

    async fn carry(&self, run: &RunId, yes: bool) -> Result<(), Problem> {
        let view = self.engine.advance(run, Arc::new(Unobserved)).await?;
        if let (true, Some(digest), Some(Verdict::Pass), "awaiting_approval") =
            (yes, view.digest, view.verdict, view.state.as_str())
        {
            let by = self.engine.parts().owner.clone();
            let given = Given { by, command: Command::Approve { digest } };
            self.engine.command(run, given, Arc::new(Unobserved)).await?;
        }
        Ok(())
    }

    /// The session that is named, or the newest one of the repository that the client stands in.
    fn find(&self, which: &Which) -> Result<Arc<Open>, Problem> {
        let sessions = self.lock();
        let found = match &which.session {
            Some(session) => sessions.get(session),
            None => sessions.values().rev().find(|(open, _)| match &open.source {
                RepositorySource::Path(path) => Path::new(&which.cwd).starts_with(path),
                RepositorySource::Url(_) => false,
            }),
        };
        match (found, &which.session) {
            (Some((open, _)), _) => Ok(Arc::clone(open)),
            (None, Some(session)) => {
                Err(Problem::new(Code::SessionUnknown, format!("{session} is not open")))
            }
            (None, None) => {
                let detail = "no session of the repository in the current directory is open";
                Err(Problem::new(Code::SessionUnknown, detail)
                    .hint("name a session that cofferdam session list shows, or start one here"))
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SessionId, (Arc<Open>, Held)>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The call of a program with arguments.
///
/// # Errors
/// `request_invalid` without an executable.
pub(crate) fn exec_request(argv: Vec<String>) -> Result<CallRequest, Problem> {
    let mut argv = argv.into_iter();
    let Some(executable) = argv.next() else {
        return Err(Problem::new(Code::RequestInvalid, "there is no executable"));
    };
    let input = ExecInput { executable, args: argv.collect(), stdin: String::new() };
    let input = serde_json::to_value(input)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    Ok(CallRequest::new("exec", input))
}

struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells when the session's run has ended.
struct TellsEnd {
    ended: Arc<watch::Sender<bool>>,
}

impl Observer for TellsEnd {
    fn event(&self, event: &EventBody) {
        if matches!(event, EventBody::Run(RunEvent::Ended(_))) {
            self.ended.send_replace(true);
        }
    }

    fn progress(&self, _stage: &str, _done: u64, _total: u64) {}
}
