//! The chain as another verifier would compute it: SHA-256 over length-prefixed parts.

use cofferdam_contract::chain;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

fn run() -> RunId {
    "run_01arz3ndektsv4rrffq69g5fav".parse().unwrap()
}

/// Written apart from the code under test: each part after its length in eight bytes.
fn by_hand(parts: &[&[u8]]) -> Digest {
    let mut input = vec![];
    for part in parts {
        input.extend((part.len() as u64).to_be_bytes());
        input.extend(*part);
    }
    Digest::from_bytes(Sha256::digest(&input).into())
}

#[test]
fn links_are_what_the_documentation_says() {
    let run = run();
    let genesis = by_hand(&[b"cofferdam run chain v1", run.as_str().as_bytes()]);
    assert_eq!(chain::run_genesis(&run), genesis);
    let link = by_hand(&[genesis.as_bytes(), &7_u64.to_be_bytes(), b"stored"]);
    assert_eq!(chain::event_link(&genesis, 7, b"stored"), link);
    let heads = by_hand(&[b"cofferdam head chain v1"]);
    assert_eq!(chain::heads_genesis(), heads);
    assert_eq!(chain::head_link(&heads, b"statement"), by_hand(&[heads.as_bytes(), b"statement"]));
    insta::assert_snapshot!(format!("{genesis}\n{link}\n{heads}"));
}

#[test]
fn a_digest_is_what_sha256sum_says() {
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Digest::of(b"").to_string(), empty);
}

fn fold(run: &RunId, events: &[Vec<u8>]) -> Digest {
    let start = chain::run_genesis(run);
    (0..).zip(events).fold(start, |link, (at, bytes)| chain::event_link(&link, at, bytes))
}

proptest! {
    #[test]
    fn any_edit_drop_swap_or_move_changes_the_last_link(
        events in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 2..12),
        at in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let before = fold(&run(), &events);
        prop_assert_eq!(before, fold(&run(), &events.clone()), "the control");
        let (at, to) = (at.index(events.len()), to.index(events.len()));

        let mut edited = events.clone();
        edited[at].push(byte);
        prop_assert_ne!(before, fold(&run(), &edited));
        let mut dropped = events.clone();
        dropped.remove(at);
        prop_assert_ne!(before, fold(&run(), &dropped));
        let mut swapped = events.clone();
        swapped.swap(at, to);
        prop_assert_eq!(before == fold(&run(), &swapped), swapped == events);
        // Bytes that move from one event into the next.
        let mut moved = events.clone();
        if at + 1 < moved.len() && !moved[at].is_empty() {
            let last = moved[at].pop().unwrap();
            moved[at + 1].insert(0, last);
            prop_assert_ne!(before, fold(&run(), &moved));
        }
        let other = "run_01arz3ndektsv4rrffq69g5faw".parse().unwrap();
        prop_assert_ne!(before, fold(&other, &events));
    }

    #[test]
    fn no_two_lists_of_parts_are_the_same(
        one in proptest::collection::vec(proptest::collection::vec(0_u8..3, 0..4), 0..4),
        other in proptest::collection::vec(proptest::collection::vec(0_u8..3, 0..4), 0..4),
    ) {
        let of = |parts: &[Vec<u8>]| {
            Digest::of_parts(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        prop_assert_eq!(of(&one) == of(&other), one == other);
    }
}
