//! A patch as people read it on a terminal: escaped, with colours by kind of line.

use cofferdam_contract::text::escape_bytes;

use super::{Screen, Tone};

/// The patch with every byte that is not shown as itself escaped, tabs excepted.
pub(crate) fn painted(screen: &Screen, patch: &[u8]) -> String {
    let mut out = String::with_capacity(patch.len() + patch.len() / 8);
    let mut in_header = true;
    for line in patch.split_inclusive(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.starts_with(b"diff --git ") {
            in_header = true;
        } else if line.starts_with(b"@@") {
            in_header = false;
        }
        let cells: Vec<String> = line.split(|b| *b == b'\t').map(escape_bytes).collect();
        let text = cells.join("\t");
        out.push_str(&match tone(line, in_header) {
            Some(tone) => screen.tone(tone, &text),
            None => text,
        });
        out.push('\n');
    }
    out
}

fn tone(line: &[u8], in_header: bool) -> Option<Tone> {
    match line.first() {
        _ if in_header => Some(Tone::Strong),
        Some(b'@') => Some(Tone::Place),
        Some(b'+') => Some(Tone::Good),
        Some(b'-') => Some(Tone::Bad),
        Some(b'\\') => Some(Tone::Faint),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Screen, painted};

    #[test]
    fn lines_stay_and_what_steers_a_terminal_is_escaped() {
        let screen = Screen { json: false, color: false, error_color: false, terminal: false };
        let patch = b"diff --git a/x b/x\n@@ -1 +1 @@\n-\told\r\n+new \x1b[2J\xff\n\\ No newline";
        insta::assert_snapshot!(painted(&screen, patch), @r"
        diff --git a/x b/x
        @@ -1 +1 @@
        -	old\r
        +new \x1b[2J\xff
        \ No newline
        ");
        let colored = Screen { color: true, ..screen };
        assert!(painted(&colored, patch).contains("\x1b[32m+new \\x1b[2J\\xff\x1b[0m\n"));
    }
}
