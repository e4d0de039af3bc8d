//! The book of grants with a session that only writes down what is asked of it, and a clock that
//! stands still until it is moved: nobody notices an end here unless the test says so.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cofferdam_contract::capability::{CapabilityReport, WorkspaceKind};
use cofferdam_contract::change::FileKind;
use cofferdam_contract::decision::{DecisionKind, PolicyDecision};
use cofferdam_contract::denial::Denial;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{DenialEvent, EventBody, GrantEvent, Granted};
use cofferdam_contract::grant::{GrantKind, GrantNote};
use cofferdam_contract::ids::{CallId, GrantId, PrincipalId, RequestId, RunId, SessionId};
use cofferdam_contract::limits::Limits;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::ports::{Clock, Decide, Entropy, PortFuture, Record};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::time::UtcTime;
use cofferdam_journal::Redactor;
use cofferdam_policy::{Profile, compile};
use cofferdam_sandbox::{CallIo, CallSpec, SessionEnd, TraceGate};
use cofferdam_tools::{Hands, Running};

use super::ask::{Ask, Said};
use super::book::GrantBook;
use super::door::GrantedDecide;
use crate::sessions::{Left, Offered, OpenSession, Widen};

const START_MS: u64 = 1_760_000_000_000;

#[derive(Default)]
struct Still(AtomicU64);

impl Clock for Still {
    fn now(&self) -> UtcTime {
        UtcTime::from_unix_ms(START_MS + self.0.load(Ordering::SeqCst))
    }
}

#[derive(Default)]
struct Numbers(AtomicU64);

impl Entropy for Numbers {
    fn fill(&self, bytes: &mut [u8]) {
        let next = self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        bytes.fill(0);
        for (to, from) in bytes.iter_mut().rev().zip(next.iter().rev()) {
            *to = *from;
        }
    }
}

#[derive(Default)]
struct Events(Mutex<Vec<EventBody>>);

impl Record for Events {
    fn commit(&self, events: Vec<EventBody>) -> PortFuture<'_, ()> {
        self.0.lock().unwrap().extend(events);
        Box::pin(async { Ok(()) })
    }

    fn observe(&self, event: EventBody) {
        self.0.lock().unwrap().push(event);
    }
}

/// Writes down what it is asked to do.
struct Session {
    id: SessionId,
    report: CapabilityReport,
    done: Mutex<Vec<String>>,
    wishes: Mutex<Vec<u8>>,
    notes: Mutex<Vec<GrantNote>>,
}

impl Session {
    fn did(&self, what: &str) {
        self.done.lock().unwrap().push(what.to_owned());
    }
}

impl Hands for Session {
    fn session(&self) -> &SessionId {
        &self.id
    }

    fn start(&self, _spec: CallSpec, _io: CallIo) -> Result<Box<dyn Running>, Problem> {
        Err(Problem::new(Code::SessionLost, "not in this test"))
    }

    fn denials(&self, _call: &CallId) -> Vec<Denial> {
        vec![]
    }
}

impl OpenSession for Session {
    fn report(&self) -> &CapabilityReport {
        &self.report
    }

    fn freeze(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn thaw(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn left(&self) -> Result<Left, Problem> {
        Ok(Left { changes: vec![], left_out: vec![] })
    }

    fn read(&self, _path: &RepoPath) -> Result<(FileKind, u64, Box<dyn Read + Send>), Problem> {
        Err(Problem::new(Code::SessionLost, "not in this test"))
    }

    fn end(&self) -> SessionEnd {
        SessionEnd::default()
    }

    fn discard(&self) {}

    fn widen(&self) -> Option<&dyn Widen> {
        Some(self)
    }

    fn wishes(&self) -> Vec<u8> {
        std::mem::take(&mut self.wishes.lock().unwrap())
    }

    fn tell(&self, note: &GrantNote) {
        self.notes.lock().unwrap().push(note.clone());
    }
}

impl Widen for Session {
    fn look_at(&self, path: &str, writable: bool) -> Result<Box<dyn Offered>, Problem> {
        self.did(&format!("look at {path} writable={writable}"));
        if path.ends_with("secret") {
            return Err(Problem::new(Code::GrantRefused, "a credential"));
        }
        Ok(Box::new(Place { fails: path.ends_with("broken") }))
    }

    fn withdraw(&self, place: &str) -> u64 {
        self.did(&format!("withdraw {place}"));
        2
    }

    fn may_trace(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn ask_before_tracing(&self, _gate: Arc<dyn TraceGate>) {
        self.did("ask before tracing");
    }

    fn end_tracing(&self) -> u64 {
        self.did("end tracing");
        1
    }
}

struct Place {
    fails: bool,
}

impl Offered for Place {
    fn place(&self) -> &str {
        "/grants/ro/data"
    }

    fn put(self: Box<Self>) -> Result<(), Problem> {
        match self.fails {
            true => Err(Problem::new(Code::GrantRefused, "it cannot be mounted")),
            false => Ok(()),
        }
    }
}

struct Lab {
    clock: Arc<Still>,
    entropy: Arc<Numbers>,
    events: Arc<Events>,
    session: Arc<Session>,
    book: Arc<GrantBook>,
}

impl Lab {
    fn new() -> Self {
        let profile = "[grants]\nfor_ms_max = 10000\nuses_max = 5\nauto = [\"exec:make\", \"read:/srv/**\"]\n\
                       [executables]\ndeny = [\"curl\", \"make\"]";
        let request = serde_json::from_value(serde_json::json!({
            "contractVersion": "1.0.0",
            "requestId": "req_01jd0000000000000000000000",
            "correlationId": "cor_01jd0000000000000000000000",
            "timestampUtc": "2026-11-21T00:00:00.000Z",
            "actor": "local:ada", "tenant": "local", "taskType": "assist", "task": "",
            "profile": "assist",
            "repository": {"source": {"path": "/r"}, "base": "HEAD"},
            "driver": {"command": {"argv": ["true"]}},
            "dataClassification": "internal", "retention": "run",
        }))
        .unwrap();
        let policy = compile(&Profile::parse(profile).unwrap(), None, &request).unwrap();
        let (clock, entropy) = (Arc::<Still>::default(), Arc::<Numbers>::default());
        let events = Arc::<Events>::default();
        let session = Arc::new(Session {
            id: SessionId::generate(&*clock, &*entropy),
            report: report(),
            done: Mutex::default(),
            wishes: Mutex::default(),
            notes: Mutex::default(),
        });
        let ask = Ask {
            run: RunId::generate(&*clock, &*entropy),
            policy: Arc::new(policy),
            record: Arc::clone(&events) as _,
            redactor: Arc::new(Redactor::new(vec![])),
            owner: principal("local:ada"),
            requester: principal("local:ada"),
            clock: Arc::clone(&clock) as _,
            entropy: Arc::clone(&entropy) as _,
        };
        let book = Arc::new(GrantBook::new(ask, Arc::clone(&session) as _));
        Self { clock, entropy, events, session, book }
    }

    async fn give(&self, kind: &str, for_ms: u64, uses: u64) -> Result<Granted, Problem> {
        let said = Said {
            grant: GrantId::generate(&*self.clock, &*self.entropy),
            kind: kind.parse::<GrantKind>().unwrap(),
            for_ms: Some(for_ms),
            uses: Some(uses),
            reason: "a test".to_owned(),
            by: principal("local:ada"),
        };
        let granted = self.book.ask.by_person(&self.session.id, said, None)?;
        self.book.give(granted).await
    }

    fn pass(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn call(&self) -> CallId {
        CallId::generate(&*self.clock, &*self.entropy)
    }

    /// The kinds of the events since the last look.
    fn happened(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.events.0.lock().unwrap()).iter().map(EventBody::kind).collect()
    }

    fn done(&self) -> Vec<String> {
        std::mem::take(&mut *self.session.done.lock().unwrap())
    }

    async fn wish(&self, line: &str) -> Vec<&'static str> {
        self.session.wishes.lock().unwrap().extend_from_slice(line.as_bytes());
        self.book.hear_wishes().await.unwrap();
        self.happened()
    }
}

fn report() -> CapabilityReport {
    CapabilityReport {
        backend: "none".to_owned(),
        rootless: true,
        kernel: String::new(),
        landlock_abi: 0,
        workspace: WorkspaceKind::Copy,
        walls: vec![],
        event_sources: vec![],
        limits: Limits::default(),
    }
}

fn principal(text: &str) -> PrincipalId {
    text.parse().unwrap()
}

/// Time is compared on use: nothing noticed the end, and yet nothing is honoured.
#[tokio::test]
async fn what_is_over_is_not_honoured_although_nobody_noticed() {
    let lab = Lab::new();
    lab.give("exec:curl", 1000, 5).await.unwrap();
    lab.give("debug", 1000, 5).await.unwrap();
    lab.pass(999);
    assert!(lab.book.lets("curl").is_some() && lab.book.lets_trace(None, (7, 1)), "the control");
    assert!(lab.book.spend(&lab.call(), Some("curl")).is_ok(), "the control");
    lab.pass(1);
    assert!(lab.book.lets("curl").is_none());
    assert!(!lab.book.lets_trace(None, (7, 1)), "not even for whom it was open");
    assert_eq!(lab.book.spend(&lab.call(), Some("curl")).unwrap_err().code, Code::ExecutableDenied);
}

/// A call that starts waits until what is over is taken away.
#[tokio::test]
async fn a_path_is_gone_before_the_next_call_starts() {
    let lab = Lab::new();
    lab.give("read:/data", 1000, 5).await.unwrap();
    assert_eq!(lab.done(), ["look at /data writable=false"]);
    lab.pass(1000);
    lab.book.end_due(true).await.unwrap();
    assert_eq!(lab.done(), ["withdraw /grants/ro/data"]);
    assert!(lab.book.spend(&lab.call(), None).unwrap().is_empty());
    assert_eq!(lab.happened(), ["grant.granted", "grant.expired"]);
}

#[tokio::test]
async fn the_last_use_is_the_last() {
    let lab = Lab::new();
    lab.give("exec:curl", 1000, 2).await.unwrap();
    for left in [1, 0] {
        assert!(lab.book.lets("curl").is_some());
        let used = lab.book.spend(&lab.call(), Some("curl")).unwrap();
        assert_eq!((used.len(), used[0].left), (1, left));
    }
    assert!(lab.book.lets("curl").is_none());
    assert!(lab.book.spend(&lab.call(), Some("curl")).is_err());
    lab.book.end_due(false).await.unwrap();
    assert_eq!(lab.happened(), ["grant.granted", "grant.expired"]);
}

#[tokio::test]
async fn a_path_stays_for_the_call_of_its_last_use_and_for_no_other() {
    let lab = Lab::new();
    lab.give("read:/data", 1000, 1).await.unwrap();
    let first = lab.call();
    lab.book.end_due(true).await.unwrap();
    assert_eq!(lab.book.spend(&first, None).unwrap()[0].call.as_ref(), Some(&first));
    lab.book.end_due(false).await.unwrap();
    assert_eq!(lab.done(), ["look at /data writable=false"], "the call goes on with it");
    // Another one starts.
    lab.book.end_due(true).await.unwrap();
    assert_eq!(lab.done(), ["withdraw /grants/ro/data"]);
    // Or the call ends.
    lab.give("read:/data", 1000, 1).await.unwrap();
    lab.book.spend(&first, None).unwrap();
    lab.done();
    lab.book.call_over(&first);
    lab.book.end_due(false).await.unwrap();
    assert_eq!(lab.done(), ["withdraw /grants/ro/data"]);
}

#[tokio::test]
async fn tracing_is_counted_by_call() {
    let lab = Lab::new();
    lab.give("debug", 1000, 2).await.unwrap();
    let call = lab.call();
    for _ in 0..10 {
        assert!(lab.book.lets_trace(Some(&call), (7, 1)));
    }
    assert!(lab.book.lets_trace(None, (7, 2)), "the same number, another process");
    assert!(!lab.book.lets_trace(None, (8, 1)), "a third one");
    assert!(lab.book.lets_trace(None, (7, 2)), "who does already goes on");
    let used = lab.happened().iter().filter(|it| **it == "grant.used").count();
    assert_eq!(used, 2);
}

#[tokio::test]
async fn what_is_taken_back_is_out_of_use_first() {
    let lab = Lab::new();
    let exec = lab.give("exec:curl", 1000, 5).await.unwrap();
    let debug = lab.give("debug", 1000, 5).await.unwrap();
    let by = principal("local:ada");
    lab.book.revoke(&exec.grant, by.clone(), "enough".to_owned()).await.unwrap();
    assert!(lab.book.lets("curl").is_none());
    lab.book.revoke(&debug.grant, by.clone(), "enough".to_owned()).await.unwrap();
    assert!(!lab.book.lets_trace(None, (7, 1)));
    assert_eq!(lab.done(), ["ask before tracing", "end tracing"]);
    let again = lab.book.revoke(&exec.grant, by, String::new()).await.unwrap_err();
    assert_eq!(again.code, Code::GrantUnknown);
    assert_eq!(lab.happened()[2..], ["grant.revoked", "grant.revoked"]);
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_not_given() {
    let lab = Lab::new();
    assert_eq!(lab.give("read:/secret", 1, 1).await.unwrap_err().code, Code::GrantRefused);
    assert!(lab.happened().is_empty());
    assert!(lab.give("read:/broken", 1, 1).await.is_err());
    assert_eq!(lab.happened(), ["grant.granted", "grant.revoked"], "and the record says so");
    assert!(lab.book.spend(&lab.call(), None).unwrap().is_empty());
    // Beyond the profile nothing is looked at.
    lab.done();
    for (kind, for_ms, uses) in [("read:/data", 10_001, 1), ("read:/data", 1, 6)] {
        assert_eq!(lab.give(kind, for_ms, uses).await.unwrap_err().code, Code::PolicyDenied);
    }
    assert!(lab.done().is_empty() && lab.happened().is_empty());
}

#[tokio::test]
async fn the_end_of_the_session_is_the_end_of_its_grants() {
    let lab = Lab::new();
    lab.give("read:/data", 1000, 5).await.unwrap();
    lab.give("exec:curl", 1000, 5).await.unwrap();
    lab.happened();
    lab.book.end_all().await.unwrap();
    assert_eq!(lab.happened(), ["grant.revoked", "grant.revoked"]);
    assert!(lab.book.lets("curl").is_none());
}

struct DeniesAll;

impl Decide for DeniesAll {
    fn decide(&self, scope: &str, inputs: &[String]) -> PolicyDecision {
        let (clock, entropy) = (Still::default(), Numbers::default());
        PolicyDecision {
            contract_version: "1.0.0".to_owned(),
            policy_id: "assist".to_owned(),
            policy_version: Digest::of(b""),
            decision_id: cofferdam_contract::ids::DecisionId::generate(&clock, &entropy),
            request_id: RequestId::generate(&clock, &entropy),
            evaluated_at_utc: clock.now(),
            scope: scope.to_owned(),
            inputs: inputs.to_vec(),
            decision: DecisionKind::Deny,
            reason_codes: vec![],
            required_approvals: 0,
            approval_authority: None,
            expires_at_utc: None,
            review_path: String::new(),
        }
    }
}

/// What a class lets through, as a table: that, and nothing else that policy denies.
#[tokio::test]
async fn a_class_widens_one_thing() {
    let lab = Lab::new();
    lab.give("exec:curl", 1000, 5).await.unwrap();
    let door = GrantedDecide { policy: Arc::new(DeniesAll), grants: Arc::clone(&lab.book) };
    let allows = |scope: &str, inputs: &[&str]| {
        let inputs: Vec<_> = inputs.iter().map(|it| (*it).to_owned()).collect();
        door.decide(scope, &inputs).decision == DecisionKind::Allow
    };
    assert!(allows("call:exec", &["curl"]) && allows("call:exec", &["/usr/bin/curl"]));
    for (scope, inputs) in [
        ("call:exec", vec!["wget"]),
        ("call:exec", vec!["/usr/bin/../bin/curl"]),
        ("call:exec", vec!["sh", "curl"]),
        ("call:exec", vec![]),
        ("call:codemod", vec!["curl"]),
        ("effect:merge", vec!["curl"]),
    ] {
        assert!(!allows(scope, &inputs), "{scope} {inputs:?}");
    }
}

#[tokio::test]
async fn a_wish_is_given_by_the_profile_or_waits_for_a_person() {
    let lab = Lab::new();
    let by_profile = lab.wish("{\"kind\":\"exec:make\",\"reason\":\"to build\"}\n").await;
    assert_eq!(by_profile, ["grant.requested", "grant.granted"]);
    assert!(lab.book.lets("make").is_some());
    assert!(lab.book.lets("curl").is_none());
    let waits = lab.wish("{\"kind\":\"exec:curl\",\"reason\":\"to look\"}\n").await;
    assert_eq!(waits, ["grant.requested"]);
    assert_eq!(lab.book.waiting_count(), 1);
    assert!(lab.book.lets("curl").is_none());
    let too_long = lab.wish("{\"kind\":\"debug\",\"reason\":\"x\",\"for_ms\":99999999}\n").await;
    assert_eq!(too_long, ["grant.requested", "grant.refused", "denial.recorded"]);
    let refused = lab.wish("{\"kind\":\"read:/srv/secret\",\"reason\":\"x\"}\n").await;
    assert_eq!(refused, ["grant.requested", "grant.refused", "denial.recorded"]);
    let states: Vec<_> = lab
        .session
        .notes
        .lock()
        .unwrap()
        .iter()
        .map(|note| serde_json::to_value(note).unwrap()["state"].clone())
        .collect();
    assert_eq!(states, ["granted", "pending", "refused", "refused"]);
}

#[tokio::test]
async fn nonsense_is_a_denial_and_a_flood_is_one_too() {
    let lab = Lab::new();
    for nonsense in ["\u{1b}[2J\n", "{}\n", "{\"kind\":\"net:a:1\",\"reason\":\"x\"}\n"] {
        assert_eq!(lab.wish(nonsense).await, ["grant.refused", "denial.recorded"], "{nonsense:?}");
    }
    let flood = "{\"kind\":\"exec:curl\",\"reason\":\"now\"}\n".repeat(1000);
    lab.session.wishes.lock().unwrap().extend_from_slice(flood.as_bytes());
    lab.book.hear_wishes().await.unwrap();
    let events = std::mem::take(&mut *lab.events.0.lock().unwrap());
    assert!(events.len() < 20, "{}", events.len());
    let dropped = events.iter().find_map(|it| match it {
        EventBody::Denial(DenialEvent::Recorded(denial)) => Some(denial.count),
        _ => None,
    });
    assert_eq!(dropped, Some(993), "each is counted: ten were looked at, three of them before");
    let shown = events.iter().any(|it| matches!(it, EventBody::Grant(GrantEvent::Granted(_))));
    assert!(!shown);
    // Control: a quiet session is heard.
    assert_eq!(Lab::new().wish("{\"kind\":\"exec:make\",\"reason\":\"x\"}\n").await.len(), 2);
}
