//! What text names a grant, and what never does.

use std::fmt::Write as _;

use cofferdam_contract::grant::{GrantKind, GrantWish};
use cofferdam_contract::problem::Problem;
use proptest::prelude::*;

#[test]
fn what_names_a_grant() {
    let long = format!("read:/{}", "x".repeat(5000));
    let mut table = String::new();
    for text in [
        "read:/srv/data",
        "read:/srv/data set:2",
        "write:/srv/out",
        "debug",
        "exec:curl",
        "exec:/usr/bin/curl",
        "exec:py*",
        "net:example.org:443",
        "secret:TOKEN@exec",
        "budget:wall=10m",
        "read:",
        "read:/",
        "read:srv/data",
        "read:/srv/../etc",
        "read:/srv//data",
        "read:/srv/data/",
        "read:/srv/./data",
        "read:/srv/\ndata",
        "debug:1",
        "exec:",
        "exec:*",
        "exec:**",
        "exec:/**",
        "exec:{*}",
        "exec:a\u{0}b",
        "exec",
        "READ:/srv",
        "",
        &long,
    ] {
        let shown: String = text.chars().take(30).flat_map(char::escape_default).collect();
        let _ = match text.parse::<GrantKind>() {
            Ok(kind) => {
                assert_eq!(kind.to_string(), text, "it is written as it is read");
                writeln!(table, "{shown:32} {:?}", kind.class())
            }
            Err(error) => {
                let problem = Problem::from(error);
                writeln!(table, "{shown:32} {}: {problem}", problem.code.as_str())
            }
        };
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_wish_is_read_strictly() {
    let read = |text: &str| serde_json::from_str::<GrantWish>(text);
    assert!(read(r#"{"kind":"debug","reason":"a crash"}"#).is_ok(), "the control");
    for text in [
        r#"{"kind":"debug"}"#,
        r#"{"kind":"debug","reason":"x","more":1}"#,
        r#"{"kind":"debug","reason":"x","uses":-1}"#,
        r#"{"kind":"read:../etc","reason":"x"}"#,
        r#"{"kind":["debug"],"reason":"x"}"#,
        r#"{"kind":"debug","kind":"exec:sh","reason":"x"}"#,
        r#""debug""#,
        "{",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_or_written_as_it_was_read(text in "\\PC{0,60}") {
        for kind in ["", "read:", "write:/", "exec:", "debug"] {
            let text = format!("{kind}{text}");
            if let Ok(kind) = text.parse::<GrantKind>() {
                prop_assert_eq!(kind.to_string(), text);
            }
        }
    }
}
