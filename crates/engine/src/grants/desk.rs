//! Where commands about grants of a held run arrive, and where its working session's book lies.
//!
//! The holder's watcher of the inbox comes by now and then; what it finds is carried out in a
//! turn of its own, so that a slow one keeps no stop waiting. Must never answer a command that is
//! not about grants.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cofferdam_contract::events::{EventBody, GrantEvent, GrantRefused};
use cofferdam_contract::grant::{GrantNote, GrantRef};
use cofferdam_contract::ids::{GrantRequestId, PrincipalId, RunId};
use cofferdam_contract::ports::Record;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_journal::{CommandRow, Journal};
use cofferdam_policy::Policy;
use cofferdam_policy::authority::Act;

use super::ask::{Ask, Said, is_about_grants};
use super::book::GrantBook;
use crate::command::{Command, Given};
use crate::engine::Outcome;
use crate::parts::Parts;
use crate::sessions::OpenSession;

/// How often is looked where something is given: it ends by the clock.
const LENDING: Duration = Duration::from_millis(20);
/// How often a session that has nothing is heard.
const LISTENING: Duration = Duration::from_millis(250);

/// The desk of one held run.
pub(crate) struct Desk {
    ask: Ask,
    journal: Journal,
    book: Mutex<Option<Arc<GrantBook>>>,
    /// One turn at a time; whoever closes the book waits for it.
    turn: tokio::sync::Mutex<()>,
    busy: AtomicBool,
}

impl Desk {
    /// The desk of a run that `requester` asked for.
    pub(crate) fn of_run(
        parts: &Parts,
        run: &RunId,
        policy: &Arc<Policy>,
        record: &Arc<dyn Record>,
        requester: &PrincipalId,
    ) -> Arc<Self> {
        let ask = Ask {
            run: run.clone(),
            policy: Arc::clone(policy),
            record: Arc::clone(record),
            redactor: Arc::clone(&parts.redactor),
            owner: parts.owner.clone(),
            requester: requester.clone(),
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
        };
        let (book, turn, busy) = Default::default();
        Arc::new(Self { ask, journal: parts.journal.clone(), book, turn, busy })
    }

    /// The book of a session that begins to work.
    pub(crate) fn open(&self, open: Arc<dyn OpenSession>) -> Arc<GrantBook> {
        let book = Arc::new(GrantBook::new(self.ask.clone(), open));
        *self.lock() = Some(Arc::clone(&book));
        book
    }

    /// The session is over: no grant of it is left, and no command finds it.
    ///
    /// # Errors
    /// What the journal says.
    pub(crate) async fn close(&self, book: &GrantBook) -> Result<(), Problem> {
        let _turn = self.turn.lock().await;
        *self.lock() = None;
        book.end_all().await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<GrantBook>>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long until the book has to be looked after again.
    pub(crate) fn rests_for(&self) -> Duration {
        let lends = self.lock().as_ref().is_some_and(|book| book.lends());
        if lends { LENDING } else { LISTENING }
    }

    /// Looks after the book and answers what waits; false if that is being done, and what waits has
    /// to be brought again.
    pub(crate) fn attend(self: &Arc<Self>, waiting: Vec<CommandRow>) -> bool {
        if self.busy.swap(true, Ordering::AcqRel) {
            return false;
        }
        let desk = Arc::clone(self);
        tokio::spawn(async move {
            desk.take_turn(waiting).await;
            desk.busy.store(false, Ordering::Release);
        });
        true
    }

    async fn take_turn(&self, waiting: Vec<CommandRow>) {
        let _turn = self.turn.lock().await;
        let book = self.lock().clone();
        if let Some(book) = &book {
            // What the journal does not take it does not take from the next stage either, and that
            // ends the run; here is nobody to be told.
            let _told_by_the_stage = book.end_due(false).await;
            let _told_by_the_stage = book.hear_wishes().await;
        }
        for row in waiting {
            let Ok(given) = serde_json::from_str::<Given>(&row.body) else { continue };
            if !is_about_grants(&given.command) {
                continue;
            }
            // It was read before this turn began, and the turn before may have answered it.
            if !self.journal.find_command(&row.id).await.is_ok_and(|it| it.outcome.is_none()) {
                continue;
            }
            let outcome = match &book {
                Some(book) => answer(book, given).await,
                None => Err(no_session()),
            };
            let outcome = match outcome {
                Ok(()) => Outcome::Done { already: false },
                Err(problem) => Outcome::Refused(problem),
            };
            if let Ok(text) = outcome.to_text() {
                let _asked_again = self.journal.finish_command(&row.id, text).await;
            }
        }
    }
}

/// What a command about grants comes to where there is no session.
pub(crate) fn no_session() -> Problem {
    Problem::new(Code::NotInState, "no session of the run is open that a grant could be for")
}

async fn answer(book: &Arc<GrantBook>, given: Given) -> Result<(), Problem> {
    let by = given.by;
    match given.command {
        Command::Grant { grant, kind, request, for_ms, uses, reason } => {
            book.ask.authorise(Act::Grant, &by)?;
            let asked = match &request {
                Some(request) => Some(waiting(book, request)?),
                None => None,
            };
            let kind = kind.or_else(|| asked.as_ref().map(|it| it.kind.clone()));
            let Some(kind) = kind else {
                let detail = "a grant needs a kind, or the request that it answers";
                return Err(Problem::new(Code::RequestInvalid, detail));
            };
            let shown = kind.to_string();
            let said = Said { grant, kind, for_ms, uses, reason, by: by.clone() };
            let given = match book.ask.by_person(book.session(), said, asked.as_ref()) {
                Ok(granted) => book.give(granted).await.map(drop),
                Err(problem) => Err(problem),
            };
            if let Err(problem) = &given {
                // The request goes on waiting: a person may answer it otherwise.
                record_refusal(book, &shown, by, problem, None).await?;
            }
            given
        }
        Command::Revoke { what: GrantRef::Grant(grant), reason } => {
            book.ask.authorise(Act::Revoke, &by)?;
            let reason = book.ask.reason(&reason);
            book.revoke(&grant, by, reason).await
        }
        Command::Revoke { what: GrantRef::Request(request), reason } => {
            book.ask.authorise(Act::Grant, &by)?;
            let asked = waiting(book, &request)?;
            let problem = Problem::new(Code::PolicyDenied, book.ask.reason(&reason));
            let kind = asked.kind.to_string();
            record_refusal(book, &kind, by, &problem, Some(request.clone())).await?;
            book.forget(&request);
            book.open.tell(&GrantNote::Refused {
                kind,
                reason_code: "refused_by_a_person".to_owned(),
                hint: "go on without it".to_owned(),
            });
            Ok(())
        }
        _ => Ok(()),
    }
}

fn waiting(
    book: &GrantBook,
    request: &GrantRequestId,
) -> Result<cofferdam_contract::events::GrantRequested, Problem> {
    book.waiting(request).ok_or_else(|| {
        Problem::new(Code::GrantUnknown, format!("{request} does not wait for an answer"))
    })
}

async fn record_refusal(
    book: &GrantBook,
    kind: &str,
    by: PrincipalId,
    problem: &Problem,
    request: Option<GrantRequestId>,
) -> Result<(), Problem> {
    let refused = GrantRefused {
        session: book.session().clone(),
        kind: kind.to_owned(),
        by,
        reason_code: problem.code.as_str().to_owned(),
        detail: problem.detail.clone(),
        request,
    };
    book.ask.record.commit(vec![EventBody::Grant(GrantEvent::Refused(refused))]).await
}
