//! What parses prints the same, and what does not parse is refused: ids, paths, times, digests.

use std::sync::atomic::{AtomicU64, Ordering};

use cofferdam_contract::digest::{Digest, ObjectId, hex, unhex};
use cofferdam_contract::ids::{CallId, PrincipalId, RunId, SessionId};
use cofferdam_contract::path::{InvalidPath, PATH_BYTES_MAX, RepoPath};
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::time::UtcTime;
use cofferdam_contract::trace::{SpanId, TraceId};
use proptest::prelude::*;

struct At(u64);

impl Clock for At {
    fn now(&self) -> UtcTime {
        UtcTime::from_unix_ms(self.0)
    }
}

struct Counter(AtomicU64);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let next = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            chunk.copy_from_slice(&next.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[test]
fn one_id_is_never_taken_for_another() {
    let run = "run_01arz3ndektsv4rrffq69g5fav";
    assert!(run.parse::<RunId>().is_ok());
    assert!(run.parse::<SessionId>().is_err());
    assert!(run.parse::<CallId>().is_err());
    let refused = [
        "",
        "run_",
        "run",
        "01arz3ndektsv4rrffq69g5fav",
        "run_01arz3ndektsv4rrffq69g5fa",
        "run_01arz3ndektsv4rrffq69g5favv",
        "run_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "run_81arz3ndektsv4rrffq69g5fav",
        "run_01arz3ndektsv4rrffq69g5fai",
        "run_01arz3ndektsv4rrffq69g5fal",
        "run_01arz3ndektsv4rrffq69g5fao",
        "run_01arz3ndektsv4rrffq69g5fau",
        "run_../../etc/passwd_0000000000",
        " run_01arz3ndektsv4rrffq69g5fav",
        "run_01arz3ndektsv4rrffq69g5fa\n",
    ];
    for text in refused {
        assert!(text.parse::<RunId>().is_err(), "{text:?}");
        assert!(serde_json::from_value::<RunId>(text.into()).is_err(), "{text:?}");
    }
}

#[test]
fn times_are_utc_or_refused() {
    let good = ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5Z", "1970-01-01T00:00:00.000Z"];
    for text in good {
        assert!(text.parse::<UtcTime>().is_ok(), "{text}");
    }
    let refused = [
        "",
        "Z",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00+00:00",
        "2026-01-31T12:00:00+02:00",
        "2026-01-31T12:00:00z",
        "2026-01-31 12:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "1969-12-31T23:59:59Z",
        "2026-01-31T12:00:00-00:00Z",
        "now",
    ];
    for text in refused {
        assert!(text.parse::<UtcTime>().is_err(), "{text}");
    }
}

#[test]
fn trace_ids_are_not_zero() {
    for text in ["0".repeat(32), "0".repeat(31), "A".repeat(32), String::new(), "1".repeat(33)] {
        assert!(TraceId::try_from(text.clone()).is_err(), "{text}");
    }
    assert!(TraceId::try_from("1".repeat(32)).is_ok());
    assert!(SpanId::try_from("0".repeat(16)).is_err());
    assert!(SpanId::try_from("1".repeat(16)).is_ok());
}

#[test]
fn paths_stay_inside_the_repository() {
    let refused: [&[u8]; 14] = [
        b"/etc/passwd",
        b"..",
        ".".as_bytes(),
        b"a/../b",
        b"a/./b",
        b"a//b",
        b"a/",
        b"/",
        b"../a",
        b"a/..",
        b"a\0b",
        b"\0",
        b"//",
        b"./a",
    ];
    for bytes in refused {
        assert_eq!(RepoPath::new(bytes), Err(InvalidPath::Component), "{bytes:?}");
    }
    assert_eq!(RepoPath::new(b""), Err(InvalidPath::Length));
    assert_eq!(RepoPath::new(vec![b'a'; PATH_BYTES_MAX + 1]), Err(InvalidPath::Length));
    assert!(RepoPath::new(vec![b'a'; PATH_BYTES_MAX]).is_ok());
    for bytes in [&b"..."[..], b".git", b"a\nb", b"\xff", b"-rf", b" ", b"a..b/c"] {
        assert!(RepoPath::new(bytes).is_ok(), "{bytes:?}");
    }
}

#[test]
fn beneath_means_whole_components() {
    let path = |text: &str| RepoPath::new(text).unwrap();
    assert!(path("src/lib.rs").is_beneath(&path("src")));
    assert!(path("src").is_beneath(&path("src")));
    assert!(!path("src-old/lib.rs").is_beneath(&path("src")));
    assert!(!path("src").is_beneath(&path("src/lib.rs")));
}

proptest! {
    #[test]
    fn made_ids_parse_back_and_sort_by_time(early in 0_u64..1 << 47, later in 1_u64..1 << 40, seed in any::<u64>()) {
        let entropy = Counter(AtomicU64::new(seed));
        let one = RunId::generate(&At(early), &entropy);
        let other = RunId::generate(&At(early + later), &entropy);
        prop_assert_eq!(one.as_str().parse::<RunId>().unwrap(), one.clone());
        prop_assert_ne!(&one, &other);
        // The time of an id is bounded by the year 9999, as every time is.
        if early + later < 253_402_300_799_999 {
            prop_assert!(one < other);
        }
        let json = serde_json::to_string(&one).unwrap();
        prop_assert_eq!(serde_json::from_str::<RunId>(&json).unwrap(), one);
    }

    #[test]
    fn ids_are_safe_in_file_names_branches_and_urls(seed in any::<u64>(), ms in any::<u64>()) {
        let id = SessionId::generate(&At(ms), &Counter(AtomicU64::new(seed)));
        prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    }

    #[test]
    fn times_print_what_they_parse(ms in 0_u64..253_402_300_799_999) {
        let time = UtcTime::from_unix_ms(ms);
        let text = time.to_string();
        prop_assert_eq!(text.parse::<UtcTime>().unwrap(), time);
        prop_assert!(text.ends_with('Z') && text.len() == 24);
    }

    #[test]
    fn times_sort_as_text(one in 0_u64..253_402_300_799_999, other in 0_u64..253_402_300_799_999) {
        let (one, other) = (UtcTime::from_unix_ms(one), UtcTime::from_unix_ms(other));
        prop_assert_eq!(one.cmp(&other), one.to_string().cmp(&other.to_string()));
    }

    #[test]
    fn no_arithmetic_leaves_the_calendar(ms in any::<u64>(), plus in any::<u64>()) {
        let later = UtcTime::from_unix_ms(ms).plus_ms(plus);
        prop_assert_eq!(later.to_string().parse::<UtcTime>().unwrap(), later);
    }

    #[test]
    fn digests_print_what_they_parse(bytes in any::<[u8; 32]>()) {
        let digest = Digest::from_bytes(bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        prop_assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
        prop_assert!(digest.hex().parse::<Digest>().is_err());
        prop_assert_eq!(unhex(&hex(&bytes)).unwrap(), bytes.to_vec());
    }

    #[test]
    fn any_text_parses_to_itself_or_not_at_all(text in "\\PC{0,80}") {
        if let Ok(it) = text.parse::<RunId>() { prop_assert_eq!(it.to_string(), text.clone()); }
        if let Ok(it) = text.parse::<Digest>() { prop_assert_eq!(it.to_string(), text.clone()); }
        if let Ok(it) = text.parse::<ObjectId>() { prop_assert_eq!(it.to_string(), text.clone()); }
        if let Ok(it) = text.parse::<PrincipalId>() { prop_assert_eq!(it.to_string(), text.clone()); }
        if let Some(bytes) = unhex(&text) { prop_assert_eq!(hex(&bytes), text.clone()); }
        let _ = text.parse::<UtcTime>();
    }

    #[test]
    fn object_ids_are_whole(text in "[0-9a-f]{0,70}") {
        prop_assert_eq!(text.parse::<ObjectId>().is_ok(), matches!(text.len(), 40 | 64));
    }

    #[test]
    fn paths_survive_json_whatever_their_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(path) = RepoPath::new(bytes.clone()) {
            let json = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<RepoPath>(&json).unwrap(), path.clone());
            prop_assert_eq!(path.as_bytes(), bytes);
            prop_assert!(path.components().all(|part| !matches!(part, b"" | b"." | b"..")));
            prop_assert!(path.is_beneath(&path));
        }
    }

    #[test]
    fn principals_are_one_printable_word(text in "\\PC{0,20}") {
        let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        prop_assert_eq!(text.parse::<PrincipalId>().is_ok(), fits);
    }
}
