//! Redaction: every shape, near misses, and any chunking.

use cofferdam_journal::{Redactor, SecretBytes};
use proptest::prelude::*;

fn with(secrets: &[&[u8]]) -> Redactor {
    Redactor::new(secrets.iter().map(|it| SecretBytes::from(it.to_vec())).collect())
}

fn redacted(text: &str) -> String {
    with(&[b"hunter2-the-secret"]).redact_text(text).into_inner()
}

const PEM: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nAAAA\n-----END OPENSSH PRIVATE KEY-----";

/// What goes in; repeated bytes stand for tokens, so that this file holds none.
fn samples() -> Vec<String> {
    let run = |text: &str, times: usize| text.repeat(times);
    vec![
        "nothing to hide: the task-runner of a disk-based index, https://example.org/a@b".into(),
        "x hunter2-the-secret y".into(),
        "hunter2-the-secrethunter2-the-secret".into(),
        "hunter2-the-secre".into(),
        format!("ghp_{}", run("aB3", 12)),
        format!("(gho_{})", run("aB3", 12)),
        format!("github_pat_{}", run("aB_3", 12)),
        format!("glpat-{}", run("a-B3", 5)),
        format!("npm_{}", run("aB3", 12)),
        format!("pypi-{}", run("AgEI", 12)),
        format!("xoxb-{}", run("12-ab", 5)),
        format!("AIza{}", run("abcde", 7)),
        format!("key=AKIA{}", run("ABC2", 4)),
        format!("notAKIA{}", run("ABC2", 4)),
        format!("aws_secret_access_key = {}", run("aB3/", 10)),
        format!("sk-{}", run("aB3-", 8)),
        format!("\\nsk-{}", run("aB3-", 8)),
        "a desk-with-a-very-long-name-that-goes-on".into(),
        format!("Authorization: Bearer {}.", run("aB3", 8)),
        format!("authorization: BASIC {}", run("aB3=", 6)),
        "basic internationalization and bearer instruments".into(),
        format!("eyJ{}.eyJ{}.{}", run("abc", 6), run("def", 6), run("g-_", 8)),
        format!("eyJ{} is no token", run("abc", 6)),
        "https://name:password@example.org/path and https://example.org:443/x@y".into(),
        format!("before {PEM} after"),
        "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----".into(),
        "-----BEGIN RSA PRIVATE KEY-----\\nMIIE\\n-----END RSA PRIVATE KEY-----\\n".into(),
        "ghp_short npm_short sk-short AKIASHORT".into(),
    ]
}

#[test]
fn every_shape_and_its_near_misses() {
    // Of what goes in only the beginning is shown, so that the table holds no token either.
    let line = |it: &String| format!("{:?}…\n    {:?}\n", it.get(..14).unwrap_or(it), redacted(it));
    let table: String = samples().iter().map(line).collect();
    insta::assert_snapshot!(table);
}

#[test]
fn of_secrets_that_overlap_no_part_stays() {
    let redactor = with(&[b"abcdef", b"defghi", b"abc1"]);
    let of = |text: &str| redactor.redact_text(text).into_inner();
    assert_eq!(of("-abcdefghi-"), "-[redacted:secret]-");
    assert_eq!(of("-abcdef-defghi-"), "-[redacted:secret]-[redacted:secret]-");
    assert_eq!(of("-abc-"), "-abc-");
}

#[test]
fn values_too_short_to_be_secret_are_not_looked_for() {
    assert_eq!(with(&[b"a", b"", b"abc"]).redact_text("abc").into_inner(), "abc");
}

#[test]
fn a_key_without_an_end_hides_only_so_much() {
    let text = format!("-----BEGIN PRIVATE KEY-----{}{}", "A".repeat(40_000), " the end");
    let left = redacted(&text);
    assert!(left.starts_with("[redacted:private-key]") && left.ends_with(" the end"));
    assert!(left.len() > 7_000 && left.len() < 9_000, "{}", left.len());
}

#[test]
fn what_is_decided_can_be_taken_at_once() {
    let mut stream = with(&[b"secret-value"]).stream();
    stream.push(b"plain text, then secret-");
    assert_eq!(stream.take().get(), b"plain text, then ");
    stream.push(b"value and mod");
    assert_eq!(stream.take().get(), b"[redacted:secret] and mod");
    stream.push(b" secret-");
    assert_eq!(stream.finish().get(), b" secret-");
}

/// Pieces of tokens in any order: what comes of it is often a token, and often nearly one.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let samples: Vec<Vec<u8>> = samples().into_iter().map(String::into_bytes).collect();
    let whole = proptest::sample::select(samples.clone());
    let part = (proptest::sample::select(samples), any::<prop::sample::Index>())
        .prop_map(|(text, at)| text[at.index(text.len())..].to_vec());
    let noise = proptest::collection::vec(any::<u8>(), 0..8);
    let piece = prop_oneof![3 => whole, 3 => part, 1 => noise];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_gives_the_same(text in text(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let redactor = with(&[b"hunter2-the-secret", b"secret y", b"\xff\xfe\xfd\xfc"]);
        let whole = redactor.redact(&text).into_inner();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let (mut stream, mut parts) = (redactor.stream(), vec![]);
        for cut in cuts.windows(2) {
            stream.push(&text[cut[0]..cut[1]]);
            parts.extend(stream.take().into_inner());
        }
        parts.extend(stream.finish().into_inner());
        prop_assert_eq!(String::from_utf8_lossy(&parts), String::from_utf8_lossy(&whole));
        // Byte by byte is the hardest.
        let mut stream = redactor.stream();
        text.iter().for_each(|byte| stream.push(&[*byte]));
        prop_assert_eq!(stream.finish().into_inner(), whole);
    }

    #[test]
    fn a_known_secret_never_stays(before in text(), after in text()) {
        let secret = b"hunter2-the-secret";
        let text = [before.as_slice(), secret, &after].concat();
        let left = with(&[secret]).redact(&text).into_inner();
        prop_assert!(!left.windows(secret.len()).any(|part| part == secret));
    }
}
