//! A session that its caller drives: calls come from outside until it is ended.

use std::sync::Arc;

use cofferdam_contract::capability::CapabilityReport;
use cofferdam_contract::change::Changeset;
use cofferdam_contract::ids::{RunId, SessionId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_tools::{CallReport, CallRequest, Doors, call};
use tokio::sync::{mpsc, oneshot};

use crate::live::Live;
use crate::run_session::RunSession;
use crate::state::Ground;
use crate::view::RunView;

/// What differs, as data and as a patch.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The paths.
    pub changeset: Changeset,
    /// A unified diff, as git writes it. Hostile text.
    pub patch: Vec<u8>,
}

enum Ask {
    Diff(oneshot::Sender<Result<Diff, Problem>>),
    End,
}

/// The engine's end of an attached session.
pub(crate) struct AttachPort {
    ready: std::sync::Mutex<Option<oneshot::Sender<Ready>>>,
    asks: tokio::sync::Mutex<mpsc::Receiver<Ask>>,
}

struct Ready {
    doors: Arc<Doors>,
    report: CapabilityReport,
}

/// The caller's end of an attached session.
pub struct Attached {
    run: RunId,
    doors: Arc<Doors>,
    report: CapabilityReport,
    asks: mpsc::Sender<Ask>,
    over: tokio::sync::Mutex<Option<tokio::task::JoinHandle<Result<RunView, Problem>>>>,
}

/// Makes the two ends, and drives `run` until it is ready.
///
/// # Errors
/// Why the session could not be opened.
pub(crate) async fn open<F>(
    run: RunId,
    drive: impl FnOnce(AttachPort) -> F,
) -> Result<Attached, Problem>
where
    F: Future<Output = Result<RunView, Problem>> + Send + 'static,
{
    let (ready, is_ready) = oneshot::channel();
    let (asks, asked) = mpsc::channel(16);
    let port = AttachPort {
        ready: std::sync::Mutex::new(Some(ready)),
        asks: tokio::sync::Mutex::new(asked),
    };
    let over = tokio::spawn(drive(port));
    match is_ready.await {
        Ok(Ready { doors, report }) => {
            Ok(Attached { run, doors, report, asks, over: Some(over).into() })
        }
        Err(_) => {
            let view =
                over.await.map_err(|error| Problem::new(Code::Internal, error.to_string()))??;
            Err(view
                .problem
                .unwrap_or_else(|| Problem::new(Code::SessionLost, "no session came of it")))
        }
    }
}

impl AttachPort {
    /// Serves the caller until it ends the session, lets go of it, or the run is interrupted.
    pub(crate) async fn serve(
        &self,
        live: &Live,
        ground: &Ground,
        session: &RunSession,
    ) -> Result<(), Problem> {
        let ready = self.ready.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let told = Ready { doors: Arc::new(session.doors(live)), report: session.report().clone() };
        if ready.is_none_or(|ready| ready.send(told).is_err()) {
            return Ok(());
        }
        let mut asks = self.asks.lock().await;
        while live.interrupt().is_none() {
            let ask = tokio::select! {
                ask = asks.recv() => ask,
                () = live.breaker.bell.notified() => continue,
            };
            match ask {
                Some(Ask::Diff(reply)) => {
                    let _ = reply.send(diff(live, ground, session).await);
                }
                Some(Ask::End) | None => break,
            }
        }
        // From here on the caller's end refuses calls.
        asks.close();
        Ok(())
    }
}

async fn diff(live: &Live, ground: &Ground, session: &RunSession) -> Result<Diff, Problem> {
    session.freeze().await?;
    let result = session.result(live, &ground.base.tree, "diff").await;
    session.thaw().await?;
    let (base, tree) = (ground.base.tree.clone(), result?.tree);
    live.with_broker(move |broker, repository| {
        let changeset = broker.changeset(repository, &base, &tree)?;
        let patch = broker.patch(repository, &base, &tree)?;
        Ok(Diff { changeset, patch })
    })
    .await
}

impl Attached {
    /// The run that the session belongs to.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        self.doors.hands.session()
    }

    /// The boundary as it is.
    pub fn report(&self) -> &CapabilityReport {
        &self.report
    }

    /// Calls a tool in it.
    ///
    /// # Errors
    /// See [`cofferdam_tools::call()`].
    pub async fn call(&self, request: CallRequest) -> Result<CallReport, Problem> {
        if self.asks.is_closed() {
            return Err(Problem::new(Code::SessionLost, "the session is over"));
        }
        call(&self.doors, request).await
    }

    /// What differs from the base at this moment.
    ///
    /// # Errors
    /// `session_lost`, or what the reader says.
    pub async fn diff(&self) -> Result<Diff, Problem> {
        let (reply, answer) = oneshot::channel();
        let lost = || Problem::new(Code::SessionLost, "the session is over");
        self.asks.send(Ask::Diff(reply)).await.map_err(|_| lost())?;
        answer.await.map_err(|_| lost())?
    }

    /// Ends the session and its run. Again is no error.
    ///
    /// # Errors
    /// What the journal says.
    pub async fn end(&self) -> Result<Option<RunView>, Problem> {
        let _ = self.asks.send(Ask::End).await;
        let Some(over) = self.over.lock().await.take() else {
            return Ok(None);
        };
        let view = over.await.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        view.map(Some)
    }
}
