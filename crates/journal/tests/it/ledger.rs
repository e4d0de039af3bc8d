//! Invariant 7: whatever happens, what is spent and set aside never exceeds the budget.

use cofferdam_contract::budget::BudgetKind;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{BudgetEvent, EventBody};
use cofferdam_contract::ids::ReservationId;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::ports::Spend;
use cofferdam_contract::problem::Code;
use cofferdam_contract::request::Retention;
use cofferdam_journal::{Blob, FaultPlan, Journal, JournalError, Ledger, Page, Stored};
use proptest::prelude::*;

use crate::world::{BUDGET, World, actor, note, redactor, start};

const KINDS: [BudgetKind; 3] = [BudgetKind::WallMs, BudgetKind::ToolMs, BudgetKind::Attempts];

fn budget_events(stored: &[Stored]) -> Vec<BudgetEvent> {
    let budget = |it: &Stored| match &it.event.body {
        EventBody::Budget(event) => Some(event.clone()),
        _ => None,
    };
    stored.iter().filter_map(budget).collect()
}

#[tokio::test]
async fn a_reservation_and_its_event_come_together() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let ledger = journal.ledger(&hold, actor());
    let reservation = ledger.reserve(BudgetKind::ToolMs, 400).await.unwrap();
    assert_eq!(journal.spent(hold.run()).await.unwrap().tool_ms, 400);

    let refused = ledger.reserve(BudgetKind::ToolMs, 101).await.unwrap_err();
    assert_eq!(refused.code, Code::BudgetExhausted);
    ledger.settle(reservation.clone(), 399).await.unwrap();
    assert_eq!(journal.spent(hold.run()).await.unwrap().tool_ms, 399);
    let again = ledger.close(reservation, 1).await;
    assert!(matches!(again, Err(JournalError::ReservationUnknown(_))));
    ledger.reserve(BudgetKind::ToolMs, 101).await.unwrap();

    let events = budget_events(&journal.events(hold.run(), 0).await.unwrap());
    let kinds: Vec<_> = events.iter().map(BudgetEvent::kind).collect();
    let expected = ["budget.reserved", "budget.exhausted", "budget.settled", "budget.reserved"];
    assert_eq!(kinds, expected);
    let BudgetEvent::Exhausted(exhausted) = &events[1] else { panic!() };
    assert_eq!((exhausted.asked, exhausted.left), (101, 100));
}

#[tokio::test]
async fn what_is_left_can_be_taken_to_its_end_and_no_further() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let ledger = journal.ledger(&hold, actor());
    let up_to = |most| ledger.take_up_to(BudgetKind::ToolMs, most, Page::default());
    let (first, amount) = up_to(499).await.unwrap();
    assert_eq!(amount, 499);
    let (_, amount) = up_to(u64::MAX).await.unwrap();
    assert_eq!(amount, 1);
    let refused = up_to(1).await;
    assert!(matches!(refused, Err(JournalError::BudgetExhausted { asked: 1, left: 0, .. })));
    ledger.close(first, 497).await.unwrap();
    let (_, amount) = up_to(300).await.unwrap();
    assert_eq!(amount, 2);
    assert_eq!(journal.spent(hold.run()).await.unwrap().tool_ms, 500);
    let events = budget_events(&journal.events(hold.run(), 0).await.unwrap());
    let reserved = events.iter().filter_map(|event| match event {
        BudgetEvent::Reserved(reserved) => Some(reserved.amount),
        _ => None,
    });
    assert_eq!(reserved.collect::<Vec<_>>(), [499, 1, 2]);
}

#[tokio::test]
async fn more_than_was_reserved_is_not_settled() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let ledger = journal.ledger(&hold, actor());
    let reservation = ledger.take(BudgetKind::WallMs, 10).await.unwrap();
    let over = ledger.close(reservation.clone(), 11).await;
    assert!(matches!(over, Err(JournalError::OverSettled { spent: 11, reserved: 10 })));
    assert_eq!(journal.spent(hold.run()).await.unwrap().wall_ms, 10);
    ledger.close(reservation, 10).await.unwrap();
}

#[tokio::test]
async fn a_former_holder_neither_reserves_nor_settles() {
    let world = World::new();
    let journal = world.open().await;
    let former = start(&journal, world.new_run()).await;
    let ledger = journal.ledger(&former, actor());
    let open = ledger.take(BudgetKind::ToolMs, 300).await.unwrap();
    let run = former.run().clone();
    drop(former);
    let holder = journal.hold(&run).await.unwrap();
    let late = ledger.take(BudgetKind::ToolMs, 1).await;
    assert!(matches!(late, Err(JournalError::StaleEpoch { .. })));
    assert!(ledger.close(open.clone(), 0).await.is_err());
    // Its open reservation counts as spent, and the new holder cannot take it back either.
    let ledger = journal.ledger(&holder, actor());
    assert!(matches!(ledger.close(open, 0).await, Err(JournalError::ReservationUnknown(_))));
    assert_eq!(journal.spent(&run).await.unwrap().tool_ms, 300);
    let too_much = ledger.take(BudgetKind::ToolMs, 201).await;
    assert!(matches!(too_much, Err(JournalError::BudgetExhausted { left: 200, .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_reserve_at_once_only_as_many_get_it_as_there_is() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let ledger = journal.ledger(&hold, actor());
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let ledger = ledger.clone();
        set.spawn(async move { ledger.take(BudgetKind::ToolMs, 30).await });
    }
    let results = set.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 500 / 30);
    assert_eq!(journal.spent(hold.run()).await.unwrap().tool_ms, 480);
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(usize, u64),
    Settle(usize, u64),
    TakeOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let amount = prop_oneof![0_u64..400, Just(u64::MAX), Just(1), Just(500)];
    let step = prop_oneof![
        5 => (0_usize..3, amount).prop_map(|(kind, amount)| Step::Reserve(kind, amount)),
        4 => (0_usize..8, 0_u64..400).prop_map(|(which, spent)| Step::Settle(which, spent)),
        1 => Just(Step::TakeOver),
    ];
    proptest::collection::vec(step, 1..40)
}

async fn assert_within(journal: &Journal, run: &cofferdam_contract::ids::RunId) {
    let spent = journal.spent(run).await.unwrap();
    assert!(spent.wall_ms <= BUDGET.wall_ms, "{spent:?}");
    assert!(spent.tool_ms <= BUDGET.tool_ms, "{spent:?}");
    assert!(spent.attempts <= BUDGET.attempts, "{spent:?}");
}

async fn play(steps: Vec<Step>) {
    let world = World::new();
    let journal = world.open().await;
    let mut hold = start(&journal, world.new_run()).await;
    let run = hold.run().clone();
    // What this test itself thinks: settled by kind, and what is open, with its holder.
    let mut settled = [0_u64; 3];
    let mut open: Vec<(ReservationId, usize, u64, u64)> = vec![];
    for step in steps {
        let ledger = journal.ledger(&hold, actor());
        match step {
            Step::Reserve(kind, amount) => {
                let aside: u64 = open.iter().filter(|it| it.1 == kind).map(|it| it.2).sum();
                let left = BUDGET.of(KINDS[kind]) - settled[kind] - aside;
                match ledger.take(KINDS[kind], amount).await {
                    Ok(id) => {
                        assert!(amount <= left);
                        open.push((id, kind, amount, hold.epoch()));
                    }
                    Err(error) => {
                        assert!(matches!(error, JournalError::BudgetExhausted { .. }), "{error}");
                        assert!(amount > left);
                    }
                }
            }
            Step::Settle(which, spent) if which < open.len() => {
                let (id, kind, amount, epoch) = open[which].clone();
                let done = ledger.close(id, spent).await;
                assert_eq!(done.is_ok(), spent <= amount && epoch == hold.epoch());
                if done.is_ok() {
                    settled[kind] += spent;
                    open.remove(which);
                }
            }
            Step::Settle(..) => {}
            Step::TakeOver => {
                drop(hold);
                hold = journal.hold(&run).await.unwrap();
            }
        }
        assert_within(&journal, &run).await;
    }
    let spent = journal.spent(&run).await.unwrap();
    let mine = |kind: usize| {
        settled[kind] + open.iter().filter(|it| it.1 == kind).map(|it| it.2).sum::<u64>()
    };
    assert_eq!([spent.wall_ms, spent.tool_ms, spent.attempts], [mine(0), mine(1), mine(2)]);
    assert!(journal.verify().await.unwrap().ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_exceeds_the_budget(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}

/// What goes with a reservation: a note and the text that it refers to.
fn page(text: &str) -> Page {
    let blob = Blob::new(redactor().redact(text.as_bytes()), Retention::Run);
    Page { events: vec![note(text)], blobs: vec![blob], cause: None }
}

/// Kinds of the events after the first, and which of the texts are kept.
async fn written(journal: &Journal, run: &RunId, texts: &[&str]) -> (Vec<String>, Vec<bool>) {
    let stored = journal.events(run, 0).await.unwrap();
    let kinds = stored[1..].iter().map(|it| it.event.body.kind().to_owned()).collect();
    let mut kept = vec![];
    for text in texts {
        kept.push(journal.blob(&Digest::of(text.as_bytes())).await.is_ok());
    }
    (kinds, kept)
}

#[tokio::test]
async fn a_page_comes_with_its_reservation_and_its_settlement_or_not_at_all() {
    let world = World::new();
    let journal = world.open().await;
    let hold = start(&journal, world.new_run()).await;
    let ledger = journal.ledger(&hold, actor());

    // A large text is written before its transaction, a small one in it: of neither a file stays.
    let large = "large ".repeat(20_000);
    for text in ["small", large.as_str()] {
        let refused = ledger.take_for(BudgetKind::ToolMs, 501, page(text)).await;
        assert!(matches!(refused, Err(JournalError::BudgetExhausted { .. })));
    }
    let (kinds, kept) = written(&journal, hold.run(), &["small", &large]).await;
    assert_eq!(kinds, ["budget.exhausted", "budget.exhausted"]);
    assert_eq!(kept, [false, false]);

    let taken = ledger.take_for(BudgetKind::ToolMs, 500, page(&large)).await.unwrap();
    let over = ledger.close_with(taken.clone(), 501, page("over")).await;
    assert!(matches!(over, Err(JournalError::OverSettled { .. })));
    ledger.close_with(taken, 7, page("outcome")).await.unwrap();
    let (kinds, kept) = written(&journal, hold.run(), &[&large, "outcome"]).await;
    let expected = [
        "budget.exhausted",
        "budget.exhausted",
        "budget.reserved",
        "run.checkpointed",
        "run.checkpointed",
        "budget.settled",
    ];
    assert_eq!((kinds, kept), (expected.map(str::to_owned).to_vec(), vec![true, true]));
    assert!(journal.verify().await.unwrap().ok());
    // Of the refused settlement there is no row either.
    assert_eq!(journal.prune(hold.run()).await.unwrap(), 2);
}

async fn take_and_close(ledger: &Ledger) -> Result<(), JournalError> {
    let taken = ledger.take_for(BudgetKind::ToolMs, 100, page("intent")).await?;
    ledger.close_with(taken, 7, page("outcome")).await
}

#[tokio::test]
async fn a_death_leaves_a_whole_page_or_none_of_it() {
    // Write 0 starts the run, 1 takes, 2 closes.
    let nothing: &[&str] = &[];
    let taken: &[&str] = &["budget.reserved", "run.checkpointed"];
    let closed: &[&str] =
        &["budget.reserved", "run.checkpointed", "run.checkpointed", "budget.settled"];
    for (plan, expected, spent_ms) in [
        (FaultPlan::Never, closed, 7),
        (FaultPlan::Before(1), nothing, 0),
        (FaultPlan::After(1), taken, 100),
        (FaultPlan::Before(2), taken, 100),
        (FaultPlan::After(2), closed, 7),
    ] {
        let world = World::new();
        let journal = Journal::with_faults(world.options(), plan).await.unwrap();
        let hold = start(&journal, world.new_run()).await;
        let run = hold.run().clone();
        let done = take_and_close(&journal.ledger(&hold, actor())).await;
        assert_eq!(done.is_ok(), plan == FaultPlan::Never, "{plan:?}");
        drop((journal, hold));

        let journal = world.open().await;
        let (kinds, _) = written(&journal, &run, &[]).await;
        assert_eq!(kinds, expected, "{plan:?}");
        assert_eq!(journal.spent(&run).await.unwrap().tool_ms, spent_ms, "{plan:?}");
        let report = journal.verify().await.unwrap();
        assert!(report.ok(), "{plan:?}: {:?}", report.faults);
    }
}
