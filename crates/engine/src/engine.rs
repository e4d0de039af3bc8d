//! The engine's door: admit, advance, command, attach; and the queries, which only read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cofferdam_contract::events::{End, EndState, Event, EventBody, Resumed, RunEvent};
use cofferdam_contract::ids::{CommandId, PrincipalId, RequestId, RunId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::{DriverRequest, PatchSource, RuntimeRequest, TaskType};
use cofferdam_journal::{CommandRow, JournalError, NewCommand, RunRow};
use cofferdam_policy::authority::{Act, Role, local};
use cofferdam_repository::{Repository, RepositoryError};
use serde::{Deserialize, Serialize};

use crate::attached::{Attached, Diff, open};
use crate::breaker::Interrupt;
use crate::command::{Command, Given};
use crate::live::{Held, Live, blocking, interrupted};
use crate::parts::{Observer, Parts};
use crate::run::admit::{Admitting, admit};
use crate::run::{Turned, advance, turn};
use crate::state::{Applied, State};
use crate::view::RunView;

/// How soon a look into an inbox that failed is repeated. A stop must have ended everything within
/// 200 ms.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How often whoever gave a command to a holder looks for the answer.
const ANSWER_EVERY: Duration = Duration::from_millis(5);

/// Runs runs.
#[derive(Clone)]
pub struct Engine {
    parts: Arc<Parts>,
    /// Runs that were admitted here and not yet begun. They are held without a gap, so that nobody
    /// takes one that is about to begin for one that was left.
    admitted: Arc<Mutex<HashMap<RunId, Held>>>,
}

/// A run that nobody held any more.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The run.
    pub run: RunId,
    /// Why it is not settled: the next command that writes tries again.
    pub problem: Option<Problem>,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The run, once it rests.
    pub view: RunView,
    /// It was done before.
    pub already: bool,
}

/// A command's outcome, as the inbox keeps it for whoever asked.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Outcome {
    Done { already: bool },
    Refused(Problem),
}

impl Outcome {
    pub(crate) fn to_text(&self) -> Result<String, Problem> {
        serde_json::to_string(self).map_err(|error| Problem::new(Code::Internal, error.to_string()))
    }

    fn read(text: &str) -> Result<bool, Problem> {
        match serde_json::from_str(text) {
            Ok(Self::Done { already }) => Ok(already),
            Ok(Self::Refused(problem)) => Err(problem),
            Err(error) => Err(Problem::new(Code::JournalCorrupt, error.to_string())),
        }
    }
}

impl Engine {
    /// An engine of these parts.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), admitted: Arc::default() }
    }

    /// Its parts, for queries that are not about one run.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    pub(crate) fn shared_parts(&self) -> Arc<Parts> {
        Arc::clone(&self.parts)
    }

    /// Makes a request a run, or finds the run that the same request made.
    ///
    /// # Errors
    /// The refusal; nothing was written then but, where policy refused, the refusal itself.
    pub async fn admit(&self, request: RuntimeRequest) -> Result<Admitting, Problem> {
        let (admitting, held) = admit(&self.parts, request).await?;
        if let Some(held) = held {
            let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
            admitted.insert(admitting.run.clone(), held);
        }
        Ok(admitting)
    }

    /// Holds a run: goes on holding it if it was admitted here, or takes it over.
    async fn hold(&self, run: &RunId) -> Result<Held, JournalError> {
        let admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
        match admitted {
            Some(held) => Ok(held),
            None => Ok(self.parts.journal.hold(run).await?.into()),
        }
    }

    /// Holds a run until it rests.
    ///
    /// # Errors
    /// `run_held`, and whatever keeps the journal from being written or an effect from being known.
    pub async fn advance(
        &self,
        run: &RunId,
        observer: Arc<dyn Observer>,
    ) -> Result<RunView, Problem> {
        let hold = self.hold(run).await?;
        self.advance_held(hold, observer, None).await
    }

    async fn advance_held(
        &self,
        held: Held,
        observer: Arc<dyn Observer>,
        attach: Option<crate::attached::AttachPort>,
    ) -> Result<RunView, Problem> {
        let run = held.hold.run().clone();
        if !self.is_over(&run).await? {
            let mut live = Live::load(Arc::clone(&self.parts), held, observer).await?;
            live.attach = attach;
            self.settle_orphan(&mut live).await?;
            let watch = self.watch_inbox(&live);
            let driven = self.drive(&mut live).await;
            watch.abort();
            driven?;
        }
        self.show(&run).await
    }

    /// Whether nothing can move the run any more, so that it need not be opened.
    async fn is_over(&self, run: &RunId) -> Result<bool, Problem> {
        let events = self.events(run, 0).await?;
        let state = fold(&events)?;
        let attested = matches!(
            events.last().map(|event| &event.body),
            Some(EventBody::Run(RunEvent::Attested(_)))
        );
        let waiting = self.parts.journal.take_commands(run).await?;
        let over = matches!(state, State::Ended(_) | State::RolledBack(_));
        Ok(over && attested && waiting.is_empty())
    }

    /// A run that another holder had begun lost its session with that holder. `assist` ends here,
    /// and so does a session whose caller is gone; `autonomous` goes on from its checkpoint.
    async fn settle_orphan(&self, live: &mut Live) -> Result<(), Problem> {
        let begun = matches!(live.state(), State::Preparing(_) | State::Working(_));
        if !begun || !live.is_taken_over() {
            return Ok(());
        }
        let attached = matches!(live.request.driver, DriverRequest::Attached {});
        let event = if attached || live.request.task_type == TaskType::Assist {
            RunEvent::Ended(End { state: EndState::Interrupted, problem: Some(interrupted()) })
        } else {
            RunEvent::Resumed(Resumed { state: live.state().name().to_owned() })
        };
        live.append(vec![EventBody::Run(event)]).await
    }

    /// Advances, answers what is in the inbox, and advances again, until both are at rest.
    async fn drive(&self, live: &mut Live) -> Result<(), Problem> {
        loop {
            self.heed_stop(live).await?;
            if live.state().is_busy() {
                // Not the run's own end: the repository may come back.
                live.repository()?;
            }
            advance(live).await?;
            let waiting = self.parts.journal.take_commands(&live.run).await?;
            let Some(row) = waiting.into_iter().next() else {
                return Ok(());
            };
            self.answer(live, row).await?;
        }
    }

    /// A stop that lies there already is heard before the next stage: one whose storage fails
    /// again and again, or whose repository is gone, would never come to its inbox.
    async fn heed_stop(&self, live: &mut Live) -> Result<(), Problem> {
        if !live.state().may_end() {
            return Ok(());
        }
        let waiting = self.parts.journal.take_commands(&live.run).await?;
        match waiting.into_iter().find(|row| stopper(row).is_some()) {
            Some(row) => self.answer(live, row).await,
            None => Ok(()),
        }
    }

    async fn answer(&self, live: &mut Live, row: CommandRow) -> Result<(), Problem> {
        let given: Given = serde_json::from_str(&row.body)
            .map_err(|error| Problem::new(Code::JournalCorrupt, error.to_string()))?;
        let stopped =
            given.command == Command::Stop {} && live.interrupt() == Some(Interrupt::Stop);
        let outcome = match turn(live, &given).await {
            Ok(Turned::Events(events)) => self.carry_out(live, events, given).await?,
            Ok(Turned::Already) => Outcome::Done { already: !stopped },
            Err(problem) if problem.effect_unknown => return Err(problem),
            Err(problem) => Outcome::Refused(problem),
        };
        Ok(self.parts.journal.finish_command(&row.id, outcome.to_text()?).await?)
    }

    /// The answer to a command is what came of it, so it is written last. After a crash before
    /// that, the command is found again and turns out to be done already.
    async fn carry_out(
        &self,
        live: &mut Live,
        events: Vec<EventBody>,
        given: Given,
    ) -> Result<Outcome, Problem> {
        live.failure = None;
        live.append_by(events, given.by).await?;
        advance(live).await?;
        Ok(live.failure.take().map_or(Outcome::Done { already: false }, Outcome::Refused))
    }

    /// Ends what runs as soon as a stop lies in the inbox.
    fn watch_inbox(&self, live: &Live) -> tokio::task::JoinHandle<()> {
        let (parts, run) = (Arc::clone(&self.parts), live.run.clone());
        let (breaker, desk) = (Arc::clone(&live.breaker), Arc::clone(&live.desk));
        let (policy, owner) = (Arc::clone(&live.policy), live.parts.owner.clone());
        let may_stop = move |row: &CommandRow| {
            let approval = &policy.tables().approval;
            stopper(row).is_some_and(|by| {
                local(Role::of(&by, &owner), Act::Stop, false, approval).is_allowed()
            })
        };
        tokio::spawn(async move {
            let mut inbox = parts.journal.inbox(&run);
            let mut look = true;
            loop {
                let waiting = match look {
                    true => parts.journal.take_commands(&run).await,
                    false => Ok(vec![]),
                };
                let Ok(waiting) = waiting else {
                    // A stop may lie there.
                    tokio::time::sleep(AGAIN_AFTER).await;
                    continue;
                };
                if waiting.iter().any(&may_stop) {
                    let _ =
                        tokio::task::spawn_blocking(move || breaker.raise(Interrupt::Stop)).await;
                    return;
                }
                look = !desk.attend(waiting);
                look |= tokio::select! {
                    _ = inbox.rings() => true,
                    () = tokio::time::sleep(desk.rests_for()) => false,
                };
            }
        })
    }

    /// Gives a command to whoever holds the run; if nobody does, holds it and carries it out.
    ///
    /// # Errors
    /// The refusal, or what kept it from being carried out.
    pub async fn command(
        &self,
        run: &RunId,
        mut given: Given,
        observer: Arc<dyn Observer>,
    ) -> Result<Answer, Problem> {
        if let Command::Reject { reason }
        | Command::Grant { reason, .. }
        | Command::Revoke { reason, .. } = &mut given.command
        {
            *reason = self.parts.redactor.redact_text(reason).into_inner();
        }
        let id = CommandId::generate(&*self.parts.clock, &*self.parts.entropy);
        let body = serde_json::to_string(&given)
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        let new = NewCommand {
            operation_key: id.to_string(),
            id,
            run: run.clone(),
            actor: given.by.clone(),
            body,
        };
        let needs_session = crate::grants::is_about_grants(&given.command);
        let id = self.parts.journal.command(new).await?;
        loop {
            match self.hold(run).await {
                // Nobody holds the run, so it has no session, and this is no reason to open one.
                Ok(_hold) if needs_session => {
                    let refused = Outcome::Refused(crate::grants::no_session()).to_text()?;
                    self.parts.journal.finish_command(&id, refused).await?;
                }
                Ok(hold) => {
                    self.advance_held(hold, Arc::clone(&observer), None).await?;
                }
                Err(JournalError::RunHeld(_)) => tokio::time::sleep(ANSWER_EVERY).await,
                Err(error) => return Err(error.into()),
            }
            if let Some(outcome) = self.parts.journal.find_command(&id).await?.outcome {
                let already = Outcome::read(&outcome)?;
                return Ok(Answer { view: self.show(run).await?, already });
            }
        }
    }

    /// Opens a session for a caller's own loop. It belongs to a run of its own.
    ///
    /// # Errors
    /// The refusal, or why there is no session.
    pub async fn attach(
        &self,
        request: RuntimeRequest,
        observer: Arc<dyn Observer>,
    ) -> Result<Attached, Problem> {
        if request.driver != (DriverRequest::Attached {}) {
            let rule = "only the attached driver has a caller's own loop";
            return Err(Problem::new(Code::RequestInvalid, rule).at(Some("driver".to_owned())));
        }
        let run = self.admit(request).await?.run;
        let hold = self.hold(&run).await?;
        let engine = self.clone();
        let drive = |port| async move { engine.advance_held(hold, observer, Some(port)).await };
        open(run, drive).await
    }

    /// Settles runs that nobody holds any more: `assist` ends, `autonomous` and every run with an
    /// effect under way goes on. Before every command that writes. One that cannot be settled,
    /// such as for a repository that is gone, keeps nobody from working on others.
    ///
    /// # Errors
    /// What keeps the journal from being read.
    pub async fn settle_orphans(
        &self,
        observer: Arc<dyn Observer>,
    ) -> Result<Vec<Settled>, Problem> {
        let mut settled = vec![];
        for row in self.parts.journal.runs().await? {
            let working = matches!(row.state.as_str(), "preparing" | "working" | "checking");
            let effect = matches!(row.state.as_str(), "applying" | "merging" | "rolling_back");
            let ends = working && (row.task_type == TaskType::Assist || row.driver == "attached");
            if !ends && !effect {
                continue;
            }
            match self.parts.journal.hold(&row.run).await {
                Ok(hold) => {
                    let advanced =
                        self.advance_held(hold.into(), Arc::clone(&observer), None).await;
                    settled.push(Settled { run: row.run, problem: advanced.err() });
                }
                Err(JournalError::RunHeld(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(settled)
    }

    /// Asks for the inverse of a run's change on top of the branch that has it: what a rollback
    /// becomes once others have built upon it, or have themselves brought it to where it was made
    /// for. A proposal of its own, with a gate and an approval of its own.
    ///
    /// # Errors
    /// `not_in_state` where it can simply be rolled back, or is in no branch; the refusal of the new
    /// request.
    pub async fn admit_revert(&self, run: &RunId, by: PrincipalId) -> Result<Admitting, Problem> {
        let (State::Applied(applied) | State::Merged(applied)) = fold(&self.events(run, 0).await?)?
        else {
            let detail = "only a change that is in a branch is reverted on top of it";
            return Err(Problem::new(Code::NotInState, detail));
        };
        let mut request = self.parts.admissions.get(run)?.request;
        let (source, base) =
            (request.repository.source.clone(), &applied.proposed.ground.base.tree);
        let (base, tree) = (base.clone(), applied.proposed.worked.tree.clone());
        let parts = Arc::clone(&self.parts);
        let (branch, inverse) = blocking(move || {
            let repository = parts.broker.locate(&source)?;
            let branch = built_upon(&repository, &applied)?;
            Ok((branch, parts.broker.patch(&repository, &tree, &base)?))
        })
        .await?;
        let inverse = String::from_utf8(inverse).map_err(|_| {
            Problem::new(Code::RepositoryUnsupported, "the inverse of the change is not text")
                .hint("revert the commit by hand: cofferdam show names it")
        })?;
        request.request_id = RequestId::generate(&*self.parts.clock, &*self.parts.entropy);
        request.idempotency_key = None;
        request.timestamp_utc = self.parts.clock.now();
        request.deadline_utc = None;
        request.actor = by;
        request.task = format!("revert {run}");
        request.repository.base = branch;
        request.driver = DriverRequest::Patch { from: PatchSource::Text(inverse) };
        self.admit(request).await
    }

    // ── Queries ─────────────────────────────────────────────────────────────────────────────────

    /// Every run, the newest first.
    ///
    /// # Errors
    /// What keeps the journal from being read.
    pub async fn runs(&self) -> Result<Vec<RunRow>, Problem> {
        Ok(self.parts.journal.runs().await?)
    }

    /// One run.
    ///
    /// # Errors
    /// `run_unknown`, `journal_corrupt`.
    pub async fn show(&self, run: &RunId) -> Result<RunView, Problem> {
        let events = self.events(run, 0).await?;
        let mut view = RunView::of(&events)?;
        view.grants = crate::grants::views(&events, self.parts.clock.now());
        view.cost = self.parts.journal.spent(run).await?;
        Ok(view)
    }

    /// The events of a run from a sequence on.
    ///
    /// # Errors
    /// `run_unknown`, `journal_corrupt`.
    pub async fn events(&self, run: &RunId, from: u64) -> Result<Vec<Event>, Problem> {
        let stored = self.parts.journal.events(run, from).await?;
        Ok(stored.into_iter().map(|it| it.event).collect())
    }

    /// What a run's result differs in from its base.
    ///
    /// # Errors
    /// `not_in_state` while there is no result.
    pub async fn diff(&self, run: &RunId) -> Result<Diff, Problem> {
        let events = self.events(run, 0).await?;
        let Some((source, base, tree)) = crate::view::trees(&events) else {
            return Err(Problem::new(Code::NotInState, "the run has no result yet"));
        };
        let parts = Arc::clone(&self.parts);
        blocking(move || {
            let repository = parts.broker.locate(&source)?;
            if !parts.broker.has(&repository, &tree)? {
                return Err(Problem::new(Code::NotInState, "the run's result was pruned"));
            }
            let changeset = parts.broker.changeset(&repository, &base, &tree)?;
            let patch = parts.broker.patch(&repository, &base, &tree)?;
            Ok(Diff { changeset, patch })
        })
        .await
    }
}

/// Who says stop, if that is the command.
fn stopper(row: &CommandRow) -> Option<PrincipalId> {
    let given: Given = serde_json::from_str(&row.body).ok()?;
    (given.command == Command::Stop {}).then_some(given.by)
}

fn fold(events: &[Event]) -> Result<State, Problem> {
    State::fold(events.iter().map(|event| &event.body))
        .map_err(|error| Problem::new(Code::JournalCorrupt, error.to_string()))
}

/// The branch that the inverse of a change belongs on: only where others have built upon what was
/// written, or brought it to where it was made for, does it mean anything.
fn built_upon(repository: &Repository, applied: &Applied) -> Result<String, Problem> {
    let effect = applied.latest();
    let base = applied.proposed.ground.base.branch.as_deref();
    match repository.may_roll_back(effect.intent.branch(), &effect.written()?, base) {
        Err(RepositoryError::NeedsRevert { branch, .. }) => Ok(branch),
        Err(error) => Err(error.into()),
        Ok(()) => Err(Problem::new(Code::NotInState, "the branch can simply be rolled back")),
    }
}
