//! Stage two: the base is checked out once, in a shared cache, whatever the number of sessions.

use cofferdam_contract::events::{Admitted, EventBody, Prepared, RunEvent};
use cofferdam_contract::problem::Problem;

use crate::live::Live;

pub(super) async fn prepare(live: &Live, admitted: &Admitted) -> Result<Vec<EventBody>, Problem> {
    let base = live.base(&admitted.base).await?;
    let survey = &base.survey;
    let prepared = Prepared {
        files: survey.files,
        submodules: survey.submodules.len() as u64,
        lfs: survey.lfs,
        history_cut: survey.cut,
    };
    Ok(vec![EventBody::Run(RunEvent::Prepared(prepared))])
}
