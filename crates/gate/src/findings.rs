//! What one check has found: bounded, however much a hostile change gives it to find.
//!
//! Findings are kept by weight (severity, and whether they escalate), so that no number of light
//! ones pushes out a heavy one: the verdict is the same as if all were kept.

use cofferdam_contract::check::{Finding, Severity};
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::text::counted;

use crate::codes::{FindingCode, escalates};

/// Most findings that one check reports; the rest is counted in its summary.
pub const FINDINGS_MAX: usize = 200;

/// Collects the findings of one check.
#[derive(Default)]
pub struct Findings {
    /// Kept ones with their weight, at most [`FINDINGS_MAX`] of each weight.
    kept: Vec<(usize, Finding)>,
    /// Found, by weight.
    seen: [u64; 6],
}

fn weight(severity: Severity, escalates: bool) -> usize {
    2 * severity as usize + usize::from(escalates)
}

impl Findings {
    /// Adds a finding; it is made only if there is room for it.
    pub fn add(&mut self, code: FindingCode, make: impl FnOnce() -> Finding) {
        let weight = weight(code.severity(), code.escalates());
        self.seen[weight] += 1;
        if self.seen[weight] <= FINDINGS_MAX as u64 {
            self.kept.push((weight, make()));
        }
    }

    /// Adds a finding of `check` at a line.
    pub fn add_at(
        &mut self,
        code: FindingCode,
        check: &str,
        (path, line): (&RepoPath, u64),
        message: impl FnOnce() -> String,
    ) {
        self.add(code, || code.at(check, Some(path), Some(line), message()));
    }

    /// How many of this severity were found, kept or not.
    pub fn count(&self, severity: Severity) -> u64 {
        self.seen[weight(severity, false)] + self.seen[weight(severity, true)]
    }

    /// One line for people.
    pub fn summary(&self, looked_at: usize) -> String {
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let cut = self.seen.iter().sum::<u64>().saturating_sub(FINDINGS_MAX as u64);
        let more = if cut > 0 { format!(", {cut} findings not shown") } else { String::new() };
        let (errors, warnings) = (counted(errors, "error"), counted(warnings, "warning"));
        format!("looked at {looked_at}: {errors}, {warnings}{more}")
    }

    /// The weightiest, at most [`FINDINGS_MAX`]; in the order in which they were found where all
    /// fit.
    pub fn into_kept(mut self) -> Vec<Finding> {
        if self.kept.len() > FINDINGS_MAX {
            self.kept.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
            self.kept.truncate(FINDINGS_MAX);
        }
        self.kept.into_iter().map(|(_, it)| it).collect()
    }
}

impl From<Vec<Finding>> for Findings {
    fn from(list: Vec<Finding>) -> Self {
        let mut findings = Self::default();
        for it in list {
            let weight = weight(it.severity, escalates(&it.code));
            findings.seen[weight] += 1;
            if findings.seen[weight] <= FINDINGS_MAX as u64 {
                findings.kept.push((weight, it));
            }
        }
        findings
    }
}
