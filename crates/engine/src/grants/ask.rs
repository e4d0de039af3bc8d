//! From what is asked for to a grant that may be given: authority, policy, bounds.
//!
//! Must never carry anything out.

use std::sync::Arc;

use cofferdam_contract::events::{GrantRequested, Granted};
use cofferdam_contract::grant::{GrantKind, REASON_BYTES_MAX};
use cofferdam_contract::ids::{GrantId, PrincipalId, RunId, SessionId};
use cofferdam_contract::ports::{Clock, Entropy, Record};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::time::UtcTime;
use cofferdam_journal::Redactor;
use cofferdam_policy::Policy;
use cofferdam_policy::authority::{Act, Role, local};

use crate::command::Command;

/// What a grant lasts where nobody says, if policy gives that much.
const FOR_MS: u64 = 30 * 60 * 1000;
/// What a grant can be used where a person does not say, if policy gives that much.
const USES: u64 = 10;

/// What decides and records for one run.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) run: RunId,
    pub(crate) policy: Arc<Policy>,
    pub(crate) record: Arc<dyn Record>,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) owner: PrincipalId,
    pub(crate) requester: PrincipalId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// What a person says of a grant.
pub(crate) struct Said {
    pub(crate) grant: GrantId,
    pub(crate) kind: GrantKind,
    pub(crate) for_ms: Option<u64>,
    pub(crate) uses: Option<u64>,
    pub(crate) reason: String,
    pub(crate) by: PrincipalId,
}

impl Ask {
    /// Whether `by` may do this, by the local rule.
    ///
    /// # Errors
    /// `policy_denied`.
    pub(crate) fn authorise(&self, act: Act, by: &PrincipalId) -> Result<(), Problem> {
        let role = Role::of(by, &self.owner);
        let approval = &self.policy.tables().approval;
        let ruling = local(role, act, *by == self.requester, approval);
        if ruling.is_allowed() {
            return Ok(());
        }
        let detail = format!("{by} may not {}: {}", act.name(), ruling.reason_code);
        Err(Problem::new(Code::PolicyDenied, detail))
    }

    /// The grant that a person's words make, if policy lets it be given.
    ///
    /// # Errors
    /// `policy_denied` naming the profile's field.
    pub(crate) fn by_person(
        &self,
        session: &SessionId,
        said: Said,
        answers: Option<&GrantRequested>,
    ) -> Result<Granted, Problem> {
        let table = &self.policy.tables().grants;
        let wished = |of: fn(&GrantRequested) -> Option<u64>| answers.and_then(of);
        let for_ms = said.for_ms.or_else(|| wished(|it| it.for_ms));
        let uses = said.uses.or_else(|| wished(|it| it.uses));
        let for_ms = for_ms.unwrap_or_else(|| FOR_MS.min(table.for_ms_max));
        let uses = uses.unwrap_or_else(|| USES.min(table.uses_max));
        self.check(&said.kind, for_ms, uses)?;
        Ok(Granted {
            grant: said.grant,
            session: session.clone(),
            kind: said.kind,
            place: None,
            reason: self.reason(&said.reason),
            by: said.by,
            rule: "person".to_owned(),
            request: answers.map(|it| it.request.clone()),
            expires_at: self.after(for_ms),
            uses,
        })
    }

    /// The grant that a session gets because the profile says so; none if a person must decide.
    ///
    /// # Errors
    /// `policy_denied` if it may not be given at all.
    pub(crate) fn by_rule(&self, asked: &GrantRequested) -> Result<Option<Granted>, Problem> {
        let table = &self.policy.tables().grants;
        let for_ms = asked.for_ms.unwrap_or_else(|| FOR_MS.min(table.for_ms_max));
        let uses = asked.uses.unwrap_or(1);
        self.check(&asked.kind, for_ms, uses)?;
        let Some(entry) = self.policy.grants_by_itself(&asked.kind) else { return Ok(None) };
        Ok(Some(Granted {
            grant: GrantId::generate(&*self.clock, &*self.entropy),
            session: asked.session.clone(),
            kind: asked.kind.clone(),
            place: None,
            reason: asked.reason.clone(),
            by: runtime()?,
            rule: format!("grants.auto:{entry}"),
            request: Some(asked.request.clone()),
            expires_at: self.after(for_ms),
            uses,
        }))
    }

    fn check(&self, kind: &GrantKind, for_ms: u64, uses: u64) -> Result<(), Problem> {
        let ruling = self.policy.decide_grant(kind, for_ms, uses);
        if ruling.is_allowed() {
            return Ok(());
        }
        let table = &self.policy.tables().grants;
        let detail = match ruling.reason_code {
            "grant_too_long" => format!("a grant lasts 1 to {} ms here", table.for_ms_max),
            "grant_too_many_uses" => format!("a grant has 1 to {} uses here", table.uses_max),
            _ => format!("the profile lets no {:?} be granted", kind.class()).to_lowercase(),
        };
        Err(Problem::new(Code::PolicyDenied, detail).at(Some(ruling.rule)))
    }

    fn after(&self, for_ms: u64) -> UtcTime {
        UtcTime::from_unix_ms(self.clock.now().unix_ms().saturating_add(for_ms))
    }

    /// Bounded, without secrets.
    pub(crate) fn reason(&self, text: &str) -> String {
        let mut end = text.len().min(REASON_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.redactor.redact_text(&text[..end]).into_inner()
    }
}

/// The runtime as the one who acts.
///
/// # Errors
/// Never for this name; the type cannot say so.
pub(crate) fn runtime() -> Result<PrincipalId, Problem> {
    "runtime".parse().map_err(|_| Problem::new(Code::Internal, "the runtime has no name"))
}

/// Whether a command is about grants, and so for whoever has the session.
pub(crate) fn is_about_grants(command: &Command) -> bool {
    matches!(command, Command::Grant { .. } | Command::Revoke { .. })
}
