//! The rewriting itself: one structural rule over every source file beneath a directory.
//!
//! [`resident`] runs inside a session, forked from init, on whatever a repository holds: its input
//! is hostile, so files are bounded, links are never followed and a parser that breaks costs one
//! file. Must never know: runs, sessions, the network, or any path outside the directory given.

mod ignored;
mod language;
mod rules;
mod walk;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::escape_bytes;
use cofferdam_tools::CodemodInput;
use serde::{Deserialize, Serialize};

use language::Language;
use rules::Rules;
use walk::{Place, Visit};

/// Largest file that is rewritten, in bytes. Longer ones are reported as left out.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Largest rule file, in bytes.
pub const RULE_BYTES_MAX: usize = 256 << 10;
/// Most files that are named in a report's `errors`.
pub const ERRORS_MAX: usize = 200;
/// Largest request that [`resident`] reads: a rule in which every byte is escaped, and a path.
const REQUEST_BYTES_MAX: u64 = 6 * RULE_BYTES_MAX as u64 + (64 << 10);

/// What a rewrite did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodemodReport {
    /// Files of the rule's language that were read.
    pub files_seen: u64,
    /// Files that were written.
    pub files_changed: u64,
    /// Places that the rule matched.
    pub matches: u64,
    /// What was left as it was although it may have matched, in the order of the walk.
    pub errors: Vec<LeftAlone>,
    /// How many more there were than `errors` holds.
    pub errors_more: u64,
    /// Files with matches that could not be written.
    #[serde(default)]
    pub files_unwritten: u64,
    /// The first of them, escaped, and why it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_unwritten: Option<String>,
}

/// A path that was left as it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftAlone {
    /// The path beneath the root, escaped for display.
    pub path: String,
    /// Why.
    pub cause: String,
}

/// Why nothing was rewritten.
#[derive(Debug, thiserror::Error)]
pub enum CodemodError {
    /// Too long to be a rule.
    #[error("the rule has more than {RULE_BYTES_MAX} bytes")]
    RuleTooLong,
    /// Not a rule that can be understood.
    #[error("the rule is not valid")]
    RuleInvalid(#[source] Box<dyn Error + Send + Sync>),
    /// A file without a rule.
    #[error("the rule file holds no rule that is switched on")]
    NoRule,
    /// A rule that only finds.
    #[error("rule {id:?} has no fix, so there is nothing to write")]
    NoFix {
        /// Its `id`, which may be empty.
        id: String,
    },
    /// Matches that are not rewritten.
    #[error("{unwritten} of {matched} files with matches could not be written, the first: {first}")]
    Unwritten {
        /// How many were not written.
        unwritten: u64,
        /// Files with matches.
        matched: u64,
        /// One that was not, escaped, and why not.
        first: String,
    },
    /// The directory cannot be read.
    #[error("the directory to rewrite cannot be opened")]
    Root(#[source] std::io::Error),
}

impl From<CodemodError> for Problem {
    fn from(error: CodemodError) -> Self {
        let code = match error {
            CodemodError::Root(_) => Code::SessionLost,
            CodemodError::Unwritten { .. } => Code::DriverFailed,
            _ => Code::RequestInvalid,
        };
        Self::new(code, chain(&error)).at(Some("rule".to_owned()))
    }
}

/// Rewrites every source file beneath `root` that the rules in `rule_yaml` apply to: ast-grep's
/// rule format, one or several documents, each with a `fix`. One pass: what a fix writes is not
/// matched again by the same rule.
///
/// Files go in the order of their names. `.git` and what the directory's own `.gitignore` files
/// name are passed over.
///
/// # Errors
/// [`CodemodError`] if nothing could be begun. What goes wrong with one file is in the report.
pub fn run(rule_yaml: &str, root: &Path) -> Result<CodemodReport, CodemodError> {
    let rules = Rules::parse(rule_yaml)?;
    let mut rewriting = Rewriting { rules, report: CodemodReport::default() };
    walk::walk(root, &mut rewriting).map_err(CodemodError::Root)?;
    Ok(rewriting.report)
}

/// The resident program: reads a [`CodemodInput`] as JSON from standard input, rewrites, and
/// prints a [`CodemodReport`] as JSON. Gives 0 if there is a report and all that matched was written,
/// 2 if the request or the rule is at fault, 1 for anything else.
pub fn resident() -> i32 {
    // What is written keeps its mode.
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut stdin = std::io::stdin().lock().take(REQUEST_BYTES_MAX);
    let mut bytes = Vec::new();
    let parsed = match stdin.read_to_end(&mut bytes) {
        Ok(_) => serde_json::from_slice::<CodemodInput>(&bytes),
        Err(error) => return complain(1, &error),
    };
    let input = match parsed {
        Ok(input) => input,
        Err(error) => return complain(2, &error),
    };
    match run(&input.rule, Path::new(&input.root)) {
        Ok(report) => match (print(&report), report.files_unwritten) {
            (0, unwritten @ 1..) => {
                let matched = unwritten + report.files_changed;
                let first = report.first_unwritten.unwrap_or_default();
                complain(1, &CodemodError::Unwritten { unwritten, matched, first })
            }
            (code, _) => code,
        },
        Err(error @ CodemodError::Root(_)) => complain(1, &error),
        Err(error) => complain(2, &error),
    }
}

fn print(report: &CodemodReport) -> i32 {
    let mut stdout = std::io::stdout().lock();
    let printed = serde_json::to_writer(&mut stdout, report)
        .map_err(std::io::Error::from)
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    match printed {
        Ok(()) => 0,
        Err(error) => complain(1, &error),
    }
}

fn complain(exit_code: i32, error: &dyn Error) -> i32 {
    let line = format!("codemod: {}\n", chain(error));
    // Nobody is left to be told if standard error is gone too.
    let _ = std::io::stderr().write_all(line.as_bytes());
    exit_code
}

/// An error and what it came from, on one line fit for a terminal.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    escape_bytes(lines.collect::<Vec<_>>().join("; ").as_bytes())
}

struct Rewriting {
    rules: Rules,
    report: CodemodReport,
}

impl Rewriting {
    fn rewrite(&mut self, place: &Place<'_>, language: Language) -> Result<(), String> {
        let file = place.read(FILE_BYTES_MAX)?;
        self.report.files_seen += 1;
        let text = std::str::from_utf8(&file.bytes).map_err(|_| "not UTF-8 text".to_owned())?;
        if text.contains('\0') {
            return Err("not text: it holds a NUL byte".to_owned());
        }
        // The parsers are C and the matcher is not ours: what they do to one file must not cost
        // the others. (A crash in C ends this process, and only it.)
        let outcome =
            catch_unwind(AssertUnwindSafe(|| self.rules.rewrite(text, language, place.path())));
        let rewritten = outcome.map_err(|_| "the matcher broke on this file".to_owned())??;
        self.report.matches += rewritten.matches;
        if rewritten.text != text {
            let replaced = place.replace(rewritten.text.as_bytes(), file.mode);
            match &replaced {
                Ok(()) => self.report.files_changed += 1,
                Err(error) => {
                    self.report.files_unwritten += 1;
                    let path = escape_bytes(place.path().as_os_str().as_bytes());
                    self.report.first_unwritten.get_or_insert(format!("{path}: {error}"));
                }
            }
            replaced.map_err(|error| format!("cannot be written: {error}"))?;
        }
        Ok(())
    }
}

impl Visit for Rewriting {
    fn file(&mut self, place: &Place<'_>) {
        let Some(language) = Language::of_path(place.path()) else { return };
        if !self.rules.concern(language) {
            return;
        }
        if let Err(cause) = self.rewrite(place, language) {
            self.left_alone(place.path(), &cause);
        }
    }

    fn left_alone(&mut self, path: &Path, cause: &str) {
        if self.report.errors.len() == ERRORS_MAX {
            self.report.errors_more += 1;
            return;
        }
        let path = escape_bytes(path.as_os_str().as_bytes());
        self.report.errors.push(LeftAlone { path, cause: escape_bytes(cause.as_bytes()) });
    }
}
