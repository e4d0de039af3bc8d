//! Making hostile text safe to look at.
//!
//! Whatever comes from a session, a repository or a model may hold terminal control sequences,
//! bidirectional overrides or invisible characters (CVE-2021-42574). This is the one place that
//! decides what may reach a terminal as it is. Must never know where the text goes next.

use std::fmt::Write as _;

/// Whether `c` is shown as itself on a terminal.
///
/// False for control characters (C0, DEL, C1), bidirectional controls, zero-width and other
/// invisible characters, private use, line and paragraph separators and the tag block.
pub fn is_shown(c: char) -> bool {
    !c.is_control()
        && !is_deceptive(c)
        && !matches!(c as u32, 0xE000..=0xF8FF | 0xF_0000..=0x10_FFFF)
}

/// Whether `c` changes how other characters are shown, or is itself invisible: the characters of
/// the "trojan source" class.
pub fn is_deceptive(c: char) -> bool {
    matches!(c as u32,
        0x00AD | 0x034F | 0x061C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F
        | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F
        | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}

fn push_escaped(out: &mut String, c: char) {
    let _ = match c {
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        '\0'..='\x7f' => write!(out, "\\x{:02x}", c as u32),
        _ => write!(out, "\\u{{{:x}}}", c as u32),
    };
}

/// A number and what it counts, a word whose plural ends in `s`.
pub fn counted(count: impl Into<u64>, noun: &str) -> String {
    match count.into() {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// One line of text in which everything that is not shown as itself is written as an escape.
/// Bytes that are not UTF-8 become `\xNN`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    escape(bytes, |_| false)
}

/// Like [`escape_bytes`], but newlines and tabs stay: for text of several lines, such as a diff.
pub fn escape_lines(bytes: &[u8]) -> String {
    escape(bytes, |c| matches!(c, '\n' | '\t'))
}

fn escape(bytes: &[u8], keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_shown(c) || keep(c) {
                out.push(c);
            } else {
                push_escaped(&mut out, c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}
