//! One event as one evidence record: the fourth contract, made from the journal.

use cofferdam_contract::check::{CheckResult, Verdict};
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{
    Admitted, ApprovalEvent, BudgetEvent, CallEnd, CallEvent, DenialEvent, EffectEvent,
    EffectIntent, Event, EventBody, GrantEvent, RunEvent,
};
use cofferdam_contract::evidence::{EVIDENCE_VERSION, EvidenceRecord};
use cofferdam_contract::request::Retention;

/// The record of `event`, whose stored bytes have this digest, of a run that was so admitted.
pub fn record_of(
    event: &Event,
    event_digest: Digest,
    admitted: Option<&Admitted>,
) -> EvidenceRecord {
    let tenant = admitted.and_then(|it| it.tenant.clone());
    let text = admitted.and_then(|it| it.retention).map_or("unknown", |kept| match kept {
        Retention::Run => "run",
        Retention::Journal => "journal",
    });
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
        tenant_ref: tenant.unwrap_or_else(|| "unknown".to_owned()),
        cause_ref: event.cause.clone(),
        contract_versions: [("event".to_owned(), event.version.to_string())].into(),
        tool_invocations: Vec::new(),
        policy_decisions: Vec::new(),
        approvals: Vec::new(),
        side_effects: Vec::new(),
        changed_resources: Vec::new(),
        failures: Vec::new(),
        recovery_steps: Vec::new(),
        evaluation_results: Vec::new(),
        final_output_ref: None,
        event_digest,
        // Session text is in blobs; an event holds their digests.
        redaction: "payload_digest_only".to_owned(),
        retention_policy: format!("event: journal, text: {text}"),
    };
    describe(&event.body, &mut record);
    refer(&event.body, &mut record);
    record
}

/// What the event refers to, whether it went well or not.
fn refer(body: &EventBody, record: &mut EvidenceRecord) {
    let contract = |record: &mut EvidenceRecord, name: &str, version: &str| {
        record.contract_versions.insert(name.to_owned(), version.to_owned());
    };
    match body {
        EventBody::Run(RunEvent::Worked(worked)) => {
            record.final_output_ref = Some(worked.tree.clone());
        }
        EventBody::Run(RunEvent::Checked(checked)) => {
            let status = |status| serde_json::to_value(status).unwrap_or_default();
            let result = |check: &CheckResult| {
                let status = status(check.status);
                format!("{}: {}", check.name, status.as_str().unwrap_or_default())
            };
            record.evaluation_results.extend(checked.report.checks.iter().map(result));
        }
        EventBody::Run(RunEvent::Resumed(_)) => record.recovery_steps.push("resume".to_owned()),
        EventBody::Approval(ApprovalEvent::Granted(approval)) => {
            record.approvals.push(approval.approval_id.clone());
            contract(record, "approval", &approval.contract_version);
        }
        EventBody::Approval(ApprovalEvent::Cleared(clearance)) => {
            record.approvals.extend(clearance.approvals.iter().cloned());
        }
        EventBody::Effect(EffectEvent::Intended(intent)) => {
            record.side_effects.push(intent.key().clone());
            if matches!(intent, EffectIntent::Rollback { .. }) {
                record.recovery_steps.push("rollback".to_owned());
            }
        }
        EventBody::Effect(EffectEvent::Completed(outcome)) => {
            record.side_effects.push(outcome.key.clone());
            record.final_output_ref.clone_from(&outcome.after);
        }
        EventBody::Effect(EffectEvent::Failed(failure)) => {
            record.side_effects.push(failure.key.clone());
        }
        EventBody::Call(CallEvent::Decided(decided)) => {
            contract(record, "policy-decision", &decided.decision.contract_version);
        }
        _ => {}
    }
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
        EventBody::Grant(GrantEvent::Used(used)) => {
            record.tool_invocations.extend(used.call.clone());
        }
        EventBody::Grant(GrantEvent::Refused(refused)) => {
            record.failures.push(refused.reason_code.clone());
        }
        EventBody::Run(_)
        | EventBody::Session(_)
        | EventBody::Approval(_)
        | EventBody::Effect(_)
        | EventBody::Budget(_)
        | EventBody::Grant(_) => {}
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
