//! The grants of one session: given, used, over.
//!
//! A grant is in the journal before it can be used, and out of [`State`] before its end is carried
//! out. Must never trust that somebody noticed its end: whoever asks compares the time.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cofferdam_contract::events::{
    EventBody, GrantEnd, GrantEvent, GrantExpired, GrantRequested, GrantRevoked, GrantUsed, Granted,
};
use cofferdam_contract::grant::{GrantKind, GrantNote};
use cofferdam_contract::ids::{CallId, GrantId, GrantRequestId, PrincipalId, SessionId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::time::UtcTime;
use cofferdam_policy::ExecutableClass;
use cofferdam_sandbox::TraceGate;

use super::ask::{Ask, runtime};
use super::wishes::Wishes;
use crate::live::blocking;
use crate::sessions::{OpenSession, Widen};

/// Most grants of one session at once.
const LIVE_MAX: usize = 32;

/// A grant that may be used.
struct Entry {
    granted: Granted,
    /// The same moment as its `expires_at`, by a clock that nobody sets.
    until: Instant,
    left: u64,
    /// Calls that use it and are not over.
    calls: HashSet<CallId>,
    /// First processes of calls that trace, each counted once.
    tracers: HashSet<(i32, u64)>,
    class: Option<ExecutableClass>,
}

impl Entry {
    fn is_over(&self, now: UtcTime) -> bool {
        now >= self.granted.expires_at || Instant::now() >= self.until
    }

    fn is_path(&self) -> bool {
        matches!(self.granted.kind, GrantKind::Read(_) | GrantKind::Write(_))
    }

    /// One use less.
    fn spend(&mut self, call: Option<&CallId>) -> GrantUsed {
        self.left = self.left.saturating_sub(1);
        if self.class.is_none() {
            self.calls.extend(call.cloned());
        }
        GrantUsed {
            grant: self.granted.grant.clone(),
            session: self.granted.session.clone(),
            call: call.cloned(),
            left: self.left,
        }
    }
}

#[derive(Default)]
struct State {
    live: BTreeMap<GrantId, Entry>,
    waiting: BTreeMap<GrantRequestId, GrantRequested>,
}

/// How a grant ends.
pub(super) enum Ending {
    By(GrantEnd),
    Revoked { by: PrincipalId, reason: String },
}

/// The grants of one session.
pub(crate) struct GrantBook {
    pub(super) ask: Ask,
    pub(super) open: Arc<dyn OpenSession>,
    pub(super) wishes: Mutex<Wishes>,
    state: Mutex<State>,
    /// Whether there ever was a grant of an executable: before that no call need look here.
    had_exec: AtomicBool,
    /// Held while ends are carried out, so that a call that starts waits for them.
    ends: tokio::sync::Mutex<()>,
}

impl GrantBook {
    pub(super) fn new(ask: Ask, open: Arc<dyn OpenSession>) -> Self {
        let (state, wishes, had_exec, ends) = Default::default();
        Self { ask, open, wishes, state, had_exec, ends }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is given at this moment.
    pub(super) fn lends(&self) -> bool {
        !self.lock().live.is_empty()
    }

    pub(crate) fn session(&self) -> &SessionId {
        self.open.session()
    }

    fn widen(&self) -> Result<&dyn Widen, Problem> {
        self.open.widen().ok_or_else(|| {
            Problem::new(Code::GrantUnsupported, "this session cannot be given that")
        })
    }

    /// Gives a grant: looks whether it can be had, records it, carries it out.
    ///
    /// # Errors
    /// `grant_refused`, `grant_unsupported`, or what the journal says; nothing is widened then.
    pub(super) async fn give(self: &Arc<Self>, mut granted: Granted) -> Result<Granted, Problem> {
        if self.lock().live.len() >= LIVE_MAX {
            let detail = format!("a session has at most {LIVE_MAX} grants at once");
            return Err(Problem::new(Code::PolicyDenied, detail));
        }
        let mut class = None;
        let mut offered = None;
        match &granted.kind {
            GrantKind::Exec(pattern) => class = Some(exec_class(pattern)?),
            GrantKind::Debug => self.widen()?.may_trace()?,
            GrantKind::Read(path) | GrantKind::Write(path) => {
                let writable = matches!(granted.kind, GrantKind::Write(_));
                let (book, path) = (Arc::clone(self), path.clone());
                let looked = blocking(move || book.widen()?.look_at(&path, writable)).await?;
                granted.place = Some(looked.place().to_owned());
                offered = Some(looked);
            }
        }
        let event = EventBody::Grant(GrantEvent::Granted(granted.clone()));
        self.ask.record.commit(vec![event]).await?;
        if let Some(offered) = offered
            && let Err(problem) = blocking(move || offered.put()).await
        {
            let reason = problem.detail.clone();
            self.tell_end(&granted, Ending::Revoked { by: runtime()?, reason }, 0).await?;
            return Err(problem);
        }
        self.enter(&granted, class);
        self.open.tell(&GrantNote::Granted {
            kind: granted.told(),
            grant: granted.grant.clone(),
            place: granted.place.clone(),
            expires_at: granted.expires_at,
            uses: granted.uses,
        });
        Ok(granted)
    }

    fn enter(self: &Arc<Self>, granted: &Granted, class: Option<ExecutableClass>) {
        let lasts = granted.expires_at.ms_since(self.ask.clock.now());
        let entry = Entry {
            granted: granted.clone(),
            until: Instant::now() + Duration::from_millis(lasts),
            left: granted.uses,
            calls: HashSet::new(),
            tracers: HashSet::new(),
            class,
        };
        if let Some(request) = &granted.request {
            self.lock().waiting.remove(request);
        }
        self.had_exec.fetch_or(entry.class.is_some(), Ordering::AcqRel);
        self.lock().live.insert(granted.grant.clone(), entry);
        if granted.kind == GrantKind::Debug
            && let Ok(widen) = self.widen()
        {
            widen.ask_before_tracing(Arc::clone(self) as _);
        }
    }

    /// Whether there may be a grant of an executable.
    pub(super) fn had_exec(&self) -> bool {
        self.had_exec.load(Ordering::Acquire)
    }

    /// The grant by which an executable may be started that policy denies.
    pub(super) fn lets(&self, executable: &str) -> Option<GrantId> {
        let now = self.ask.clock.now();
        let state = self.lock();
        let lets = |entry: &&Entry| entry.class.as_ref().is_some_and(|it| it.lets(executable));
        let mut live = state.live.values().filter(|it| it.left > 0 && !it.is_over(now));
        live.find(lets).map(|entry| entry.granted.grant.clone())
    }

    /// Takes the uses of a call that is about to start: of every path that is there, and of the
    /// executable's class where policy denies it.
    ///
    /// # Errors
    /// `executable_denied` if its class was used up or over meanwhile.
    pub(super) fn spend(
        &self,
        call: &CallId,
        denied: Option<&str>,
    ) -> Result<Vec<GrantUsed>, Problem> {
        let now = self.ask.clock.now();
        let mut state = self.lock();
        let mut used = vec![];
        if let Some(executable) = denied {
            let lets = |it: &&mut Entry| it.class.as_ref().is_some_and(|it| it.lets(executable));
            let mut live = state.live.values_mut().filter(|it| it.left > 0 && !it.is_over(now));
            let entry = live
                .find(lets)
                .ok_or_else(|| Problem::new(Code::ExecutableDenied, "the grant for it is over"))?;
            // Whom it let through goes on without it.
            used.push(entry.spend(Some(call)));
        }
        let paths = state.live.values_mut().filter(|it| it.is_path() && it.left > 0);
        used.extend(paths.map(|entry| entry.spend(Some(call))));
        Ok(used)
    }

    /// A call may trace if it does already or if there is a use left.
    pub(super) fn lets_trace(&self, call: Option<&CallId>, first: (i32, u64)) -> bool {
        let now = self.ask.clock.now();
        let mut state = self.lock();
        let live = state.live.values_mut();
        let mut live = live.filter(|it| it.granted.kind == GrantKind::Debug && !it.is_over(now));
        let Some(entry) = live.find(|it| it.tracers.contains(&first) || it.left > 0) else {
            return false;
        };
        if entry.tracers.insert(first) {
            let used = entry.spend(call);
            self.ask.record.observe(EventBody::Grant(GrantEvent::Used(used)));
        }
        true
    }

    /// A call is over, and with it its uses.
    pub(super) fn call_over(&self, call: &CallId) {
        for entry in self.lock().live.values_mut() {
            entry.calls.remove(call);
        }
    }

    /// Ends what is over: by time, by its last use, and, where a call is about to start, paths that
    /// it has no use of.
    ///
    /// # Errors
    /// What the journal says.
    pub(super) async fn end_due(&self, starting: bool) -> Result<(), Problem> {
        let _in_turn = self.ends.lock().await;
        let now = self.ask.clock.now();
        let due: Vec<_> = {
            let mut state = self.lock();
            let over = |entry: &Entry| {
                let spent =
                    entry.left == 0 && (entry.calls.is_empty() || (starting && entry.is_path()));
                match () {
                    () if entry.is_over(now) => Some(GrantEnd::Expired),
                    () if spent => Some(GrantEnd::UsedUp),
                    () => None,
                }
            };
            let ends: Vec<_> = state
                .live
                .iter()
                .filter_map(|(grant, entry)| Some((grant.clone(), over(entry)?)))
                .collect();
            let taken = ends.into_iter().map(|(grant, end)| (state.live.remove(&grant), end));
            taken.filter_map(|(entry, end)| Some((entry?.granted, end))).collect()
        };
        for (granted, end) in due {
            self.carry_out_end(granted, Ending::By(end)).await?;
        }
        Ok(())
    }

    /// Takes a grant back.
    ///
    /// # Errors
    /// `grant_unknown` if it is not live; what the journal says.
    pub(super) async fn revoke(
        &self,
        grant: &GrantId,
        by: PrincipalId,
        reason: String,
    ) -> Result<(), Problem> {
        let _in_turn = self.ends.lock().await;
        let entry = self.lock().live.remove(grant);
        let Some(entry) = entry else {
            return Err(Problem::new(Code::GrantUnknown, format!("{grant} is not live")));
        };
        self.carry_out_end(entry.granted, Ending::Revoked { by, reason }).await
    }

    /// The session is over: so is every grant of it, and nothing is left to be taken away.
    ///
    /// # Errors
    /// What the journal says.
    pub(super) async fn end_all(&self) -> Result<(), Problem> {
        let live = std::mem::take(&mut self.lock().live);
        for entry in live.into_values() {
            let end = match entry.is_over(self.ask.clock.now()) {
                true => Ending::By(GrantEnd::Expired),
                false => {
                    let reason = "the session is over".to_owned();
                    Ending::Revoked { by: runtime()?, reason }
                }
            };
            self.tell_end(&entry.granted, end, 0).await?;
        }
        Ok(())
    }

    async fn carry_out_end(&self, granted: Granted, end: Ending) -> Result<(), Problem> {
        let open = Arc::clone(&self.open);
        let (kind, place) = (granted.kind.clone(), granted.place.clone());
        let others = self.lock().live.values().any(|it| it.granted.kind == GrantKind::Debug);
        let killed = blocking(move || {
            Ok(match (open.widen(), kind, place) {
                (Some(widen), GrantKind::Read(_) | GrantKind::Write(_), Some(place)) => {
                    widen.withdraw(&place)
                }
                (Some(widen), GrantKind::Debug, _) if !others => widen.end_tracing(),
                _ => 0,
            })
        })
        .await?;
        self.tell_end(&granted, end, killed).await
    }

    async fn tell_end(&self, granted: &Granted, end: Ending, killed: u64) -> Result<(), Problem> {
        let (grant, session) = (granted.grant.clone(), granted.session.clone());
        let (event, why) = match end {
            Ending::By(why) => {
                let text = if why == GrantEnd::Expired { "expired" } else { "used_up" };
                (GrantEvent::Expired(GrantExpired { grant, session, why, killed }), text)
            }
            Ending::Revoked { by, reason } => (
                GrantEvent::Revoked(GrantRevoked { grant, session, by, reason, killed }),
                "revoked",
            ),
        };
        self.open.tell(&GrantNote::Ended {
            kind: granted.told(),
            grant: granted.grant.clone(),
            why: why.to_owned(),
        });
        self.ask.record.commit(vec![EventBody::Grant(event)]).await
    }

    /// The request that waits, if it does.
    pub(super) fn waiting(&self, request: &GrantRequestId) -> Option<GrantRequested> {
        self.lock().waiting.get(request).cloned()
    }

    pub(super) fn waits(&self, asked: GrantRequested) {
        self.lock().waiting.insert(asked.request.clone(), asked);
    }

    pub(super) fn forget(&self, request: &GrantRequestId) {
        self.lock().waiting.remove(request);
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.lock().waiting.len()
    }
}

impl TraceGate for GrantBook {
    fn lets_trace(&self, call: Option<&CallId>, first: (i32, u64)) -> bool {
        Self::lets_trace(self, call, first)
    }
}

fn exec_class(pattern: &str) -> Result<ExecutableClass, Problem> {
    ExecutableClass::new(pattern)
        .map_err(|detail| Problem::new(Code::RequestInvalid, detail).at(Some("kind".to_owned())))
}
