//! Where a session's refusals go: into the journal, and to the call that they belong to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cofferdam_contract::denial::Denial;
use cofferdam_contract::events::{DenialEvent, EventBody, Lost};
use cofferdam_contract::ids::CallId;
use cofferdam_contract::ports::Record;
use cofferdam_sandbox::DenialSink;

/// Most refusals that are kept for a call's own report; the journal has them all.
const PER_CALL_MAX: usize = 256;

/// Records refusals and hands them out by call.
pub struct DenialBook {
    record: Arc<dyn Record>,
    by_call: Mutex<HashMap<CallId, Vec<Denial>>>,
}

impl DenialBook {
    /// A book that writes to `record`.
    pub fn new(record: Arc<dyn Record>) -> Self {
        Self { record, by_call: Mutex::default() }
    }

    /// The refusals of a call that has ended; they are forgotten here.
    pub fn take(&self, call: &CallId) -> Vec<Denial> {
        let mut by_call = self.by_call.lock().unwrap_or_else(PoisonError::into_inner);
        by_call.remove(call).unwrap_or_default()
    }
}

impl DenialSink for DenialBook {
    fn denied(&self, denial: Denial) {
        if let Some(call) = &denial.call {
            let mut by_call = self.by_call.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = by_call.entry(call.clone()).or_default();
            if kept.len() < PER_CALL_MAX {
                kept.push(denial.clone());
            }
        }
        self.record.observe(EventBody::Denial(DenialEvent::Recorded(denial)));
    }

    fn lost(&self, count: u64, source: &str) {
        let lost = Lost { count, source: source.to_owned() };
        self.record.observe(EventBody::Denial(DenialEvent::Lost(lost)));
    }
}
