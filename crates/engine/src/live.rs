//! A run while somebody holds it: its phase, and the live things that are in no phase.
//!
//! Opened from the journal alone, whether the run is new or was orphaned. What a stage needs of the
//! outside it gets here; what it decides it returns.

use std::sync::Arc;

use cofferdam_contract::budget::Spent;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{BaseCommit, EffectEvent, Event, EventBody, RunEvent};
use cofferdam_contract::ids::{PrincipalId, RunId};
use cofferdam_contract::ports::{Decide, Record, Spend};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::refusals::Refusals;
use cofferdam_contract::request::{RepositorySource, RuntimeRequest};
use cofferdam_journal::{Batch, Durability, Expected, Hold, Recorder, Shown};
use cofferdam_policy::Policy;
use cofferdam_policy::authority::{Act, Role, local};
use cofferdam_repository::{Broker, PreparedBase, Progress, Repository, RepositoryError};
use cofferdam_tools::Book;

use crate::attached::AttachPort;
use crate::breaker::{Breaker, Interrupt};
use crate::causes::{Causes, moves};
use crate::doors::{BookDoor, PolicyDoor, SpendDoor, WatchedRecord};
use crate::grants::Desk;
use crate::parts::{Observer, Parts};
use crate::state::State;

/// A held run.
pub(crate) struct Live {
    pub(crate) parts: Arc<Parts>,
    pub(crate) run: RunId,
    pub(crate) actor: PrincipalId,
    pub(crate) request: Arc<RuntimeRequest>,
    pub(crate) policy: Arc<Policy>,
    /// Or why it is not there any more: then the run can be stopped, and nothing else.
    repository: Result<FoundRepository, Problem>,
    pub(crate) record: Arc<dyn Record>,
    pub(crate) spend: Arc<dyn Spend>,
    pub(crate) decide: Arc<dyn Decide>,
    pub(crate) book: Arc<dyn Book>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) breaker: Arc<Breaker>,
    /// Where commands about grants are answered.
    pub(crate) desk: Arc<Desk>,
    pub(crate) attach: Option<AttachPort>,
    causes: Arc<Causes>,
    recorder: Recorder,
    /// The last effect that did not happen, for whoever asked for it.
    pub(crate) failure: Option<Problem>,
    hold: Hold,
    state: State,
    attested: bool,
}

/// A user's repository, as it was when it was looked at.
pub(crate) type FoundRepository = Arc<Repository>;

/// A run that is held, before it is read.
pub(crate) struct Held {
    pub(crate) hold: Hold,
    /// Its repository, where it was just found: a run that begins need not look twice.
    pub(crate) repository: Option<FoundRepository>,
}

impl From<Hold> for Held {
    fn from(hold: Hold) -> Self {
        Self { hold, repository: None }
    }
}

impl Live {
    /// Opens a run from its journal.
    ///
    /// # Errors
    /// `journal_corrupt`.
    pub(crate) async fn load(
        parts: Arc<Parts>,
        Held { hold, repository }: Held,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Problem> {
        let run = hold.run().clone();
        let stored = parts.journal.events(&run, 0).await?;
        let events: Vec<Event> = stored.into_iter().map(|it| it.event).collect();
        let state = State::fold(events.iter().map(|event| &event.body))
            .map_err(|error| Problem::new(Code::JournalCorrupt, error.to_string()))?;
        let Some((first, admitted)) = admission(&events) else {
            return Err(Problem::new(Code::NotInState, "the request was refused at admission"));
        };
        let admission = parts.admissions.get(&run)?;
        let policy = Policy::from_bytes(admission.policy.as_bytes()).map_err(Problem::from)?;
        if policy.version() != admitted.policy_version {
            let detail = "the admission's policy is not the one that the journal names";
            return Err(Problem::new(Code::JournalCorrupt, detail));
        }
        crate::run::admit::keep(&parts, &run, &admission).await?;
        let (policy, request) = (Arc::new(policy), admission.request);
        let repository = match repository {
            Some(found) if found.git_dir().is_dir() => Ok(found),
            _ => find(&parts, &request.repository.source).await,
        };
        let actor = first.actor.clone();
        let causes = Arc::new(Causes::after(Arc::clone(&parts), actor.clone(), &events));
        let recorder = parts.journal.recorder(&hold, actor.clone(), causes.moved());
        let ledger = parts.journal.ledger(&hold, actor.clone());
        let record: Arc<dyn Record> = Arc::new(WatchedRecord {
            recorder: recorder.clone(),
            causes: Arc::clone(&causes),
            redactor: Arc::clone(&parts.redactor),
            observer: Arc::clone(&observer),
        });
        let desk = Desk::of_run(&parts, &run, &policy, &record, &actor);
        Ok(Self {
            decide: Arc::new(PolicyDoor {
                parts: Arc::clone(&parts),
                policy: Arc::clone(&policy),
                request: request.request_id.clone(),
                run: run.clone(),
            }),
            book: Arc::new(BookDoor {
                parts: Arc::clone(&parts),
                ledger: ledger.clone(),
                causes: Arc::clone(&causes),
                observer: Arc::clone(&observer),
                retention: request.retention,
            }),
            spend: Arc::new(SpendDoor { ledger, causes: Arc::clone(&causes) }),
            causes,
            record,
            desk,
            attested: is_attested(&events),
            request: Arc::new(request),
            repository,
            breaker: Arc::default(),
            attach: None,
            failure: None,
            parts,
            run,
            actor,
            policy,
            observer,
            recorder,
            hold,
            state,
        })
    }

    /// The phase.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Whether somebody else held the run before.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.hold.epoch() > 1
    }

    /// The user's repository.
    ///
    /// # Errors
    /// What it has become since the run was admitted.
    pub(crate) fn repository(&self) -> Result<FoundRepository, Problem> {
        self.repository.clone()
    }

    /// Why the run is to end, if it is.
    pub(crate) fn interrupt(&self) -> Option<Interrupt> {
        let deadline = self.request.deadline_utc;
        let passed = deadline.filter(|deadline| *deadline <= self.parts.clock.now());
        self.breaker.raised().or(passed.map(|_| Interrupt::Deadline))
    }

    /// Appends what a stage returned, then applies it.
    ///
    /// # Errors
    /// What the journal says; nothing was applied then.
    pub(crate) async fn append(&mut self, events: Vec<EventBody>) -> Result<(), Problem> {
        self.append_by(events, self.actor.clone()).await
    }

    /// Appends what a person's command turned into.
    ///
    /// # Errors
    /// As [`Live::append`].
    pub(crate) async fn append_by(
        &mut self,
        events: Vec<EventBody>,
        actor: PrincipalId,
    ) -> Result<(), Problem> {
        let mut state = self.state.clone();
        for event in &events {
            state = state
                .apply(event)
                .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        }
        self.recorder.flush().await?;
        let durability = match events.iter().any(must_outlive_power) {
            true => Durability::Synced,
            false => Durability::Commit,
        };
        let movements = self.causes.movements(&events, &actor);
        let entered: Vec<_> = movements.iter().map(|it| (it.id.clone(), moves(&it.body))).collect();
        let batch = Batch::from(movements).shows(shown(&state));
        self.failure = events.iter().find_map(effect_failure).or(self.failure.take());
        let epoch = self.hold.epoch();
        self.parts.journal.append(&self.run, epoch, Expected::Any, batch, durability).await?;
        self.causes.appended(&entered);
        events.iter().for_each(|event| self.observer.event(event));
        self.attested = match events.last() {
            Some(EventBody::Run(RunEvent::Attested(_))) => true,
            Some(_) => false,
            None => self.attested,
        };
        self.state = state;
        Ok(())
    }

    /// Whether the present state has its attestation.
    pub(crate) fn is_attested(&self) -> bool {
        self.attested
    }

    /// The last sequence and the chain's link there.
    ///
    /// # Errors
    /// What the journal says.
    pub(crate) async fn head(&self) -> Result<(u64, Digest), Problem> {
        self.recorder.flush().await?;
        let row = self.parts.journal.run(&self.run).await?;
        let last = self.parts.journal.events(&self.run, row.events.saturating_sub(1)).await?;
        let last = last.last().ok_or_else(|| Problem::new(Code::JournalCorrupt, "no events"))?;
        Ok((last.event.sequence, last.link))
    }

    /// Signs the head into the second chain; again is no error.
    ///
    /// # Errors
    /// What the journal says.
    pub(crate) async fn seal(&self) -> Result<(), Problem> {
        self.parts.journal.seal(&self.run).await?;
        Ok(())
    }

    /// What the run has spent.
    ///
    /// # Errors
    /// What the journal says.
    pub(crate) async fn spent(&self) -> Result<Spent, Problem> {
        Ok(self.parts.journal.spent(&self.run).await?)
    }

    /// What the events so far tell of refusals. Whatever was observed before the last append is in.
    ///
    /// # Errors
    /// What the journal says.
    pub(crate) async fn refusals(&self) -> Result<Refusals, Problem> {
        let stored = self.parts.journal.events(&self.run, 0).await?;
        Ok(Refusals::of(stored.iter().map(|it| &it.event.body)))
    }

    /// Whether records of this run were lost.
    pub(crate) fn events_incomplete(&self) -> bool {
        self.recorder.lost() > 0
    }

    /// Whether `by` may do this, by the local rule.
    ///
    /// # Errors
    /// `policy_denied`.
    pub(crate) fn authorise(&self, act: Act, by: &PrincipalId) -> Result<(), Problem> {
        let role = Role::of(by, &self.parts.owner);
        let ruling = local(role, act, *by == self.actor, &self.policy.tables().approval);
        if ruling.is_allowed() {
            return Ok(());
        }
        let detail = format!("{by} may not {}: {}", act.name(), ruling.reason_code);
        Err(Problem::new(Code::PolicyDenied, detail))
    }

    /// The base's checkout, prepared if it is not there.
    ///
    /// # Errors
    /// What git says.
    pub(crate) async fn base(&self, base: &BaseCommit) -> Result<Arc<PreparedBase>, Problem> {
        let (observer, base) = (Arc::clone(&self.observer), base.clone());
        self.with_broker(move |broker, repository| {
            let tell = |progress: Progress| match progress {
                Progress::Waiting => observer.progress("waiting for another run's base", 0, 0),
                Progress::Checkout => observer.progress("checking out the base", 0, 0),
                Progress::History => observer.progress("packing the base's history", 0, 0),
                Progress::Ready => observer.progress("base ready", 1, 1),
            };
            broker.prepare(repository, &base, &tell).map(Arc::new)
        })
        .await
    }

    /// Asks the user's repository. Runs where blocking is allowed.
    ///
    /// # Errors
    /// What git says.
    pub(crate) async fn with_repository<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Repository) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Result<T, Problem> {
        let repository = self.repository()?;
        blocking(move || Ok(ask(&repository)?)).await
    }

    /// Asks the broker about the user's repository. Runs where blocking is allowed.
    ///
    /// # Errors
    /// What git says.
    pub(crate) async fn with_broker<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Broker, &Repository) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Result<T, Problem> {
        let (parts, repository) = (Arc::clone(&self.parts), self.repository()?);
        blocking(move || Ok(ask(&parts.broker, &repository)?)).await
    }
}

/// What a lost session means for its run.
pub(crate) fn interrupted() -> Problem {
    let detail = "the process that held the run is gone, and its session with it";
    Problem::new(Code::SessionLost, detail)
}

/// Runs `work` where blocking is allowed.
///
/// # Errors
/// What `work` says; `internal` if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?
}

fn admission(events: &[Event]) -> Option<(&Event, &cofferdam_contract::events::Admitted)> {
    let first = events.first()?;
    match &first.body {
        EventBody::Run(RunEvent::Admitted(admitted)) => Some((first, admitted)),
        _ => None,
    }
}

fn effect_failure(event: &EventBody) -> Option<Problem> {
    match event {
        EventBody::Effect(EffectEvent::Failed(failure)) => Some(failure.problem.clone()),
        _ => None,
    }
}

/// Effects, approvals and terminal states survive power loss.
fn must_outlive_power(event: &EventBody) -> bool {
    matches!(
        event,
        EventBody::Effect(_)
            | EventBody::Approval(_)
            | EventBody::Run(RunEvent::Ended(_) | RunEvent::Attested(_))
    )
}

/// Whether nothing has moved the run since it was last attested.
fn is_attested(events: &[Event]) -> bool {
    let moved = events.iter().rev().find(|event| match &event.body {
        EventBody::Run(RunEvent::Resumed(_)) => false,
        EventBody::Run(_) | EventBody::Approval(_) | EventBody::Effect(_) => true,
        _ => false,
    });
    matches!(moved.map(|event| &event.body), Some(EventBody::Run(RunEvent::Attested(_))))
}

fn shown(state: &State) -> Shown {
    let digest = state.proposed().map(|phase| phase.checked.digest);
    let branch = match state {
        State::Applied(phase) | State::Merged(phase) => {
            Some(phase.applied.intent.branch().to_owned())
        }
        _ => None,
    };
    Shown { state: state.name().to_owned(), branch, digest }
}

async fn find(parts: &Arc<Parts>, source: &RepositorySource) -> Result<FoundRepository, Problem> {
    let (parts, source) = (Arc::clone(parts), source.clone());
    blocking(move || Ok(Arc::new(parts.broker.locate(&source)?))).await
}
