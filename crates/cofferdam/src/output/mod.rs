//! What people and scripts get to see: text, tables and colours, or one JSON object.
//!
//! Results go to standard output, progress and problems to standard error. Text that comes from a
//! session or a repository is shown only through `contract::text` or the terminal filter. Must
//! never decide anything.

pub(crate) mod ask;
mod diff;
mod filter;
mod json;
pub(crate) mod objects;
pub(crate) mod progress;
pub(crate) mod review;
mod table;
mod words;

use std::io::{self, IsTerminal as _, Write as _};

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::escape_bytes;
use serde::Serialize;

pub(crate) use diff::painted as painted_diff;
pub(crate) use filter::Filter;
pub(crate) use table::Table;
pub(crate) use words::{walls, words};

/// How a piece of text stands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    /// Titles.
    Strong,
    /// What is good.
    Good,
    /// What needs a look.
    Careful,
    /// What is bad.
    Bad,
    /// What matters less.
    Faint,
    /// Places.
    Place,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Strong => "1",
            Self::Good => "32",
            Self::Careful => "33",
            Self::Bad => "31",
            Self::Faint => "2",
            Self::Place => "36",
        }
    }
}

/// Where and how to show things.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// One JSON object instead of text.
    pub(crate) json: bool,
    /// Standard output takes colours.
    color: bool,
    /// Standard error takes colours.
    error_color: bool,
    /// Standard output is a terminal.
    pub(crate) terminal: bool,
}

impl Screen {
    /// The screen of this process. Colours only on a terminal, and not where `NO_COLOR` is set
    /// (<https://no-color.org>) or the terminal is dumb.
    pub(crate) fn of_process(json: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let wanted = set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb");
        let terminal = io::stdout().is_terminal();
        Self {
            json,
            color: wanted && terminal,
            error_color: wanted && io::stderr().is_terminal(),
            terminal,
        }
    }

    /// `text` in that tone, on standard output.
    pub(crate) fn tone(&self, tone: Tone, text: &str) -> String {
        styled(self.color, tone, text)
    }

    /// Prints `object` on one line.
    ///
    /// # Errors
    /// `storage_failed` if standard output cannot be written.
    pub(crate) fn object<T: Serialize>(&self, object: &T) -> Result<(), Problem> {
        let mut line =
            json::line(object).map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        line.push(b'\n');
        self.bytes(&line)
    }

    /// Prints lines of text.
    ///
    /// # Errors
    /// See [`Screen::object`].
    pub(crate) fn text(&self, text: &str) -> Result<(), Problem> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// See [`Screen::object`].
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Problem> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // The reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => {
                Err(Problem::new(Code::StorageFailed, format!("standard output: {error}"))
                    .hint("give standard output a place that can be written"))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Shows the object or the text made from it, as asked for.
    ///
    /// # Errors
    /// See [`Screen::object`].
    pub(crate) fn show<T: Serialize>(
        &self,
        object: &T,
        text: impl FnOnce(&Self, &T) -> String,
    ) -> Result<(), Problem> {
        if self.json { self.object(object) } else { self.text(&text(self, object)) }
    }

    /// One line of progress on standard error.
    pub(crate) fn progress(&self, line: &str) {
        let line = styled(self.error_color, Tone::Faint, &escape_bytes(line.as_bytes()));
        let _ = writeln!(io::stderr(), "{}{line}", self.erase());
    }

    /// What goes on at this moment: on a terminal a line that the next one replaces.
    pub(crate) fn stage(&self, stage: &str) {
        if self.error_color {
            let stage = styled(true, Tone::Faint, &escape_bytes(stage.as_bytes()));
            let _ = write!(io::stderr(), "{}… {stage}", self.erase());
        }
    }

    /// Takes a stage away again.
    pub(crate) fn erase(&self) -> &'static str {
        if self.error_color { "\r\x1b[K" } else { "" }
    }

    /// Shows a problem: cause, remedy and code; with `--json` also as the one object.
    pub(crate) fn problem(&self, problem: &Problem) {
        if self.json {
            let _ = self.object(problem);
        }
        let escaped = |text: &str| escape_bytes(text.as_bytes());
        let error = styled(self.error_color, Tone::Bad, "error:");
        let field = problem.field.as_deref().filter(|field| !problem.detail.contains(*field));
        let place = field.map(|field| format!("{}: ", escaped(field))).unwrap_or_default();
        let hint = styled(self.error_color, Tone::Place, "hint:");
        let code = styled(self.error_color, Tone::Faint, "code:");
        let _ = writeln!(
            io::stderr(),
            "{}{error} {place}{}\n{hint} {}\n{code} {}",
            self.erase(),
            escaped(&problem.detail),
            escaped(&problem.hint),
            problem.code.as_str(),
        );
    }
}

fn styled(color: bool, tone: Tone, text: &str) -> String {
    if color { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text.to_owned() }
}
