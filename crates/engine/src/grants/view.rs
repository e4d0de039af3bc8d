//! What a reader gets to see of grants: made from a run's events, nothing else.

use cofferdam_contract::events::{Event, EventBody, GrantEnd, GrantEvent, SessionEvent};
use cofferdam_contract::grant::GrantRef;
use cofferdam_contract::ids::{GrantId, GrantRequestId, PrincipalId, SessionId};
use cofferdam_contract::time::UtcTime;
use schemars::JsonSchema;
use serde::Serialize;

/// Where a grant or a request for one is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// The session asked; a person has to answer.
    Pending,
    /// It was not given.
    Refused,
    /// It may be used.
    Live,
    /// Its time was up.
    Expired,
    /// Its last use is over.
    UsedUp,
    /// It was taken back, or ended with its session.
    Revoked,
}

/// One grant, or one request for a grant.
#[derive(Clone, PartialEq, Debug, Serialize, JsonSchema)]
pub struct GrantView {
    /// The grant, once it is given.
    pub grant: Option<GrantId>,
    /// The session's request, where it asked and waited.
    pub request: Option<GrantRequestId>,
    /// The session that it is for.
    pub session: SessionId,
    /// What it widens.
    pub kind: String,
    /// Where it is.
    pub state: GrantState,
    /// Where a path is, inside.
    pub place: Option<String>,
    /// Why. Of a request: the session's words, hostile text.
    pub reason: String,
    /// Who gave, refused or took it back last.
    pub by: Option<PrincipalId>,
    /// What allowed it: `person`, or the profile's entry.
    pub rule: Option<String>,
    /// When it was asked for or given.
    pub at: UtcTime,
    /// When it ends at the latest.
    pub expires_at: Option<UtcTime>,
    /// How many calls may use it.
    pub uses: u64,
    /// How many have.
    pub used: u64,
    /// Processes that held on to it at its end and were killed.
    pub killed: u64,
}

/// The grants and requests of a run, in the order in which they came, at a moment.
pub(crate) fn of(events: &[Event], now: UtcTime) -> Vec<GrantView> {
    let mut views: Vec<GrantView> = vec![];
    for event in events {
        match &event.body {
            EventBody::Grant(body) => take(&mut views, event.at, body),
            EventBody::Session(SessionEvent::Closed(closed)) => {
                let of = views.iter_mut().filter(|it| it.session == closed.session);
                of.for_each(over);
            }
            EventBody::Run(cofferdam_contract::events::RunEvent::Ended(_)) => {
                views.iter_mut().for_each(over);
            }
            _ => {}
        }
    }
    for view in &mut views {
        if view.state == GrantState::Live && view.expires_at.is_some_and(|until| until <= now) {
            view.state = GrantState::Expired;
        }
    }
    views
}

/// With its session a grant is over, and a request is too.
fn over(view: &mut GrantView) {
    match view.state {
        GrantState::Live => view.state = GrantState::Revoked,
        GrantState::Pending => view.state = GrantState::Refused,
        _ => {}
    }
}

/// Whether these events tell of that grant or request.
pub(crate) fn run_has(events: &[Event], what: &GrantRef) -> bool {
    events.iter().any(|event| match (&event.body, what) {
        (EventBody::Grant(GrantEvent::Granted(it)), GrantRef::Grant(grant)) => it.grant == *grant,
        (EventBody::Grant(GrantEvent::Requested(it)), GrantRef::Request(request)) => {
            it.request == *request
        }
        _ => false,
    })
}

fn find<'a>(views: &'a mut [GrantView], grant: &GrantId) -> Option<&'a mut GrantView> {
    views.iter_mut().find(|it| it.grant.as_ref() == Some(grant))
}

fn take(views: &mut Vec<GrantView>, at: UtcTime, body: &GrantEvent) {
    match body {
        GrantEvent::Used(used) => {
            if let Some(view) = find(views, &used.grant) {
                view.used += 1;
            }
        }
        GrantEvent::Expired(expired) => {
            if let Some(view) = find(views, &expired.grant) {
                view.killed = expired.killed;
                view.state = match expired.why {
                    GrantEnd::Expired => GrantState::Expired,
                    GrantEnd::UsedUp => GrantState::UsedUp,
                };
            }
        }
        GrantEvent::Revoked(revoked) => {
            if let Some(view) = find(views, &revoked.grant) {
                view.killed = revoked.killed;
                view.by = Some(revoked.by.clone());
                view.state = GrantState::Revoked;
            }
        }
        GrantEvent::Requested(asked) => views.push(GrantView {
            request: Some(asked.request.clone()),
            reason: asked.reason.clone(),
            uses: asked.uses.unwrap_or(1),
            ..blank(&asked.session, asked.kind.to_string(), at, GrantState::Pending)
        }),
        GrantEvent::Granted(granted) => {
            let view = GrantView {
                grant: Some(granted.grant.clone()),
                request: granted.request.clone(),
                place: granted.place.clone(),
                reason: granted.reason.clone(),
                by: Some(granted.by.clone()),
                rule: Some(granted.rule.clone()),
                expires_at: Some(granted.expires_at),
                uses: granted.uses,
                ..blank(&granted.session, granted.kind.to_string(), at, GrantState::Live)
            };
            put(views, granted.request.as_ref(), view);
        }
        GrantEvent::Refused(refused) => {
            let view = GrantView {
                request: refused.request.clone(),
                reason: refused.detail.clone(),
                by: Some(refused.by.clone()),
                ..blank(&refused.session, refused.kind.clone(), at, GrantState::Refused)
            };
            put(views, refused.request.as_ref(), view);
        }
    }
}

/// An answer takes the place of its request.
fn put(views: &mut Vec<GrantView>, request: Option<&GrantRequestId>, view: GrantView) {
    let waits = |it: &&mut GrantView| it.state == GrantState::Pending && it.request.is_some();
    let found = views.iter_mut().filter(waits).find(|it| it.request.as_ref() == request);
    match found {
        Some(found) => *found = view,
        None => views.push(view),
    }
}

fn blank(session: &SessionId, kind: String, at: UtcTime, state: GrantState) -> GrantView {
    GrantView {
        grant: None,
        request: None,
        session: session.clone(),
        kind,
        state,
        place: None,
        reason: String::new(),
        by: None,
        rule: None,
        at,
        expires_at: None,
        uses: 0,
        used: 0,
        killed: 0,
    }
}
