//! The doors of a session that has grants: policy's answer with what was granted beside it, and the
//! book of calls that takes the uses.
//!
//! A use is recorded before its call is. Must never let through what policy denies without taking a
//! use for it.

use std::sync::Arc;

use cofferdam_contract::decision::{DecisionKind, PolicyDecision};
use cofferdam_contract::denial::{Attribution, Denial, DenialSource, DeniedProcess, Operation};
use cofferdam_contract::events::{CallOutcome, DenialEvent, EventBody, GrantEvent};
use cofferdam_contract::ids::{DenialId, RunId};
use cofferdam_contract::ports::{Decide, PortFuture};
use cofferdam_contract::problem::Problem;
use cofferdam_tools::{Book, Closing, Opening, SetAside};

use super::book::GrantBook;

/// The scope of the tool that a class is about.
const EXEC: &str = "call:exec";

/// Policy, and what was granted beside it.
pub(crate) struct GrantedDecide {
    pub(crate) policy: Arc<dyn Decide>,
    pub(crate) grants: Arc<GrantBook>,
}

impl Decide for GrantedDecide {
    fn decide(&self, scope: &str, inputs: &[String]) -> PolicyDecision {
        let mut decision = self.policy.decide(scope, inputs);
        if decision.decision == DecisionKind::Deny
            && scope == EXEC
            && let Some(grant) = inputs.first().and_then(|it| self.grants.lets(it))
        {
            decision.decision = DecisionKind::Allow;
            decision.reason_codes = vec!["granted".to_owned(), format!("grant:{grant}")];
        }
        decision
    }
}

/// The book of calls, which takes uses.
pub(crate) struct GrantedBook {
    pub(crate) run: RunId,
    pub(crate) book: Arc<dyn Book>,
    pub(crate) policy: Arc<dyn Decide>,
    pub(crate) grants: Arc<GrantBook>,
}

impl GrantedBook {
    /// What the call starts, where policy alone would not let it.
    fn denied(&self, opening: &Opening) -> Option<String> {
        let executable = opening.executable.clone()?;
        let asks = self.grants.had_exec() && opening.tool == "exec";
        let denied = || {
            let decision = self.policy.decide(EXEC, std::slice::from_ref(&executable));
            decision.decision != DecisionKind::Allow
        };
        (asks && denied()).then_some(executable)
    }

    /// The pipeline's own refusal came too early to see this one.
    fn refusal(&self, opening: &Opening, problem: &Problem) -> EventBody {
        let ask = &self.grants.ask;
        EventBody::Denial(DenialEvent::Recorded(Denial {
            id: DenialId::generate(&*ask.clock, &*ask.entropy),
            run: Some(self.run.clone()),
            session: opening.session.clone(),
            call: Some(opening.call.clone()),
            attribution: Attribution::Exact,
            at: ask.clock.now(),
            source: DenialSource::ToolPolicy,
            operation: Operation::Execute,
            target: opening.executable.clone().unwrap_or_default(),
            rule: "tool.exec".to_owned(),
            reason_code: "grant_over".to_owned(),
            process: DeniedProcess { pid: None, exe: None, argv0: None },
            count: 1,
            hint: problem.hint.clone(),
        }))
    }
}

impl Book for GrantedBook {
    fn open(&self, opening: Opening) -> PortFuture<'_, SetAside> {
        Box::pin(async move {
            self.grants.end_due(true).await?;
            let denied = self.denied(&opening);
            match self.grants.spend(&opening.call, denied.as_deref()) {
                Ok(used) if used.is_empty() => {}
                Ok(used) => {
                    let events = used.into_iter().map(|it| EventBody::Grant(GrantEvent::Used(it)));
                    self.grants.ask.record.commit(events.collect()).await?;
                }
                Err(problem) => {
                    let refusal = self.refusal(&opening, &problem);
                    self.grants.ask.record.commit(vec![refusal]).await?;
                    return Err(problem);
                }
            }
            self.book.open(opening).await
        })
    }

    fn close<'a>(&'a self, closing: Closing<'a>) -> PortFuture<'a, CallOutcome> {
        Box::pin(async move {
            let call = closing.outcome.call.clone();
            let outcome = self.book.close(closing).await;
            self.grants.call_over(&call);
            self.grants.end_due(false).await?;
            outcome
        })
    }
}
