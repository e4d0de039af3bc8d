//! Invariant 7: a budget is reserved before it is spent, and no call exceeds it.

use super::{events, newest};
use crate::world::{World, text};

/// A profile with this budget and these limits.
fn budget(world: &World, budget: &str, limits: &str) {
    let text = format!("[budget]\n{budget}\n[limits]\n{limits}\n[gate]\ndetect = false\n");
    world.configure("profiles/tight.toml", &text);
}

fn run(world: &World, script: &str, code: i32) -> serde_json::Value {
    let args = ["run", "--json", "--profile", "tight", "--", "sh", "-c", script];
    world.run(&args).object(code)
}

fn code(run: &serde_json::Value) -> &str {
    text(&run["problem"], "code")
}

#[test]
fn wall_time_of_an_agent_that_does_not_end() {
    let world = World::new();
    budget(&world, "wall_ms = 1000", "");
    let ended = run(&world, "trap '' TERM INT HUP; touch a; while :; do :; done", 5);
    assert_eq!((text(&ended, "state"), code(&ended)), ("out_of_budget", "budget_exhausted"));
    assert!(ended["cost"]["wall_ms"].as_u64().unwrap() <= 1000, "{ended}");
    budget(&world, "wall_ms = 600000", "");
    run(&world, "touch a; :", 0);
}

#[test]
fn tool_time_of_one_call() {
    let world = World::new();
    budget(&world, "tool_ms = 1000", "call_timeout_ms = 1000");
    let ended = run(&world, "touch a; exec sleep 600", 5);
    assert!(ended["cost"]["tool_ms"].as_u64().unwrap() <= 1000, "{ended}");
    budget(&world, "tool_ms = 60000", "call_timeout_ms = 60000");
    run(&world, "echo 1 > a", 0);
}

#[test]
fn a_longer_time_out_than_the_limit() {
    let world = World::new();
    budget(&world, "", "call_timeout_ms = 500");
    let exec = |timeout: &str| {
        let args = ["exec", "--profile", "tight", "--timeout", timeout, "--json", "--"];
        let called = world.run(&[&args[..], &["sleep", "5"]].concat()).object(124);
        called["timed_out"] == true
    };
    assert!(exec("10h"));
    assert!(exec("100ms"), "the control: a shorter one counts as well");
}

/// Calls in one session until the budget says no, and how many came before.
fn calls_until_refused(world: &World, most: usize) -> usize {
    world.run(&["session", "start", "--profile", "tight"]).expect(0);
    let args = ["session", "exec", "--timeout", "1s", "--", "sleep", "600"];
    let done = (0..most).take_while(|_| match world.run(&args).code {
        Some(124) => true,
        Some(125) => false,
        other => panic!("{other:?}"),
    });
    let count = done.count();
    world.run(&["session", "end"]).expect(0);
    count
}

#[test]
fn tool_time_over_many_calls() {
    let world = World::new();
    budget(&world, "tool_ms = 2500", "");
    assert_eq!(calls_until_refused(&world, 4), 2);
    let shown = world.run(&["show", "--json", &newest(&world)]).object(0);
    // The third had what was left, and was ended by it.
    assert_eq!(
        (&shown["cost"]["tool_ms"], events(&world, "call.started").len()),
        (&2500.into(), 3)
    );
    budget(&world, "tool_ms = 60000", "");
    assert_eq!(calls_until_refused(&world, 4), 4);
}

/// How many of eight calls at once were let through, each of up to a second.
fn at_once(world: &World) -> usize {
    world.run(&["session", "start", "--profile", "tight"]).expect(0);
    let barrier = std::sync::Barrier::new(8);
    let call = || {
        barrier.wait();
        let args = ["session", "exec", "--timeout", "1s", "--", "sleep", "600"];
        world.run(&args).code == Some(124)
    };
    let through = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|it| it.join().unwrap()).filter(|it| *it).count()
    });
    world.run(&["session", "end"]).expect(0);
    assert_eq!(events(world, "call.started").len(), through, "a refused call starts nothing");
    through
}

#[test]
fn tool_time_of_many_calls_at_once() {
    let world = World::new();
    budget(&world, "tool_ms = 3000", "");
    let through = at_once(&world);
    assert!((1..=3).contains(&through), "{through}");
    budget(&world, "tool_ms = 600000", "");
    assert_eq!(at_once(&world), 8);
}

#[test]
fn no_time_at_all() {
    let world = World::new();
    for nothing in ["wall_ms = 0", "tool_ms = 0", "attempts = 0"] {
        budget(&world, nothing, "");
        let done = world.run(&["run", "--profile", "tight", "--", "touch", "a"]);
        assert!(matches!(done.code, Some(2 | 5)), "{nothing}: {done:?}");
        let started = done.code == Some(5) && !events(&world, "call.started").is_empty();
        assert!(!started, "{nothing}: {done:?}");
    }
    budget(&world, "attempts = 1", "");
    run(&world, "echo 1 > a", 0);
}

#[test]
fn asking_for_more_wall_time_than_the_profile_gives() {
    let world = World::new();
    budget(&world, "wall_ms = 1000", "");
    let args = ["run", "--json", "--profile", "tight", "--wall-time", "10h", "--", "sleep", "5"];
    let done = world.run(&args);
    assert!(matches!(done.code, Some(2 | 3 | 5)), "{done:?}");
    budget(&world, "wall_ms = 600000", "");
    let args = ["run", "--profile", "tight", "--wall-time", "10m", "--", "sh", "-c", "echo 1 > a"];
    world.run(&args).expect(0);
}

#[test]
fn a_base_commit_that_asks_for_more() {
    let world = World::new();
    budget(&world, "tool_ms = 2500", "");
    let rules = |tool_ms: u32| {
        let text = format!("[budget]\ntool_ms = {tool_ms}\n");
        std::fs::write(world.cwd.join(".cofferdam.toml"), text).unwrap();
        world.commit("rules");
    };
    rules(600_000);
    assert_eq!(calls_until_refused(&world, 4), 2);
    rules(1500);
    assert_eq!(calls_until_refused(&world, 4), 1, "the control: it can ask for less");
}

#[test]
fn output_without_end() {
    let world = World::new();
    budget(&world, "", "output_bytes = 65536");
    let args = |count: &'static str| {
        ["exec", "--json", "--profile", "tight", "--", "head", "-c", count, "/dev/zero"]
    };
    let called = world.run(&args("50000000")).object(0);
    assert_eq!((text(&called, "stdout").len(), &called["truncated"]), (65536, &true.into()));
    let called = world.run(&args("60000")).object(0);
    assert_eq!((text(&called, "stdout").len(), &called["truncated"]), (60000, &false.into()));
}

#[test]
fn what_a_call_leaves_behind() {
    let world = World::new();
    world.run(&["session", "start"]).expect(0);
    let exec = |script: &str| world.run(&["session", "exec", "--", "sh", "-c", script]);
    let stray = "rm -f /tmp/stray; setsid sh -c 'echo $$ > /tmp/stray; exec sleep 600' >/dev/null 2>&1 & \
                 until test -s /tmp/stray; do :; done";
    exec(stray).expect(0);
    exec("kill -0 $(cat /tmp/stray)").expect(1);
    // The control: within the call it was there.
    exec(&format!("{stray}; kill -0 $(cat /tmp/stray)")).expect(0);
}
