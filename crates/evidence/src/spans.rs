//! A run as a trace: the fifth contract, made from the events, so that it says nothing of its own.
//!
//! A span begins with an event and ends with the one that answers it, or where the events end. Ids
//! follow from the events'. Must never hold a payload: only ids and digests.

use std::collections::HashMap;

use cofferdam_contract::events::ApprovalEvent;
use cofferdam_contract::events::{
    CallEvent, EffectEvent, EffectIntent, Event, EventBody, RunEvent, SessionEvent,
};
use cofferdam_contract::time::UtcTime;
use cofferdam_contract::trace::{SpanId, SpanKind, TRACE_VERSION, TraceSpan};

/// The spans of one run whose events these are, in the order of their beginnings; the first is the
/// run's own.
pub fn spans_of(events: &[&Event]) -> Vec<TraceSpan> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return vec![] };
    let root = span(first, SpanKind::Business, "run");
    let mut trace = Trace { over: last.at, open: HashMap::new(), spans: vec![root] };
    trace.spans[0].ended_at_utc = last.at;
    for event in events {
        trace.take(event);
    }
    trace.spans
}

struct Trace {
    /// When what is still open ends.
    over: UtcTime,
    /// Where the span of a session, a call or an effect is.
    open: HashMap<String, usize>,
    spans: Vec<TraceSpan>,
}

/// A span of no length that begins with this event.
fn span(event: &Event, kind: SpanKind, name: &str) -> TraceSpan {
    TraceSpan {
        trace_version: TRACE_VERSION.to_owned(),
        trace_id: event.correlation.trace.clone(),
        span_id: SpanId::of(event.id.as_str()),
        parent_span_id: None,
        links: vec![],
        kind,
        name: name.to_owned(),
        started_at_utc: event.at,
        ended_at_utc: event.at,
        request_id: event.correlation.request.clone(),
        correlation_id: event.correlation.correlation.clone(),
        tool_operation_id: None,
        decision_id: None,
        approval_id: None,
        artifact_refs: vec![],
    }
}

impl Trace {
    /// Adds a span beneath that of `parent`, or beneath the run's.
    fn add(&mut self, mut span: TraceSpan, parent: Option<&str>) -> usize {
        let parent = parent.and_then(|key| self.open.get(key)).copied().unwrap_or(0);
        span.parent_span_id = Some(self.spans[parent].span_id.clone());
        self.spans.push(span);
        self.spans.len() - 1
    }

    /// As above; it goes on until it is closed or everything is over.
    fn begin(&mut self, key: &str, mut span: TraceSpan, parent: Option<&str>) {
        span.ended_at_utc = self.over;
        let at = self.add(span, parent);
        self.open.insert(key.to_owned(), at);
    }

    fn end(&mut self, key: &str, at: UtcTime) -> Option<&mut TraceSpan> {
        let span = &mut self.spans[self.open.remove(key)?];
        span.ended_at_utc = at;
        Some(span)
    }

    fn take(&mut self, event: &Event) {
        match &event.body {
            EventBody::Run(RunEvent::Checked(checked)) => {
                for check in &checked.report.checks {
                    let mut span =
                        span(event, SpanKind::Evaluation, &format!("check.{}", check.name));
                    span.span_id = SpanId::of(&format!("{}/{}", event.id, check.name));
                    let began = event.at.unix_ms().saturating_sub(check.duration_ms);
                    span.started_at_utc = UtcTime::from_unix_ms(began);
                    span.artifact_refs.extend(check.output);
                    self.add(span, None);
                }
            }
            EventBody::Session(SessionEvent::Opened(opened)) => {
                let name = format!("session.{}", opened.purpose);
                let span = span(event, SpanKind::Infrastructure, &name);
                self.begin(opened.session.as_str(), span, None);
            }
            EventBody::Session(SessionEvent::Closed(closed)) => {
                self.end(closed.session.as_str(), event.at);
            }
            EventBody::Call(call) => self.take_call(event, call),
            EventBody::Approval(answer) => {
                let mut span = span(event, SpanKind::Business, answer.kind());
                if let ApprovalEvent::Granted(approval) = answer {
                    span.approval_id = Some(approval.approval_id.clone());
                    span.artifact_refs.push(approval.proposal);
                }
                self.add(span, None);
            }
            EventBody::Effect(effect) => self.take_effect(event, effect),
            EventBody::Run(_)
            | EventBody::Denial(_)
            | EventBody::Budget(_)
            | EventBody::Grant(_) => {}
        }
    }

    fn take_call(&mut self, event: &Event, call: &CallEvent) {
        match call {
            CallEvent::Decided(decided) => {
                let mut span = span(event, SpanKind::Policy, &decided.decision.scope);
                span.tool_operation_id = Some(decided.call.clone());
                span.decision_id = Some(decided.decision.decision_id.clone());
                self.add(span, None);
            }
            CallEvent::Started(started) => {
                let mut span = span(event, SpanKind::Tool, &format!("call.{}", started.tool));
                span.tool_operation_id = Some(started.call.clone());
                span.artifact_refs.push(started.input);
                self.begin(started.call.as_str(), span, Some(started.session.as_str()));
            }
            CallEvent::Ended(outcome) => {
                if let Some(span) = self.end(outcome.call.as_str(), event.at) {
                    span.artifact_refs
                        .extend([outcome.stdout, outcome.stderr].into_iter().flatten());
                }
            }
        }
    }

    fn take_effect(&mut self, event: &Event, effect: &EffectEvent) {
        match effect {
            EffectEvent::Intended(intent) => {
                let name = match intent {
                    EffectIntent::Apply { .. } => "effect.apply",
                    EffectIntent::Merge { .. } => "effect.merge",
                    EffectIntent::Rollback { .. } => "effect.rollback",
                };
                self.begin(&intent.key().0, span(event, SpanKind::Business, name), None);
            }
            EffectEvent::Completed(outcome) => {
                self.end(&outcome.key.0, event.at);
            }
            EffectEvent::Failed(failure) => {
                self.end(&failure.key.0, event.at);
            }
        }
    }
}
