//! Whether what was seen from outside proves that an attempt succeeded.
//!
//! Must never know whether it was made in a session or in a control: both are judged alike.

use crate::probe::Proof;
use crate::watch::Handed;

/// All that was seen of one attempt.
#[derive(Default)]
pub(crate) struct Seen {
    /// What it put out.
    pub(crate) said: Vec<u8>,
    pub(crate) handed: Vec<Handed>,
    /// Whether its nonce reached a listener of the host.
    pub(crate) heard: bool,
    /// Whether the host's files changed.
    pub(crate) changed: bool,
    /// Whether the host's process did.
    pub(crate) victim_touched: bool,
    /// Whether something was typed into the host's terminal.
    pub(crate) typed: bool,
    /// Whether a process that it left is there.
    pub(crate) alive: bool,
    /// Whether a program of the host did what it left for one.
    pub(crate) ran: bool,
    /// What it could not know, and what it was to deliver.
    pub(crate) canaries: Vec<String>,
    pub(crate) nonce: String,
}

impl Seen {
    fn said(&self, what: &str) -> bool {
        let what = what.as_bytes();
        !what.is_empty() && self.said.windows(what.len()).any(|at| at == what)
    }
}

/// Whether the attempt succeeded.
pub(crate) fn proven(proof: Proof, seen: &Seen) -> bool {
    match proof {
        Proof::Canary => seen.canaries.iter().any(|canary| seen.said(canary)),
        Proof::Nonce => seen.said(&seen.nonce),
        Proof::Changed => seen.changed,
        Proof::Heard => seen.heard,
        Proof::Kind(kind) => seen.handed.iter().any(|it| it.link.contains(kind)),
        Proof::Mode(mask, value) => seen.handed.iter().any(|it| it.mode & mask == value),
        Proof::Socket(family, kind, protocol) => seen
            .handed
            .iter()
            .filter_map(|it| it.socket)
            .any(|it| it.0 == family && fits(kind, it.1) && fits(protocol, it.2)),
        Proof::Differ => match seen.handed.as_slice() {
            [before, after, ..] => before.identity != after.identity,
            _ => false,
        },
        Proof::Record(field) => match seen.handed.as_slice() {
            [before, after, ..] => match (word(before, field), word(after, field)) {
                (Some(before), Some(after)) => before != after,
                _ => false,
            },
            _ => false,
        },
        Proof::Word(field, is_won) => {
            seen.handed.last().and_then(|last| word(last, field)).is_some_and(is_won)
        }
        Proof::Holds(kind) => {
            seen.handed.iter().flat_map(|it| &it.holds).any(|it| it.contains(kind))
        }
        Proof::Writable(path) => {
            seen.handed.iter().any(|it| it.is_writable && it.link.contains(path))
        }
        Proof::Victim => seen.victim_touched,
        Proof::Typed => seen.typed,
        Proof::Count(kind, least) => different(seen, kind).count() >= least,
        Proof::Bytes(least) => {
            different(seen, "").map(|it| it.bytes).fold(0, u64::saturating_add) >= least
        }
        Proof::Much(least) => seen.said.len() >= least,
        Proof::Alive => seen.alive,
        Proof::Ran => seen.ran,
    }
}

/// The objects of a kind that were handed over, each once.
fn different<'a>(seen: &'a Seen, kind: &'a str) -> impl Iterator<Item = &'a Handed> {
    let mut known = std::collections::BTreeSet::new();
    let all = seen.handed.iter().filter(move |it| it.link.contains(kind));
    all.filter(move |it| known.insert(it.identity))
}

fn fits(wanted: u32, found: u32) -> bool {
    wanted == 0 || wanted == found
}

/// A field of a record of the kernel's.
fn word<'a>(handed: &'a Handed, field: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(field)?.strip_prefix(':');
    handed.record.lines().find_map(value).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::{Seen, proven};
    use crate::probe::Proof;
    use crate::watch::Handed;

    fn record(text: &str) -> Handed {
        Handed { record: text.to_owned(), ..Handed::default() }
    }

    #[test]
    fn nothing_is_proven_by_nothing() {
        for proof in [
            Proof::Canary,
            Proof::Nonce,
            Proof::Changed,
            Proof::Heard,
            Proof::Kind("bpf"),
            Proof::Mode(0o170_000, 0o020_000),
            Proof::Socket(17, 0, 0),
            Proof::Differ,
            Proof::Record("Uid"),
            Proof::Word("Uid", |_| true),
            Proof::Holds(""),
            Proof::Writable(""),
            Proof::Victim,
            Proof::Typed,
            Proof::Count("", 1),
            Proof::Bytes(1),
            Proof::Much(1),
            Proof::Alive,
            Proof::Ran,
        ] {
            assert!(!proven(proof, &Seen::default()));
        }
    }

    #[test]
    fn what_was_handed_over_is_compared() {
        let seen = |handed| Seen { handed, ..Seen::default() };
        let (before, after) = (record("Name:\tx\nUid:\t1 1\n"), record("Name:\tx\nUid:\t0 0\n"));
        assert!(proven(Proof::Record("Uid"), &seen(vec![before.clone(), after.clone()])));
        assert!(!proven(Proof::Record("Name"), &seen(vec![before.clone(), after])));
        assert!(proven(Proof::Word("Uid", |it| it == "1 1"), &seen(vec![before])));
        let holder = Handed { holds: vec!["anon_inode:[x]".to_owned()], ..Handed::default() };
        assert!(proven(Proof::Holds("[x]"), &seen(vec![holder])));
        let file = |is_writable| {
            seen(vec![Handed { link: "/a".to_owned(), is_writable, ..Handed::default() }])
        };
        assert!(proven(Proof::Writable("/a"), &file(true)));
        assert!(!proven(Proof::Writable("/a"), &file(false)));
        let one = Handed { identity: (1, 2, 3), ..Handed::default() };
        assert!(!proven(Proof::Differ, &seen(vec![one.clone(), one.clone()])));
        assert!(proven(Proof::Differ, &seen(vec![one, Handed::default()])));
    }

    #[test]
    fn only_what_an_attempt_could_not_know_is_a_canary() {
        let mut seen = Seen {
            said: b"so nonce-1 it is".to_vec(),
            canaries: vec!["canary-1".to_owned()],
            nonce: "nonce-1".to_owned(),
            ..Seen::default()
        };
        assert!(!proven(Proof::Canary, &seen));
        assert!(proven(Proof::Nonce, &seen));
        seen.said = b"xcanary-1".to_vec();
        assert!(proven(Proof::Canary, &seen));
    }
}
