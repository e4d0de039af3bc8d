//! The published JSON Schemas, one per contract, made from the types.

use schemars::{JsonSchema, Schema, schema_for};

use crate::approval::Approval;
use crate::decision::PolicyDecision;
use crate::events::Event;
use crate::evidence::EvidenceRecord;
use crate::problem::Problem;
use crate::request::RuntimeRequest;
use crate::tool::ToolContract;
use crate::trace::TraceSpan;

/// One published schema.
pub struct Published {
    /// File name under `schemas/v1/`, without `.json`.
    pub name: &'static str,
    /// The schema.
    pub schema: Schema,
}

impl Published {
    /// The text of the published file.
    pub fn to_json(&self) -> String {
        // `{:#}` of a JSON value is its pretty form; it cannot fail.
        format!("{:#}\n", self.schema.as_value())
    }
}

/// Every published schema, in the order of the contracts.
pub fn published() -> Vec<Published> {
    fn of<T: JsonSchema>(name: &'static str) -> Published {
        Published { name, schema: schema_for!(T) }
    }
    vec![
        of::<RuntimeRequest>("runtime-request"),
        of::<ToolContract>("tool-contract"),
        of::<PolicyDecision>("policy-decision"),
        of::<Approval>("approval"),
        of::<EvidenceRecord>("evidence-record"),
        of::<TraceSpan>("trace-span"),
        of::<Event>("event"),
        of::<Problem>("problem"),
    ]
}
