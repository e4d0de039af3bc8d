//! JSON that is safe to look at: every character that is not shown as itself is written as an
//! escape, which changes no value.

use std::io;

use cofferdam_contract::text::is_shown;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| !is_shown(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// `object` on one line, without the line end.
pub(super) fn line<T: Serialize>(object: &T) -> serde_json::Result<Vec<u8>> {
    let mut out = vec![];
    object.serialize(&mut Serializer::with_formatter(&mut out, Escaping))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_value_is_the_same_and_nothing_of_it_steers_a_terminal(text in any::<String>()) {
            let line = super::line(&text).unwrap();
            prop_assert_eq!(&serde_json::from_slice::<String>(&line).unwrap(), &text);
            let line = String::from_utf8(line).unwrap();
            prop_assert!(line.chars().all(cofferdam_contract::text::is_shown));
        }
    }

    #[test]
    fn overrides_and_controls_are_escaped() {
        let line = super::line(&"a\u{202e}\u{9b}\x1b\u{e0001}").unwrap();
        assert_eq!(line, br#""a\u202e\u009b\u001b\udb40\udc01""#);
    }
}
