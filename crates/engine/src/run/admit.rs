//! Stage one: a request becomes a run, or is refused before any effect.
//!
//! Everything that decides what the run may do is fixed here: the base commit, the profile, what
//! the base commit narrows, the compiled policy. Nothing later reads a profile again.

use std::sync::Arc;

use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{Admitted, BaseCommit, End, EndState, EventBody, RunEvent};
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::{RepositorySource, RuntimeRequest};
use cofferdam_contract::trace::{Correlation, TraceId};
use cofferdam_journal::{Durability, Idempotency, NewRun, Shown, Start};
use cofferdam_policy::{Policy, compile};

use crate::admissions::Admission;
use crate::live::{FoundRepository, Held, blocking};
use crate::narrowing;
use crate::parts::Parts;

/// A run, or the one that the same request made before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitting {
    /// The run.
    pub run: RunId,
    /// The request came before.
    pub existed: bool,
}

/// Admits a request; who made a new run holds it.
///
/// # Errors
/// The refusal; nothing was written but, where policy refused, the refusal.
pub(crate) async fn admit(
    parts: &Arc<Parts>,
    request: RuntimeRequest,
) -> Result<(Admitting, Option<Held>), Problem> {
    request.validate()?;
    let now = parts.clock.now();
    if request.deadline_utc.is_some_and(|deadline| deadline <= now) {
        return Err(Problem::new(Code::DeadlinePassed, "the deadline has passed already"));
    }
    let (base, policy, repository) = match decide(parts, &request).await {
        // Invariant 3: a refusal by a rule is an event. What is merely mistaken is none.
        Err(problem) if problem.code == Code::PolicyDenied => {
            return Err(refused(parts, &request, problem).await?);
        }
        decided => decided?,
    };
    let run = RunId::generate(&*parts.clock, &*parts.entropy);
    let admission = Admission {
        request: request.clone(),
        policy: String::from_utf8(policy.to_bytes())
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))?,
    };
    let new = new_run(parts, &run, &admission, base, &policy)?;
    parts.admissions.put(&run, &admission)?;
    match parts.journal.start(new).await {
        Ok(Start::New { hold, .. }) => {
            keep(parts, &run, &admission).await?;
            Ok((
                Admitting { run, existed: false },
                Some(Held { hold, repository: Some(repository) }),
            ))
        }
        Ok(Start::Known(known)) => {
            parts.admissions.remove(&run);
            Ok((Admitting { run: known, existed: true }, None))
        }
        // The run may have been started all the same: its record stays, and pruning looks after it.
        Err(error) => Err(error.into()),
    }
}

/// Records that policy refused a request, as a run that was over before it began.
async fn refused(
    parts: &Parts,
    request: &RuntimeRequest,
    mut problem: Problem,
) -> Result<Problem, Problem> {
    problem.detail = parts.redactor.redact_text(&problem.detail).into_inner();
    let end = End { state: EndState::Refused, problem: Some(problem.clone()) };
    let run = RunId::generate(&*parts.clock, &*parts.entropy);
    parts.journal.start(begun(parts, &run, request, RunEvent::Ended(end))).await?;
    parts.journal.seal(&run).await?;
    Ok(problem)
}

/// A run that begins with this event.
fn begun(parts: &Parts, run: &RunId, request: &RuntimeRequest, first: RunEvent) -> NewRun {
    let refused = matches!(first, RunEvent::Ended(_));
    NewRun {
        run: run.clone(),
        actor: request.actor.clone(),
        correlation: Correlation {
            trace: TraceId::generate(&*parts.entropy),
            request: request.request_id.clone(),
            correlation: request.correlation_id.clone(),
        },
        repository: repository_name(&request.repository.source),
        task_type: request.task_type,
        driver: request.driver.name().to_owned(),
        first: EventBody::Run(first),
        shown: Shown::state(if refused { "refused" } else { "preparing" }),
        idempotency: None,
    }
}

/// Fixes the base and compiles what the run may do.
async fn decide(
    parts: &Arc<Parts>,
    request: &RuntimeRequest,
) -> Result<(BaseCommit, Policy, FoundRepository), Problem> {
    let operator = parts.profiles.profile(&request.profile)?;
    let (of, asked) = (Arc::clone(parts), request.clone());
    blocking(move || {
        let repository = of.broker.locate(&asked.repository.source)?;
        let base = repository.resolve(&asked.repository.base)?;
        let narrowing = narrowing::read(&of.broker, &repository, &base.tree)?;
        let policy = compile(&operator, narrowing.as_ref(), &asked)?;
        Ok((base, policy, Arc::new(repository)))
    })
    .await
}

fn new_run(
    parts: &Parts,
    run: &RunId,
    admission: &Admission,
    base: BaseCommit,
    policy: &Policy,
) -> Result<NewRun, Problem> {
    let request = &admission.request;
    let redacted = parts.redactor.redact(&request_bytes(request)?);
    let admitted = Admitted {
        request: Digest::of(redacted.get()),
        policy: Digest::of(parts.redactor.redact(admission.policy.as_bytes()).get()),
        policy_version: policy.version(),
        task_type: request.task_type,
        driver: request.driver.name().to_owned(),
        repository: request.repository.source.clone(),
        base,
        budget: policy.budget(),
        tenant: Some(request.tenant.clone()),
        data_classification: Some(request.data_classification),
        retention: Some(request.retention),
    };
    let idempotency = request
        .idempotency_key
        .clone()
        .map(|key| Ok::<_, Problem>(Idempotency { key, request: asked_digest(request)? }));
    let idempotency = idempotency.transpose()?;
    Ok(NewRun { idempotency, ..begun(parts, run, request, RunEvent::Admitted(admitted)) })
}

/// The blobs that the admission names. A crash before them leaves a run whose blobs come with its
/// next holder.
pub(crate) async fn keep(parts: &Parts, run: &RunId, admission: &Admission) -> Result<(), Problem> {
    let request = request_bytes(&admission.request)?;
    for bytes in [request.as_slice(), admission.policy.as_bytes()] {
        let redacted = parts.redactor.redact(bytes);
        let retention = admission.request.retention;
        parts.journal.put_blob(run, redacted, retention, Durability::Commit).await?;
    }
    Ok(())
}

fn request_bytes(request: &RuntimeRequest) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(request).map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

/// What was asked for, without the ids and times that differ from one sending to the next.
fn asked_digest(request: &RuntimeRequest) -> Result<Digest, Problem> {
    let asked = (
        (&request.actor, &request.tenant, request.task_type, &request.task, &request.profile),
        (&request.repository, &request.driver, &request.budget),
    );
    let bytes = serde_json::to_vec(&asked)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    Ok(Digest::of(&bytes))
}

/// The repository as lists show it.
pub(crate) fn repository_name(source: &RepositorySource) -> String {
    match source {
        RepositorySource::Path(path) => path.clone(),
        RepositorySource::Url(url) => url.clone(),
    }
}
