//! Hostile text is shown as escapes, never as itself.

use cofferdam_contract::text::{escape_bytes, escape_lines, is_deceptive, is_shown};
use proptest::prelude::*;

#[test]
fn what_deceives_becomes_an_escape() {
    let hostile = [
        "\u{1b}[31mred\u{1b}[0m",
        "\u{1b}]0;title\u{7}",
        "access\u{202e}level",
        "zero\u{200b}width",
        "line\nbreak\ttab\rreturn",
        "\u{9b}31m",
        "tag\u{e0041}",
        "soft\u{ad}hyphen",
        "\u{feff}bom",
        "plain, wide 漢字, accents é, emoji 🙂",
    ];
    let table: String =
        hostile.iter().map(|it| format!("{}\n", escape_bytes(it.as_bytes()))).collect();
    insta::assert_snapshot!(table);
    assert_eq!(escape_bytes(b"\xff\xfea\xc3"), "\\xff\\xfea\\xc3");
    assert_eq!(escape_lines(b"a\n\tb\r"), "a\n\tb\\r");
}

proptest! {
    #[test]
    fn nothing_that_steers_a_terminal_is_left(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let shown = escape_bytes(&bytes);
        prop_assert!(shown.chars().all(is_shown));
        prop_assert!(!shown.chars().any(is_deceptive));
        let lines = escape_lines(&bytes);
        prop_assert!(lines.chars().all(|c| is_shown(c) || matches!(c, '\n' | '\t')));
    }

    #[test]
    fn any_character_is_shown_or_escaped(text in "\\PC{0,40}") {
        prop_assert!(escape_bytes(text.as_bytes()).chars().all(is_shown));
    }

    #[test]
    fn plain_text_stays(text in "[ -~]{0,80}") {
        prop_assert_eq!(escape_bytes(text.as_bytes()), text);
    }
}
