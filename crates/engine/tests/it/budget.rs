//! Invariant 7 at its border: the last of a budget can be spent, and not a millisecond more.

use std::sync::Arc;

use cofferdam_contract::events::CallEnd;
use cofferdam_contract::problem::Code;
use cofferdam_contract::request::DriverRequest;
use cofferdam_engine::{Attached, Engine, Unobserved};
use cofferdam_tools::CallRequest;

use crate::world::{Death, World};

const TOOL_MS: u64 = 1000;

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.profile.budget.tool_ms = TOOL_MS;
    world
}

async fn attached(world: &World) -> (Engine, Attached) {
    let engine = world.boot(Death::NONE).await.unwrap();
    let mut request = world.request(&["nothing"]);
    request.driver = DriverRequest::Attached {};
    let session = engine.attach(request, Arc::new(Unobserved)).await.unwrap();
    (engine, session)
}

fn spend(ms: u64, timeout_ms: Option<u64>) -> CallRequest {
    let input = serde_json::json!({ "executable": "spend", "args": [ms.to_string()] });
    CallRequest { timeout_ms, ..CallRequest::new("exec", input) }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_time_out_can_spend_the_whole_budget_and_no_more() {
    let world = world(31);
    let (engine, session) = attached(&world).await;
    let spent = async || engine.show(session.run()).await.unwrap().cost.tool_ms;
    // Each asks for the longest that a call may take, which is more than the whole budget.
    for ms in [700, 200, 99] {
        let report = session.call(spend(ms, None)).await.unwrap();
        assert_eq!(report.outcome.end, CallEnd::Exited);
    }
    assert_eq!(spent().await, 999);
    // Its own time limit is not the budget's.
    let late = session.call(spend(5, Some(0))).await.unwrap();
    assert_eq!((late.outcome.end, spent().await), (CallEnd::TimedOut, 999));
    let over = session.call(spend(2, None)).await.unwrap_err();
    assert_eq!((over.code, spent().await), (Code::BudgetExhausted, TOOL_MS));
    let refused = session.call(spend(1, None)).await.unwrap_err();
    assert_eq!((refused.code, spent().await), (Code::BudgetExhausted, TOOL_MS));
    session.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_spends_more_than_there_is_ends_its_run_out_of_budget() {
    for (ms, state, spent) in [(999, "unchanged", 999), (1001, "out_of_budget", 1000)] {
        let world = world(32);
        let engine = world.boot(Death::NONE).await.unwrap();
        let run = engine.admit(world.request(&["spend", &ms.to_string()])).await.unwrap().run;
        let view = engine.advance(&run, Arc::new(Unobserved)).await.unwrap();
        assert_eq!((view.state.as_str(), view.cost.tool_ms), (state, spent), "{ms}");
    }
}
