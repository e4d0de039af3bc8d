//! Questions about grants that the engine answers from the journal.
//!
//! Must never need a session that is open.

use cofferdam_contract::grant::GrantRef;
use cofferdam_contract::ids::{RunId, SessionId};
use cofferdam_contract::problem::{Code, Problem};

use super::view::{GrantView, of, run_has};
use crate::engine::Engine;

impl Engine {
    /// The grants and requests of a run, in the order in which they came.
    ///
    /// # Errors
    /// `run_unknown`, `journal_corrupt`.
    pub async fn grants(&self, run: &RunId) -> Result<Vec<GrantView>, Problem> {
        let events = self.events(run, 0).await?;
        Ok(of(&events, self.parts().clock.now()))
    }

    /// The run in which a grant or a request for one is.
    ///
    /// # Errors
    /// `grant_unknown`.
    pub async fn run_of_grant(&self, what: &GrantRef) -> Result<RunId, Problem> {
        for row in self.runs().await? {
            if run_has(&self.events(&row.run, 0).await?, what) {
                return Ok(row.run);
            }
        }
        Err(Problem::new(Code::GrantUnknown, format!("no run has {what}")))
    }

    /// The run to which a session belongs.
    ///
    /// # Errors
    /// `session_unknown`.
    pub async fn run_of_session(&self, session: &SessionId) -> Result<RunId, Problem> {
        for row in self.runs().await? {
            let view = self.show(&row.run).await?;
            if view.sessions.contains(session) {
                return Ok(row.run);
            }
        }
        Err(Problem::new(Code::SessionUnknown, format!("no run has the session {session}")))
    }
}
