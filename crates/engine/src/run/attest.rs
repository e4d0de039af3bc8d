//! The last stage, at every terminal state and after every effect: the run's head is signed into
//! the second chain, up to which its integrity is promised.

use cofferdam_contract::events::{Attested, EventBody, RunEvent};
use cofferdam_contract::problem::Problem;

use crate::live::Live;

/// One event that names the head, then the signature over everything up to and with it.
pub(super) async fn attest(live: &Live) -> Result<Option<Vec<EventBody>>, Problem> {
    if live.is_attested() {
        live.seal().await?;
        return Ok(None);
    }
    let (through, head) = live.head().await?;
    let spent = live.spent().await?;
    Ok(Some(vec![EventBody::Run(RunEvent::Attested(Attested { through, head, spent }))]))
}
