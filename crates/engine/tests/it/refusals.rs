//! What ends before it began, and what was not answered in time.

use std::sync::Arc;

use cofferdam_contract::budget::Budget;
use cofferdam_contract::events::{EventBody, RunEvent};
use cofferdam_contract::problem::Code;
use cofferdam_engine::Unobserved;

use crate::flow::{approve, command};
use crate::world::{Death, World};

#[tokio::test(flavor = "multi_thread")]
async fn what_policy_refuses_at_admission_is_recorded_and_what_is_mistaken_is_not() {
    let world = World::new(31);
    let engine = world.boot(Death::NONE).await.unwrap();
    let mut greedy = world.request(&["nothing"]);
    let table = world.profile.budget;
    let (wall_ms, tool_ms) = (table.wall_ms, table.tool_ms);
    greedy.budget = Some(Budget { wall_ms, tool_ms, attempts: table.attempts + 1 });
    let refused = engine.admit(greedy).await.unwrap_err();
    assert_eq!(refused.code, Code::PolicyDenied);
    let rows = engine.runs().await.unwrap();
    assert_eq!((rows.len(), rows[0].state.as_str()), (1, "refused"));
    let view = engine.show(&rows[0].run).await.unwrap();
    assert_eq!(view.problem.as_ref(), Some(&refused));
    let events = engine.events(&rows[0].run, 0).await.unwrap();
    assert!(
        matches!(&events[..], [only] if matches!(only.body, EventBody::Run(RunEvent::Ended(_))))
    );
    // It is in the chain of heads, and there is nothing more to be done with it.
    assert!(engine.verify_journal().await.unwrap().ok());
    assert_eq!(engine.parts().journal.heads(&rows[0].run).await.unwrap().len(), 1);
    let stop = command(&engine, &rows[0].run, cofferdam_engine::Command::Stop {}).await;
    assert_eq!(stop.unwrap_err().code, Code::NotInState);
    // The controls: a mistake is no refusal, and what is allowed is admitted.
    let mut mistaken = world.request(&["nothing"]);
    mistaken.repository.base = "no-such-branch".to_owned();
    assert_eq!(engine.admit(mistaken).await.unwrap_err().code, Code::RevisionUnknown);
    assert_eq!(engine.runs().await.unwrap().len(), 1);
    engine.admit(world.request(&["nothing"])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_ends_the_run_before_it_writes() {
    let world = World::new(32);
    let engine = world.boot(Death::NONE).await.unwrap();
    let with_deadline = |ms: u64| {
        let mut request = world.request(&["write", "file.txt", "two\n"]);
        request.deadline_utc = Some(request.timestamp_utc.plus_ms(ms));
        request
    };
    let run = engine.admit(with_deadline(60_000)).await.unwrap().run;
    world.pass(120_000);
    let view = engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
    assert_eq!(view.state, "expired");
    assert_eq!(view.problem.map(|it| it.code), Some(Code::DeadlinePassed));
    let late = with_deadline(60_000);
    world.pass(120_000);
    assert_eq!(engine.admit(late).await.unwrap_err().code, Code::DeadlinePassed);
    // The control: one that has not passed.
    let run = engine.admit(with_deadline(3_600_000)).await.unwrap().run;
    let view = engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
    assert_eq!(view.state, "awaiting_approval");
    // A proposal that was not answered by then is not applied either.
    world.pass(7_200_000);
    let late = command(&engine, &run, approve(&view)).await;
    assert!(late.is_err() || late.unwrap().view.state == "expired");
    assert_eq!(engine.show(&run).await.unwrap().state, "expired");
    assert!(world.git(&["branch", "--list", "cofferdam/*"]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_has_expired_is_not_counted_and_can_be_given_again() {
    let mut world = World::new(33);
    world.profile.approval.required = 2;
    let engine = world.boot(Death::NONE).await.unwrap();
    let run = engine.admit(world.request(&["write", "file.txt", "two\n"])).await.unwrap().run;
    let view = engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
    let give = async || command(&engine, &run, approve(&view)).await.unwrap();
    assert!(!give().await.already);
    let again = give().await;
    assert_eq!((again.already, again.view.approvals.len()), (true, 1), "control: it stands");
    world.pass(world.profile.approval.expires_after_ms + 1);
    let renewed = give().await;
    assert_eq!((renewed.already, renewed.view.approvals.len()), (false, 2));
    // Two of one person, one of them too old, are not two people.
    assert_eq!(renewed.view.state, "awaiting_approval");
    assert!(world.git(&["branch", "--list", "cofferdam/*"]).is_empty());
}
