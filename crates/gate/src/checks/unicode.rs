//! Text and names that do not read as they are: bidirectional controls (CVE-2021-42574), invisible
//! and terminal control characters, and words that mix scripts with letters that look alike.

use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::text::{is_deceptive, is_shown};

use crate::text::added;
use crate::{FindingCode, Findings, GateInput, Looked};

const NAME: &str = "unicode";

/// Looks at changed names and added lines.
pub fn look(input: &GateInput<'_>) -> Result<Looked, Problem> {
    let files = &input.changeset.files;
    let mut findings = Findings::default();
    for change in files.iter().filter(|it| it.after.is_some()) {
        let path = &change.path;
        let name = String::from_utf8_lossy(path.as_bytes());
        if change.before.is_none() && !name.chars().all(is_shown) {
            let code = FindingCode::DeceptivePath;
            let message = || format!("the name {path} does not show as it is");
            findings.add(code, || code.at(NAME, Some(path), None, message()));
        }
        let Some(added) = added(input.contents, change)? else { continue };
        if added.binary {
            continue;
        }
        for (number, line) in &added.lines {
            look_at(path, *number, line, &mut findings);
        }
    }
    Ok(Looked::At(files.len(), findings))
}

/// What is wrong with one line: at most one finding per code.
fn look_at(path: &RepoPath, number: u64, line: &[u8], findings: &mut Findings) {
    let text = String::from_utf8_lossy(line);
    let text = text.strip_suffix('\r').unwrap_or(&text);
    let mut seen: Vec<FindingCode> = Vec::new();
    for (index, c) in suspicious(text, number == 1) {
        let code = code_of(c);
        // The column is counted for the first of each code only: a line may be nothing but these.
        if !seen.contains(&code) {
            seen.push(code);
            findings.add_at(code, NAME, (path, number), || {
                let column = text[..index].chars().count() + 1;
                format!("U+{:04X} at column {column}", c as u32)
            });
        }
    }
    if let Some(word) = text.split(|c: char| !c.is_alphanumeric() && c != '_').find(|w| mixes(w)) {
        findings.add_at(FindingCode::MixedScript, NAME, (path, number), || {
            let spelled: String = word.chars().take(40).flat_map(char::escape_unicode).collect();
            format!("a word mixes scripts: {spelled}")
        });
    }
}

fn code_of(c: char) -> FindingCode {
    match c as u32 {
        0x061C | 0x200E..=0x200F | 0x202A..=0x202E | 0x2066..=0x2069 => {
            FindingCode::BidirectionalControl
        }
        _ if c.is_control() => FindingCode::ControlCharacter,
        _ => FindingCode::InvisibleCharacter,
    }
}

/// Characters that are not shown as themselves, less those that ordinary text needs: a tab, a form
/// feed, a byte order mark at the start, one variation selector after a symbol, a joiner between
/// two letters or symbols that are not ASCII (emoji, Indic and Persian text).
fn suspicious(text: &str, first_line: bool) -> impl Iterator<Item = (usize, char)> {
    let visible = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !is_deceptive(c));
    text.char_indices().filter(move |(index, c)| {
        let before = text[..*index].chars().next_back();
        let after = text[*index + c.len_utf8()..].chars().next();
        match *c {
            '\t' | '\u{0C}' => false,
            '\u{FEFF}' => !(first_line && *index == 0),
            '\u{FE0E}' | '\u{FE0F}' => !symbol_before(before),
            '\u{200C}' | '\u{200D}' => {
                !((visible(before) || before == Some('\u{FE0F}')) && visible(after))
            }
            c => c.is_control() || is_deceptive(c),
        }
    })
}

/// Keycaps (`1️⃣`, `#️⃣`) put the selector after an ASCII digit or sign.
fn symbol_before(before: Option<char>) -> bool {
    before.is_some_and(|c| match c {
        '0'..='9' | '#' | '*' => true,
        c => !c.is_ascii() && !is_deceptive(c) && !c.is_control(),
    })
}

/// Whether a word has both Latin letters and letters of a script whose letters look like Latin ones.
/// Greek is left out: formulas and units mix it in on purpose.
fn mixes(word: &str) -> bool {
    let latin = word.chars().any(|c| c.is_ascii_alphabetic());
    let alike = |c: char| {
        matches!(c as u32, 0x0400..=0x052F | 0x0531..=0x058F | 0x13A0..=0x13FF | 0xAB70..=0xABBF
            | 0xFF21..=0xFF3A | 0xFF41..=0xFF5A | 0x1D400..=0x1D7FF)
    };
    latin && word.chars().any(alike)
}
