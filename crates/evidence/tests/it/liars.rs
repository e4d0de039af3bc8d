//! The signer itself lies: the events are chained and signed, but cannot have been so.

use cofferdam_contract::check::Verdict;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{
    ApprovalEvent, BaseCommit, EffectEvent, EffectIntent, EventBody, Rechecking, RunEvent,
};
use cofferdam_contract::time::UtcTime;
use cofferdam_evidence::Patch;

use crate::fixture::{Made, PATCH, TestSigner, bodies, object};

/// The places of the events that are lied about.
const CHECKED: usize = 5;
const GRANTED: usize = 6;
const CLEARED: usize = 7;
const INTENDED: usize = 8;

fn after(lie: impl FnOnce(&mut Vec<EventBody>)) -> Vec<&'static str> {
    let mut bodies = bodies(&TestSigner::new(1));
    let honest = Made::of(&bodies, Some(Patch::Full(PATCH)));
    assert!(honest.failing().is_empty());
    lie(&mut bodies);
    Made::of(&bodies, Some(Patch::Full(PATCH))).failing()
}

fn checked(bodies: &mut [EventBody]) -> &mut cofferdam_contract::events::Checked {
    match &mut bodies[CHECKED] {
        EventBody::Run(RunEvent::Checked(checked)) => checked,
        _ => panic!("not where it was"),
    }
}

#[test]
fn a_digest_that_is_not_of_its_five_parts() {
    let failing = after(|it| checked(it).digest = Digest::of(b"other"));
    assert!(failing.contains(&"proposal"));
}

#[test]
fn each_of_the_five_parts_counts() {
    let lies: [fn(&mut cofferdam_contract::proposal::Proposal); 5] = [
        |it| it.base = object('e'),
        |it| it.tree = object('e'),
        |it| it.patch = Digest::of(b"e"),
        |it| it.policy_version = Digest::of(b"e"),
        |it| it.checks = Digest::of(b"e"),
    ];
    for lie in lies {
        assert!(after(|it| lie(&mut checked(it).proposal)).contains(&"proposal"));
    }
}

#[test]
fn a_finding_taken_out_of_the_report() {
    let failing = after(|it| checked(it).report.checks[0].findings.clear());
    assert_eq!(failing, ["proposal"]);
}

#[test]
fn an_approval_of_something_else() {
    let failing = after(|it| match &mut it[GRANTED] {
        EventBody::Approval(ApprovalEvent::Granted(approval)) => {
            approval.proposal = Digest::of(b"other");
        }
        _ => panic!("not where it was"),
    });
    assert_eq!(failing, ["approval", "effects"]);
}

#[test]
fn an_approval_that_was_never_given() {
    let failing = after(|it| drop(it.remove(GRANTED)));
    assert_eq!(failing, ["approval", "effects"]);
}

#[test]
fn an_approval_from_before_the_recheck() {
    let failing = after(|it| {
        let again = it[CHECKED].clone();
        let base = BaseCommit { commit: object('a'), tree: object('d'), branch: None };
        let moved = Rechecking { base, tree: object('b'), reason: "moved".to_owned() };
        it.insert(CHECKED + 1, EventBody::Run(RunEvent::Rechecking(moved)));
        let granted = it.remove(GRANTED + 1);
        it.insert(CHECKED + 2, granted);
        it.insert(CHECKED + 3, again);
    });
    assert_eq!(failing, ["approval"]);
}

#[test]
fn a_clearance_with_a_forged_signature_or_verdict() {
    for lie in [|it: &mut String| it.replace_range(0..2, "ff"), |it: &mut String| it.clear()] {
        let failing = after(|bodies| match &mut bodies[CLEARED] {
            EventBody::Approval(ApprovalEvent::Cleared(clearance)) => lie(&mut clearance.signature),
            _ => panic!("not where it was"),
        });
        assert_eq!(failing, ["approval"]);
    }
}

#[test]
fn another_tree_or_base_than_the_approved_one() {
    for place in ["base", "tree"] {
        let failing = after(|it| match &mut it[INTENDED] {
            EventBody::Effect(EffectEvent::Intended(EffectIntent::Apply {
                base, tree, ..
            })) => {
                *(if place == "base" { base } else { tree }) = object('e');
            }
            _ => panic!("not where it was"),
        });
        assert_eq!(failing, ["effects"], "{place}");
    }
}

#[test]
fn an_effect_without_its_intent() {
    assert_eq!(after(|it| drop(it.remove(INTENDED))), ["effects"]);
}

#[test]
fn something_applied_that_was_never_proposed() {
    let failing = after(|it| drop(it.remove(CHECKED)));
    assert!(failing.contains(&"effects"));
}

#[test]
fn an_effect_that_was_completed_twice() {
    let failing = after(|it| {
        let completed = it[INTENDED + 1].clone();
        it.push(completed);
    });
    assert_eq!(failing, ["effects"]);
}

#[test]
fn an_approval_that_had_expired() {
    let until = |it: &mut Vec<EventBody>, ms| match &mut it[GRANTED] {
        EventBody::Approval(ApprovalEvent::Granted(approval)) => {
            approval.expires_at_utc = Some(UtcTime::from_unix_ms(ms));
        }
        _ => panic!("not where it was"),
    };
    // The effect was intended at the eighth millisecond.
    assert_eq!(after(|it| until(it, 7)), ["effects"]);
    assert!(after(|it| until(it, 8)).is_empty());
}

#[test]
fn a_change_that_the_gate_had_refused() {
    let failing = after(|it| checked(it).report.verdict = Verdict::Fail);
    assert_eq!(failing, ["proposal", "effects"]);
}
