//! One event as one evidence record: the fourth contract, made from the journal.

use cofferdam_contract::check::Verdict;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{
    ApprovalEvent, BudgetEvent, CallEnd, CallEvent, DenialEvent, EffectEvent, Event, EventBody,
    RunEvent,
};
use cofferdam_contract::evidence::{EVIDENCE_VERSION, EvidenceRecord};

/// The record of `event`, whose stored bytes have this digest.
pub fn record_of(event: &Event, event_digest: Digest) -> EvidenceRecord {
    let mut record = EvidenceRecord {
        evidence_version: EVIDENCE_VERSION.to_owned(),
        event_id: event.id.clone(),
        request_id: event.correlation.request.clone(),
        correlation_id: event.correlation.correlation.clone(),
        trace_id: event.correlation.trace.clone(),
        sequence: event.sequence,
        occurred_at_utc: event.at,
        event_type: event.body.kind().to_owned(),
        actor_ref: event.actor.clone(),
        tenant_ref: "local".to_owned(),
        tool_invocations: Vec::new(),
        policy_decisions: Vec::new(),
        changed_resources: Vec::new(),
        failures: Vec::new(),
        event_digest,
        // Session text is in blobs; an event holds their digests.
        redaction: "payload_digest_only".to_owned(),
        retention_policy: "journal".to_owned(),
    };
    describe(&event.body, &mut record);
    record
}

fn describe(body: &EventBody, record: &mut EvidenceRecord) {
    match body {
        EventBody::Run(RunEvent::Ended(end)) => {
            record.failures.extend(end.problem.as_ref().map(|it| it.code.as_str().to_owned()));
        }
        EventBody::Run(RunEvent::Checked(checked)) if checked.report.verdict == Verdict::Fail => {
            record.failures.push("gate_failed".to_owned());
        }
        EventBody::Call(call) => describe_call(call, record),
        EventBody::Denial(DenialEvent::Recorded(denial)) => {
            record.tool_invocations.extend(denial.call.clone());
            record.failures.push(denial.reason_code.clone());
        }
        EventBody::Denial(DenialEvent::Lost(_)) => record.failures.push("events_lost".to_owned()),
        EventBody::Approval(ApprovalEvent::Rejected(_)) => {
            record.failures.push("rejected".to_owned());
        }
        EventBody::Effect(EffectEvent::Intended(intent)) => {
            record.changed_resources.push(intent.branch().to_owned());
        }
        EventBody::Effect(EffectEvent::Failed(failure)) => {
            record.failures.push(failure.problem.code.as_str().to_owned());
        }
        EventBody::Budget(BudgetEvent::Exhausted(_)) => {
            record.failures.push("budget_exhausted".to_owned());
        }
        EventBody::Run(_)
        | EventBody::Session(_)
        | EventBody::Approval(_)
        | EventBody::Effect(_)
        | EventBody::Budget(_) => {}
    }
}

fn describe_call(call: &CallEvent, record: &mut EvidenceRecord) {
    match call {
        CallEvent::Decided(decided) => {
            record.tool_invocations.push(decided.call.clone());
            record.policy_decisions.push(decided.decision.decision_id.clone());
            record.failures.extend(decided.decision.reason_codes.iter().cloned());
        }
        CallEvent::Started(started) => record.tool_invocations.push(started.call.clone()),
        CallEvent::Ended(outcome) => {
            record.tool_invocations.push(outcome.call.clone());
            let failure = match outcome.end {
                CallEnd::Exited => None,
                CallEnd::Signaled => Some("signaled"),
                CallEnd::TimedOut => Some("timed_out"),
                CallEnd::Stopped => Some("stopped"),
                CallEnd::NotStarted => Some("not_started"),
                CallEnd::SessionLost => Some("session_lost"),
            };
            record.failures.extend(failure.map(str::to_owned));
        }
    }
}
