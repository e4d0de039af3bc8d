//! A journal in a directory of its own, with a clock and randomness that repeat.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cofferdam_contract::budget::Budget;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{
    Admitted, BaseCommit, Checkpointed, DenialEvent, Event, EventBody, Lost, RunEvent,
};
use cofferdam_contract::ids::{CorrelationId, PrincipalId, RequestId, RunId};
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::request::{RepositorySource, TaskType};
use cofferdam_contract::time::UtcTime;
use cofferdam_contract::trace::{Correlation, TraceId};
use cofferdam_journal::{
    Hold, Journal, JournalOptions, NewEvent, NewRun, Redactor, Shown, Start, Stored,
};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

/// Goes on by one millisecond whenever it is asked.
pub(crate) struct TickingClock(AtomicU64);

impl TickingClock {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(1_700_000_000_000))
    }
}

impl Clock for TickingClock {
    fn now(&self) -> UtcTime {
        UtcTime::from_unix_ms(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// A counter through a mixer (SplitMix64): repeats, and never gives the same twice.
pub(crate) struct CountingEntropy(AtomicU64);

impl CountingEntropy {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed << 32))
    }
}

impl Entropy for CountingEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let mut z = self.0.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<TickingClock>,
    pub(crate) entropy: Arc<CountingEntropy>,
}

pub(crate) const BUDGET: Budget = Budget { wall_ms: 1000, tool_ms: 500, attempts: 3 };

impl World {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(TickingClock::new()),
            entropy: Arc::new(CountingEntropy::new(1)),
        }
    }

    pub(crate) fn options(&self) -> JournalOptions {
        options(self.dir.path(), &self.clock, &self.entropy)
    }

    pub(crate) async fn open(&self) -> Journal {
        Journal::open(self.options()).await.unwrap()
    }

    pub(crate) fn new_run(&self) -> NewRun {
        new_run(&*self.clock, &*self.entropy)
    }

    /// A second way into the database, for who would change it unseen.
    pub(crate) async fn intruder(&self) -> SqliteConnection {
        let path = self.dir.path().join("journal/journal.db");
        let options = SqliteConnectOptions::new().filename(path).foreign_keys(false);
        SqliteConnection::connect_with(&options).await.unwrap()
    }
}

pub(crate) fn options(
    dir: &Path,
    clock: &Arc<TickingClock>,
    entropy: &Arc<CountingEntropy>,
) -> JournalOptions {
    JournalOptions {
        dir: dir.join("journal"),
        keys: dir.join("keys"),
        locks: dir.join("locks"),
        clock: Arc::<TickingClock>::clone(clock),
        entropy: Arc::<CountingEntropy>::clone(entropy),
    }
}

pub(crate) fn actor() -> PrincipalId {
    "local:tester".parse().unwrap()
}

pub(crate) fn admitted() -> Admitted {
    Admitted {
        request: Digest::of(b"request"),
        policy: Digest::of(b"policy"),
        policy_version: Digest::of(b"policy"),
        task_type: TaskType::Assist,
        driver: "command".to_owned(),
        repository: RepositorySource::Path("/srv/repository".to_owned()),
        base: BaseCommit {
            commit: "0123456789012345678901234567890123456789".parse().unwrap(),
            tree: "9876543210987654321098765432109876543210".parse().unwrap(),
            branch: Some("refs/heads/main".to_owned()),
        },
        budget: BUDGET,
        tenant: None,
        data_classification: None,
        retention: None,
    }
}

pub(crate) fn new_run(clock: &dyn Clock, entropy: &dyn Entropy) -> NewRun {
    NewRun {
        run: RunId::generate(clock, entropy),
        actor: actor(),
        correlation: Correlation {
            trace: TraceId::generate(entropy),
            request: RequestId::generate(clock, entropy),
            correlation: CorrelationId::generate(clock, entropy),
        },
        repository: "/srv/repository".to_owned(),
        task_type: TaskType::Assist,
        driver: "command".to_owned(),
        first: EventBody::Run(RunEvent::Admitted(admitted())),
        shown: Shown::state("preparing"),
        idempotency: None,
    }
}

/// Starts a run that must be new.
pub(crate) async fn start(journal: &Journal, new: NewRun) -> Hold {
    match journal.start(new).await.unwrap() {
        Start::New { hold, .. } => hold,
        Start::Known(run) => panic!("{run} was known"),
    }
}

/// An event that is told from others by its label.
pub(crate) fn note(label: impl Into<String>) -> NewEvent {
    let tree = "0123456789012345678901234567890123456789".parse().unwrap();
    let kept = Checkpointed { tree, label: label.into() };
    let body = EventBody::Run(RunEvent::Checkpointed(kept));
    NewEvent { id: None, body, actor: actor(), cause: None }
}

/// The label of an event made by [`note`].
pub(crate) fn label(event: &Event) -> Option<&str> {
    match &event.body {
        EventBody::Run(RunEvent::Checkpointed(kept)) => Some(&kept.label),
        _ => None,
    }
}

pub(crate) fn labels(stored: &[Stored]) -> Vec<&str> {
    stored.iter().filter_map(|it| label(&it.event)).collect()
}

/// How many events a loss event tells of.
pub(crate) fn lost(event: &Event) -> Option<u64> {
    match &event.body {
        EventBody::Denial(DenialEvent::Lost(Lost { count, .. })) => Some(*count),
        _ => None,
    }
}

pub(crate) fn redactor() -> Redactor {
    Redactor::new(vec![])
}
