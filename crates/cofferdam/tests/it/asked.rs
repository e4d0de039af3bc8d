//! The question: asked on a terminal, answered there, and nowhere else.

use crate::terminal::answered;
use crate::world::{World, text};

const QUESTION: &str = "apply exactly sha256:";

fn branches(world: &World) -> String {
    world.git(&["branch", "--list", "cofferdam/*"])
}

#[test]
fn review_asks_and_a_yes_applies_exactly_what_was_shown() {
    let world = World::new();
    let run = world.edit("echo goodbye > greeting.txt");
    for (answer, applied) in [("n\n", false), ("\n", false), ("maybe\n", false), ("y\n", true)] {
        let seen = answered(&world, &["review"], answer);
        assert!(seen.contains(QUESTION) && seen.contains(text(&run, "digest")), "{seen}");
        assert_eq!(!branches(&world).is_empty(), applied, "{answer:?}: {seen}");
    }
    let shown = world.run(&["show", "--json"]).object(0);
    assert_eq!(text(&shown, "state"), "applied");
    // Once it is applied there is nothing to ask.
    assert!(!answered(&world, &["review"], "y\n").contains(QUESTION));
}

#[test]
fn run_asks_and_what_escalates_asks_in_spite_of_yes() {
    let world = World::new();
    let run = |more: &[&str], script: &str, answer: &str| {
        let args = [&["run", "--task", "t"], more, &["--", "sh", "-c", script]].concat();
        let seen = answered(&world, &args, answer);
        let shown = world.run(&["show", "--json"]).object(0);
        (seen.contains(QUESTION), text(&shown, "state").to_owned())
    };
    let state = |state: &str| state.to_owned();
    assert_eq!(run(&[], "echo 1 > a", "n\n"), (true, state("awaiting_approval")));
    assert_eq!(run(&[], "echo 1 > a", "y\n"), (true, state("applied")));
    assert_eq!(run(&["--yes"], "echo 1 > a", ""), (false, state("applied")));
    let escalates = "mkdir -p .github/workflows; echo 'on: push' > .github/workflows/x.yml";
    assert_eq!(run(&["--yes"], escalates, "y\n"), (true, state("applied")));
    assert_eq!(run(&[], "true", ""), (false, state("unchanged")));
}

#[test]
fn nobody_is_asked_where_nobody_sits() {
    let world = World::new();
    world.edit("echo goodbye > greeting.txt");
    // A yes on a pipe is nobody's, and neither is one beside an object.
    let piped = world.run_with(b"y\n", &["review"]).expect(0);
    assert!(!piped.contains(QUESTION) && piped.contains("cofferdam approve"), "{piped}");
    assert!(!answered(&world, &["review", "--json"], "y\n").contains(QUESTION));
    assert_eq!(branches(&world), "");
}
