//! Names the field at which strict parsing refused a JSON document.
//!
//! Serde says what is wrong and on which line and column; a person wants the field. This follows
//! the document up to that place and keeps the names of the objects that are open there. Must
//! never decide whether a document is right.

/// The path of the refused field, such as `repository.base`; `None` for the document as a whole.
pub(crate) fn field_of(document: &[u8], error: &serde_json::Error) -> Option<String> {
    let mut names = open_names(&document[..place(document, error)]);
    let message = error.to_string();
    let of_object = ["missing field", "unknown field", "duplicate field"];
    if of_object.iter().any(|kind| message.starts_with(kind)) {
        // The last name is that of the field before; the message has the one that is meant.
        names.pop();
        names.extend(message.split('`').nth(1).map(|name| Some(shown(name.as_bytes()))));
    }
    let path = names.into_iter().flatten().collect::<Vec<_>>().join(".");
    (!path.is_empty()).then_some(path)
}

/// A name as it may be shown: escaped, and no longer than any of ours.
fn shown(name: &[u8]) -> String {
    crate::text::escape_bytes(&name[..name.len().min(64)])
}

/// How many bytes come before the one at which the error was noticed.
fn place(document: &[u8], error: &serde_json::Error) -> usize {
    let lines = document.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    (before + error.column()).saturating_sub(1).min(document.len())
}

/// Of every object and array that is open at the end of `text`, the last name in it; arrays have
/// none.
fn open_names(text: &[u8]) -> Vec<Option<String>> {
    let mut names: Vec<Option<String>> = vec![];
    let mut string: Option<Vec<u8>> = None;
    let (mut escaped, mut names_next) = (false, false);
    for byte in text {
        if let Some(read) = &mut string {
            match byte {
                b'"' if !escaped => {
                    let name = string.take().unwrap_or_default();
                    if let (true, Some(last)) = (names_next, names.last_mut()) {
                        *last = Some(shown(&name));
                        names_next = false;
                    }
                }
                _ => {
                    escaped = *byte == b'\\' && !escaped;
                    read.push(*byte);
                }
            }
            continue;
        }
        match byte {
            b'"' => (string, escaped) = (Some(vec![]), false),
            b'{' => {
                names.push(None);
                names_next = true;
            }
            b'[' => {
                names.push(None);
                names_next = false;
            }
            b'}' | b']' => drop(names.pop()),
            // In an array no name was read, so a string after a comma is not one either.
            b',' => names_next = names.last().is_some_and(Option::is_some),
            _ => {}
        }
    }
    names
}
