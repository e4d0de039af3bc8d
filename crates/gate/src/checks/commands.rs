//! x
use crate::GateInput;
use cofferdam_contract::check::CheckResult;
/// x
pub fn run(_: &GateInput<'_>, _: &mut dyn FnMut(CheckResult)) {}
