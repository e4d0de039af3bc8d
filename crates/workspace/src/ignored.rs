//! Which untracked paths git would not add, by the `.gitignore` files of the result itself.
//!
//! The rules are a session's: they can hide its own files from its own result and nothing else.
//! They cannot make a scan endless either: bytes are bounded, and every question has a price.
//! Must never read a file: the bytes come from the scan. The user's own excludes are not asked.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Largest `.gitignore` whose rules are applied, in bytes.
pub(crate) const IGNORE_FILE_BYTES_MAX: u64 = 128 << 10;
/// Most bytes of such files in one scan.
pub(crate) const IGNORE_BYTES_MAX: u64 = 1 << 20;
/// Most that the questions of one scan may cost: a thousand rules and fifty thousand paths. The
/// costliest rules that were found take some microseconds for a path.
pub(crate) const IGNORE_PRICE_MAX: u64 = 50_000_000;

/// The rules that hold in one directory: its own before those of the directories above.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    own: Option<Own>,
    above: Option<Arc<Rules>>,
    /// How many rules a question may have to look at.
    pub(crate) price: u64,
}

#[derive(Debug)]
struct Own {
    directory: Vec<u8>,
    matcher: Gitignore,
}

impl Rules {
    /// The rules in `directory`, whose `.gitignore` has these bytes. A line that is not UTF-8 or
    /// not a pattern is passed over, so that its paths stay in the result. `None` if all of them
    /// together are more than can be applied.
    pub(crate) fn with(above: &Arc<Self>, directory: &[u8], bytes: &[u8]) -> Option<Arc<Self>> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut builder = GitignoreBuilder::new(".");
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Ok(text) = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)) {
                let _ = builder.add_line(None, text);
            }
        }
        let matcher = builder.build().ok()?;
        if matcher.is_empty() {
            return Some(Arc::clone(above));
        }
        Some(Arc::new(Self {
            price: above.price + matcher.len() as u64,
            own: Some(Own { directory: directory.to_vec(), matcher }),
            above: Some(Arc::clone(above)),
        }))
    }

    /// Whether git would pass over `path`, in a directory that it does not pass over.
    pub(crate) fn ignore(&self, path: &[u8], is_directory: bool) -> bool {
        let mut rules = Some(self);
        while let Some(at) = rules {
            match at.own.as_ref().map_or(Match::None, |own| own.matched(path, is_directory)) {
                Match::Ignore(()) => return true,
                Match::Whitelist(()) => return false,
                Match::None => rules = at.above.as_deref(),
            }
        }
        false
    }
}

impl Own {
    fn matched(&self, path: &[u8], is_directory: bool) -> Match<()> {
        let below = path.strip_prefix(self.directory.as_slice()).unwrap_or(path);
        let below = below.strip_prefix(b"/").unwrap_or(below);
        self.matcher.matched(Path::new(OsStr::from_bytes(below)), is_directory).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_rules_win_and_later_lines_win() {
        let none = Arc::new(Rules::default());
        let top =
            Rules::with(&none, b"", b"\xef\xbb\xbf*.log\r\n!keep.log\n/build/\n# x\n\n").unwrap();
        let sub = Rules::with(&top, b"sub", b"!*.log\nsecret\n").unwrap();
        assert!(top.ignore(b"a.log", false));
        assert!(!top.ignore(b"keep.log", false));
        assert!(top.ignore(b"build", true));
        assert!(!top.ignore(b"build", false));
        assert!(!top.ignore(b"sub/build", true));
        assert!(!sub.ignore(b"sub/a.log", false));
        assert!(sub.ignore(b"sub/deep/secret", false));
        assert!(!top.ignore(b"secret", false));
    }

    #[test]
    fn bytes_that_are_no_pattern_hide_nothing() {
        let none = Arc::new(Rules::default());
        let rules = Rules::with(&none, b"", b"\xff\xfe*\n[\n{a,\na\\\n\0\n").unwrap();
        assert!(!rules.ignore(b"x", false));
        assert!(!rules.ignore(b"\xff\xfex", false));
    }
}
