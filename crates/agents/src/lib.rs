//! Drivers: the agents that a run can be given to, one file each and one line in [`DRIVERS`].
//!
//! A driver proposes; it acts through the call pipeline alone and has no way round it. Must never
//! know how sessions, journals or repositories work.

pub mod codemod;
mod command;
mod patch;
mod rewrite;

use std::future::Future;
use std::pin::Pin;

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::DriverRequest;
use cofferdam_tools::{CallReport, Doors};

/// Every driver there is.
pub const DRIVERS: &[&dyn Driver] = &[&command::Command, &rewrite::Rewrite, &patch::Patch];

/// What a driver is given.
pub struct Assignment<'a> {
    /// What it was asked for.
    pub request: &'a DriverRequest,
    /// The change of the `patch` driver as a unified diff, whatever it came from.
    pub patch: Option<Vec<u8>>,
    /// The only way to act.
    pub doors: &'a Doors,
}

/// A future that a driver returns.
pub type Driving<'a> = Pin<Box<dyn Future<Output = Result<CallReport, Problem>> + Send + 'a>>;

/// An agent product.
pub trait Driver: Send + Sync {
    /// Name in the registry and in requests.
    fn name(&self) -> &'static str;

    /// One line for people.
    fn summary(&self) -> &'static str;

    /// Works until the agent is done. The report is of its last call; it is shown, not believed.
    fn drive<'a>(&'a self, assignment: Assignment<'a>) -> Driving<'a>;
}

/// The driver of that name.
///
/// # Errors
/// `request_invalid`, naming the drivers there are.
pub fn find(name: &str) -> Result<&'static dyn Driver, Problem> {
    let found = DRIVERS.iter().find(|driver| driver.name() == name);
    found.copied().ok_or_else(|| {
        let known: Vec<_> = DRIVERS.iter().map(|driver| driver.name()).collect();
        Problem::new(Code::RequestInvalid, "no driver has that name")
            .at(Some("driver".to_owned()))
            .hint(format!("the drivers are: {}", known.join(", ")))
    })
}

fn mismatch<'a>(driver: &'static str) -> Driving<'a> {
    Box::pin(async move {
        Err(Problem::new(Code::Internal, format!("the request is not for the {driver} driver")))
    })
}
