//! The engine's sides of the ports that calls go through: policy's answers, the record that is
//! also watched, and the place for text.

use std::sync::Arc;

use cofferdam_contract::decision::PolicyDecision;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::EventBody;
use cofferdam_contract::ids::{DecisionId, RequestId, RunId};
use cofferdam_contract::ports::{Decide, PortFuture, Record};
use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::Retention;
use cofferdam_journal::{Durability, Recorder};
use cofferdam_policy::Policy;
use cofferdam_tools::Keep;

use crate::parts::{Observer, Parts};

/// Answers by the run's compiled policy.
pub(crate) struct PolicyDoor {
    pub(crate) parts: Arc<Parts>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) request: RequestId,
    pub(crate) run: RunId,
}

impl Decide for PolicyDoor {
    fn decide(&self, scope: &str, inputs: &[String]) -> PolicyDecision {
        let ruling = self.policy.decide(scope, inputs);
        PolicyDecision {
            contract_version: "1.0.0".to_owned(),
            policy_id: self.policy.tables().profile.clone(),
            policy_version: self.policy.version(),
            decision_id: DecisionId::generate(&*self.parts.clock, &*self.parts.entropy),
            request_id: self.request.clone(),
            evaluated_at_utc: self.parts.clock.now(),
            scope: scope.to_owned(),
            inputs: inputs.to_vec(),
            decision: ruling.decision,
            reason_codes: vec![ruling.reason_code.to_owned(), ruling.rule],
            required_approvals: 0,
            approval_authority: None,
            expires_at_utc: None,
            review_path: format!("cofferdam events {}", self.run),
        }
    }
}

/// Writes to the journal, and shows what it writes to whoever watches.
pub(crate) struct WatchedRecord {
    pub(crate) recorder: Recorder,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Record for WatchedRecord {
    fn commit(&self, events: Vec<EventBody>) -> PortFuture<'_, ()> {
        events.iter().for_each(|event| self.observer.event(event));
        self.recorder.commit(events)
    }

    fn observe(&self, event: EventBody) {
        self.observer.event(&event);
        self.recorder.observe(event);
    }
}

/// Keeps session text as blobs, redacted.
pub(crate) struct TextDoor {
    pub(crate) parts: Arc<Parts>,
    pub(crate) run: RunId,
    pub(crate) retention: Retention,
}

impl Keep for TextDoor {
    fn keep(&self, bytes: Vec<u8>) -> PortFuture<'_, Digest> {
        Box::pin(async move {
            let redacted = self.parts.redactor.redact(&bytes);
            let kept = self
                .parts
                .journal
                .put_blob(&self.run, redacted, self.retention, Durability::Commit)
                .await;
            kept.map_err(Problem::from)
        })
    }
}
