//! How the process ends: from what a command came to, to an exit code.
//!
//! Every command but `exec` ends with the code of an [`Outcome`]. `exec` and `session exec` end
//! with the program's own code, so what is ours has codes of its own there, as with other
//! programs that start programs (env(1), timeout(1)).

use std::process::ExitCode;

use cofferdam_contract::events::CallEnd;
use cofferdam_contract::problem::Outcome;
use cofferdam_contract::problem::{Code, Problem};

/// With `exec`: a refusal or failure of Cofferdam's own.
pub(crate) const EXEC_FAILED: u8 = 125;
/// With `exec`: the call's time ran out.
pub(crate) const EXEC_TIMED_OUT: u8 = 124;
/// With `exec`: the program could not be started.
pub(crate) const EXEC_NOT_STARTED: u8 = 127;
/// With `exec`: a signal ended the program; the signal's number is added.
pub(crate) const EXEC_SIGNALED: u8 = 128;

/// With `redteam` and `doctor --attack`: an attack succeeded.
pub(crate) const ESCAPED: u8 = 8;
/// With `run`: a second signal left the run at once; what it came to is not known here.
pub(crate) const LEFT_AT_ONCE: u8 = 130;

/// What a command came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// One of the documented outcomes.
    Outcome(Outcome),
    /// The exit code of a program that ran for the caller.
    Program(u8),
}

/// Everything went as asked.
pub(crate) const DONE: Ending = Ending::Outcome(Outcome::Done);

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Outcome(outcome) => Self::from(outcome.exit_code()),
            Ending::Program(code) => Self::from(code),
        }
    }
}

/// The exit code for a program that ended so.
pub(crate) fn of_call(end: CallEnd, exit_code: Option<i32>, signal: Option<i32>) -> u8 {
    let low_byte = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    match end {
        CallEnd::Exited => exit_code.map_or(EXEC_FAILED, low_byte),
        CallEnd::Signaled => EXEC_SIGNALED.saturating_add(signal.map_or(0, low_byte)),
        CallEnd::TimedOut => EXEC_TIMED_OUT,
        CallEnd::NotStarted => EXEC_NOT_STARTED,
        CallEnd::Stopped | CallEnd::SessionLost => EXEC_FAILED,
    }
}

/// Refuses where the program's end is not its own: it cannot say so, and nothing else would.
///
/// # Errors
/// `session_lost`.
pub(crate) fn refuse_lost(end: CallEnd) -> Result<(), Problem> {
    match end {
        CallEnd::SessionLost => {
            Err(Problem::new(Code::SessionLost, "the session ended before the program did"))
        }
        _ => Ok(()),
    }
}

/// What a state that a run rests in means for the command that brought it there.
pub(crate) fn of_run(state: &str, problem: Option<&Problem>) -> Ending {
    let outcome = match (state, problem) {
        (_, Some(problem)) => problem.code.outcome(),
        ("refused", None) => Outcome::Refused,
        ("failed", None) => Outcome::GateFailed,
        ("out_of_budget" | "expired", None) => Outcome::Exhausted,
        ("interrupted", None) => Code::SessionLost.outcome(),
        (_, None) => Outcome::Done,
    };
    Ending::Outcome(outcome)
}

#[cfg(test)]
mod tests {
    use cofferdam_contract::events::CallEnd;
    use cofferdam_contract::problem::{Code, Outcome, Problem};

    use super::{Ending, of_call, of_run};

    #[test]
    fn a_programs_end_is_ours() {
        assert_eq!(of_call(CallEnd::Exited, Some(0), None), 0);
        assert_eq!(of_call(CallEnd::Exited, Some(42), None), 42);
        assert_eq!(of_call(CallEnd::Signaled, None, Some(9)), 137);
        assert_eq!(of_call(CallEnd::TimedOut, None, Some(9)), 124);
        assert_eq!(of_call(CallEnd::NotStarted, None, None), 127);
        assert_eq!(of_call(CallEnd::SessionLost, None, None), 125);
    }

    #[test]
    fn a_run_that_waits_is_done_and_one_that_failed_says_why() {
        assert_eq!(of_run("awaiting_approval", None), Ending::Outcome(Outcome::Done));
        assert_eq!(of_run("applied", None), Ending::Outcome(Outcome::Done));
        for (code, outcome) in [
            (Code::BudgetExhausted, Outcome::Exhausted),
            (Code::GateFailed, Outcome::GateFailed),
            (Code::BoundaryUnavailable, Outcome::BoundaryUnavailable),
        ] {
            let problem = Problem::new(code, "so it is");
            assert_eq!(of_run("failed", Some(&problem)), Ending::Outcome(outcome));
        }
    }
}
