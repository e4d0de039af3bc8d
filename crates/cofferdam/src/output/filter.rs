//! What of a session's output may reach a terminal: text and colours, and nothing that steers it.
//!
//! A terminal obeys what it is shown: titles, clipboard writes, cursor moves over earlier lines,
//! reports that are typed back as input (CVE-2003-0063 and its kin). The filter lets text, line
//! ends, tabs, backspaces and SGR (colours, ECMA-48 §8.3.117) pass and drops every other control
//! sequence, whatever the borders of the chunks it comes in. Must never know where bytes come from.

/// Longest SGR sequence that passes, in parameter bytes.
const PARAMETER_BYTES_MAX: usize = 64;
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Where in a sequence the last chunk ended.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    /// Between sequences.
    Ground,
    /// Inside a character of several bytes.
    Character { bytes: Vec<u8>, length: usize },
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte; ends with the final byte.
    Intermediate,
    /// After CSI.
    Control { parameters: Vec<u8> },
    /// Inside an operating-system command or another string; ends with ST, BEL or a line end.
    Text { escaped: bool },
}

/// The filter over one stream.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    place: Place,
    styled: bool,
}

impl Filter {
    /// A filter at the start of a stream.
    pub(crate) fn new() -> Self {
        Self { place: Place::Ground, styled: false }
    }

    /// Takes a chunk and appends what may be shown of it.
    pub(crate) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        for byte in chunk {
            self.step(*byte, out);
        }
    }

    /// Ends the stream: an unfinished character shows as one that could not be read, and colours
    /// are put back to normal.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if matches!(self.place, Place::Character { .. }) {
            out.extend_from_slice(REPLACEMENT);
        }
        if self.styled {
            out.extend_from_slice(b"\x1b[0m");
        }
        *self = Self::new();
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        let place = std::mem::replace(&mut self.place, Place::Ground);
        self.place = match place {
            Place::Ground => ground(byte, out),
            Place::Character { bytes, length } => return self.character(bytes, length, byte, out),
            Place::Escape => match byte {
                b'[' => Place::Control { parameters: vec![] },
                b']' | b'P' | b'X' | b'^' | b'_' => Place::Text { escaped: false },
                0x20..=0x2f => Place::Intermediate,
                0x30..=0x7e => Place::Ground,
                _ => ground(byte, out),
            },
            Place::Intermediate => match byte {
                0x20..=0x2f => Place::Intermediate,
                0x30..=0x7e => Place::Ground,
                _ => ground(byte, out),
            },
            Place::Control { parameters } => self.control(parameters, byte, out),
            Place::Text { escaped: true } if byte == b'\\' => Place::Ground,
            Place::Text { escaped: true } => {
                self.place = Place::Escape;
                return self.step(byte, out);
            }
            Place::Text { escaped: false } => match byte {
                b'\x07' | 0x18 | 0x1a | 0x9c => Place::Ground,
                b'\n' => ground(byte, out),
                b'\x1b' => Place::Text { escaped: true },
                _ => Place::Text { escaped: false },
            },
        };
    }

    fn control(&mut self, mut parameters: Vec<u8>, byte: u8, out: &mut Vec<u8>) -> Place {
        match byte {
            0x20..=0x3f => {
                // One more than may pass is enough to know that it may not.
                if parameters.len() <= PARAMETER_BYTES_MAX {
                    parameters.push(byte);
                }
                Place::Control { parameters }
            }
            b'm' if is_style(&parameters) => {
                self.styled = true;
                out.extend_from_slice(b"\x1b[");
                out.extend_from_slice(&parameters);
                out.push(b'm');
                Place::Ground
            }
            0x40..=0x7e => Place::Ground,
            _ => ground(byte, out),
        }
    }

    fn character(&mut self, mut bytes: Vec<u8>, length: usize, byte: u8, out: &mut Vec<u8>) {
        if byte & 0xc0 != 0x80 {
            out.extend_from_slice(REPLACEMENT);
            return self.step(byte, out);
        }
        bytes.push(byte);
        if bytes.len() < length {
            self.place = Place::Character { bytes, length };
            return;
        }
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.chars().next());
        match text {
            // C1 controls as UTF-8: some terminals obey them.
            Some('\u{9b}') => self.place = Place::Control { parameters: vec![] },
            Some('\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => {
                self.place = Place::Text { escaped: false };
            }
            Some(c) if c.is_control() || is_bidirectional(c) => {}
            Some(_) => out.extend_from_slice(&bytes),
            None => out.extend_from_slice(REPLACEMENT),
        }
    }
}

fn is_style(parameters: &[u8]) -> bool {
    parameters.len() <= PARAMETER_BYTES_MAX
        && parameters.iter().all(|b| b.is_ascii_digit() || matches!(b, b';' | b':'))
}

/// Overrides that make a line read in another order than it is (CVE-2021-42574).
fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn ground(byte: u8, out: &mut Vec<u8>) -> Place {
    let length = match byte {
        b'\x1b' => return Place::Escape,
        b'\n' | b'\r' | b'\t' | b'\x08' | 0x20..=0x7e => {
            out.push(byte);
            return Place::Ground;
        }
        0x00..=0x1f | 0x7f => return Place::Ground,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        0x80..=0xc1 | 0xf5..=0xff => {
            out.extend_from_slice(REPLACEMENT);
            return Place::Ground;
        }
    };
    Place::Character { bytes: vec![byte], length }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Filter, is_bidirectional};

    fn filtered(chunks: &[&[u8]]) -> Vec<u8> {
        let (mut filter, mut out) = (Filter::new(), vec![]);
        for chunk in chunks {
            filter.push(chunk, &mut out);
        }
        filter.finish(&mut out);
        out
    }

    fn shown(input: &[u8]) -> String {
        String::from_utf8(filtered(&[input])).unwrap()
    }

    /// What must hold of everything that reaches a terminal.
    fn is_harmless(out: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(out) else { return false };
        let mut rest = text;
        while let Some(at) = rest.find('\x1b') {
            let Some(style) = rest[at..].strip_prefix("\x1b[") else { return false };
            let Some(end) = style.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')
            else {
                return false;
            };
            if !style[end..].starts_with('m') {
                return false;
            }
            rest = &style[end + 1..];
        }
        let passes = |c: char| !c.is_control() || "\n\r\t\x08\x1b".contains(c);
        text.chars().all(|c| passes(c) && !is_bidirectional(c))
    }

    #[test]
    fn text_and_colours_pass() {
        assert_eq!(
            shown("plain, tab\tand ünïcode ✓\r\n".as_bytes()),
            "plain, tab\tand ünïcode ✓\r\n"
        );
        assert_eq!(shown(b"\x1b[1;31mred\x1b[0m"), "\x1b[1;31mred\x1b[0m\x1b[0m");
        assert_eq!(shown(b"\x1b[38:2::1:2:3mx"), "\x1b[38:2::1:2:3mx\x1b[0m");
    }

    #[test]
    fn what_steers_a_terminal_does_not_pass() {
        let attacks: &[(&[u8], &str)] = &[
            (b"a\x1b]0;title\x07b", "ab"),
            (b"a\x1b]52;c;ZXZpbA==\x1b\\b", "ab"),
            (b"a\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
            (b"a\x1b[2J\x1b[Hb", "ab"),
            (b"a\x1b[1A\x1b[2Kb", "ab"),
            (b"a\x1b[6nb", "ab"),
            (b"a\x1b[?1049hb", "ab"),
            (b"a\x1b[>0;1mb", "ab"),
            (b"a\x1bP$q\"p\x1b\\b", "ab"),
            (b"a\x1b_apc\x1b\\b", "ab"),
            (b"a\x1bcb", "ab"),
            (b"a\x1b(0b", "ab"),
            (b"a\x9b2Jb", "a\u{fffd}2Jb"),
            ("a\u{9b}2Jb".as_bytes(), "ab"),
            ("a\u{9d}0;t\u{7}b".as_bytes(), "ab"),
            (b"a\x07\x00\x0e\x7fb", "ab"),
            ("a\u{202e}b".as_bytes(), "ab"),
            (b"a\x1b]0;never ended\nb", "a\nb"),
            (b"a\xff\xc3b", "a\u{fffd}\u{fffd}b"),
        ];
        for (attack, expected) in attacks {
            assert_eq!(shown(attack), *expected, "{}", attack.escape_ascii());
            assert!(!is_harmless(attack), "unfiltered it is seen: {}", attack.escape_ascii());
        }
        let longest = [b"\x1b[".as_slice(), &[b'1'; 65], b"m"].concat();
        assert_eq!(shown(&longest), "");
    }

    /// Bytes that make sequences likely.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<u8>().prop_map(|b| vec![b]),
            "\\PC{0,4}".prop_map(String::into_bytes),
            prop::sample::select(vec![
                b"\x1b".to_vec(),
                b"\x1b[".to_vec(),
                b"\x1b]0;".to_vec(),
                b"\x1b\\".to_vec(),
                b"m".to_vec(),
                b";31".to_vec(),
                b"\xc2".to_vec(),
                b"\x9b".to_vec(),
                b"\x9d".to_vec(),
                b"\x07".to_vec(),
                b"\n".to_vec(),
                b"\xe2\x80".to_vec(),
            ]),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_harmful_comes_out(input in hostile()) {
            prop_assert!(is_harmless(&filtered(&[&input])));
        }

        #[test]
        fn borders_of_chunks_do_not_matter(input in hostile(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            at.sort_unstable();
            let mut chunks = vec![];
            let mut from = 0;
            for cut in at {
                chunks.push(&input[from..cut]);
                from = cut;
            }
            chunks.push(&input[from..]);
            prop_assert_eq!(filtered(&chunks), filtered(&[&input]));
        }

        #[test]
        fn plain_text_is_left_alone(input in "[a-zA-Z0-9 äß✓\t\n]{0,200}") {
            let out = filtered(&[input.as_bytes()]);
            prop_assert_eq!(out, input.into_bytes());
        }
    }
}
