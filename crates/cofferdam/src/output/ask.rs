//! A question to the person at the terminal.
//!
//! Nobody is asked where nobody sits: with `--json`, or where input or output is no terminal. Then
//! the answer is no. Must never know what is asked.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use cofferdam_contract::problem::{Code, Problem};

use super::{Screen, Tone};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 256;

/// Whether there is somebody to ask.
pub(crate) fn can_ask(screen: &Screen) -> bool {
    !screen.json && screen.terminal && std::io::stdin().is_terminal()
}

/// Whether the person says yes. The end of the input and a signal are a no.
///
/// # Errors
/// `internal` if the terminal cannot be read.
pub(crate) async fn ask(screen: &Screen, question: &str) -> Result<bool, Problem> {
    screen.text(&format!("{} [y/N] ", screen.tone(Tone::Strong, question)))?;
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread of its own: one that still waits for a line keeps no process from ending.
    std::thread::spawn(move || {
        let mut line = vec![];
        let read = std::io::stdin().lock().take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line);
        let _ = tell.send(read.map(|_| line));
    });
    let line = tokio::select! {
        line = told => line,
        signal = crate::cli::interrupted() => {
            let _ = std::io::stdout().write_all(b"\n");
            signal?;
            return Ok(false);
        }
    };
    let failed = |error: &dyn std::fmt::Display| {
        Problem::new(Code::Internal, format!("the answer cannot be read: {error}"))
    };
    let line = line.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok(matches!(line.trim_ascii(), b"y" | b"Y" | b"yes"))
}
