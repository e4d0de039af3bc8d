//! Which paths of a workspace the codemod passes over, by the `.gitignore` files within it.
//!
//! Without it a rule would rewrite every installed dependency. Must never read a file: the bytes
//! come from the walk.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Largest `.gitignore` whose lines are heeded, in bytes.
pub(crate) const IGNORE_FILE_BYTES_MAX: u64 = 256 << 10;

/// The lines that hold in one directory, after those of the directories above it.
#[derive(Clone, Default)]
pub(crate) struct Ignored(Option<Rc<Level>>);

struct Level {
    directory: PathBuf,
    lines: Gitignore,
    above: Ignored,
}

impl Ignored {
    /// What holds in `directory`, whose own `.gitignore` has these bytes. Lines that cannot be
    /// understood are passed over.
    pub(crate) fn within(&self, directory: &Path, bytes: &[u8]) -> Self {
        let mut builder = GitignoreBuilder::new("");
        for line in String::from_utf8_lossy(bytes).lines() {
            let _ = builder.add_line(None, line);
        }
        match builder.build() {
            Ok(lines) if !lines.is_empty() => Self(Some(Rc::new(Level {
                directory: directory.to_owned(),
                lines,
                above: self.clone(),
            }))),
            _ => self.clone(),
        }
    }

    /// Whether a path is passed over. The nearest directory that says anything decides.
    pub(crate) fn covers(&self, path: &Path, is_directory: bool) -> bool {
        let mut at = self;
        while let Some(level) = &at.0 {
            let below = path.strip_prefix(&level.directory).unwrap_or(path);
            match level.lines.matched(below, is_directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => at = &level.above,
            }
        }
        false
    }
}
