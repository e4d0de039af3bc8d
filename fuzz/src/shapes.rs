//! Documents of any shape with the words that a parser looks for.
//!
//! A mutated text is seldom a document, and a document's odd shapes (a list where a table is due) are
//! many mutations away. So the bytes are also taken for a description of one, which always is.

/// How a format writes a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// All values inline.
    Toml,
    Json,
}

/// Deepest nesting.
const DEPTH_MAX: u32 = 6;

/// Parses the bytes as they are, and as what they describe.
pub(crate) fn both<T>(
    bytes: &[u8],
    (format, words): (Format, &'static [&'static str]),
    parse: impl Fn(&[u8]) -> T,
) {
    drop(parse(bytes));
    drop(parse(Maker { rest: bytes, format, words }.document().as_bytes()));
}

struct Maker<'a> {
    rest: &'a [u8],
    format: Format,
    words: &'static [&'static str],
}

impl Maker<'_> {
    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        usize::from(*first)
    }

    fn document(mut self) -> String {
        match self.format {
            Format::Json => self.table(0),
            Format::Toml => {
                let entries = 1 + self.byte() % 6;
                (0..entries).map(|_| self.entry(0) + "\n").collect()
            }
        }
    }

    fn table(&mut self, depth: u32) -> String {
        let entries: Vec<_> = (0..self.byte() % 6).map(|_| self.entry(depth)).collect();
        format!("{{ {} }}", entries.join(", "))
    }

    fn entry(&mut self, depth: u32) -> String {
        let sign = if self.format == Format::Toml { "=" } else { ":" };
        format!("{} {sign} {}", self.word(), self.value(depth + 1))
    }

    /// The escapes of JSON are TOML's too.
    fn word(&mut self) -> String {
        let word = self.words[self.byte() % self.words.len()];
        serde_json::to_string(word).expect("a text has a form in JSON")
    }

    fn value(&mut self, depth: u32) -> String {
        match self.byte() % 8 {
            0 => self.byte().to_string(),
            1 => "true".to_owned(),
            2 | 3 if depth < DEPTH_MAX => {
                let values: Vec<_> = (0..self.byte() % 4).map(|_| self.value(depth + 1)).collect();
                format!("[{}]", values.join(", "))
            }
            4 | 5 if depth < DEPTH_MAX => self.table(depth),
            _ => self.word(),
        }
    }
}
