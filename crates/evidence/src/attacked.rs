//! The record of the attacks that ship, and whether it is about the boundary that a run had.
//!
//! It is carried as it was written. What makes two boundaries the same is compared here, from the
//! bundle alone, when it is made and when it is verified. Must never know how anything was attacked.

use std::collections::BTreeMap;

use cofferdam_contract::digest::Digest;
use serde::Deserialize;
use serde_json::Value;

use crate::facts::Facts;

/// Rules of a session that stand for no wall: what goes into the workspace, and where that is.
const NO_WALLS: [&str; 3] = ["setup", "carry", "workspace_path"];

/// What is read of a record.
#[derive(Deserialize)]
struct Record {
    /// The program that made the sessions.
    binary: Digest,
    backend: String,
    rootless: bool,
    kernel: String,
    /// The rules of the sessions, as a compiled policy has them.
    session: Value,
    probes: Vec<Probe>,
}

#[derive(Deserialize)]
struct Probe {
    outcome: String,
}

#[derive(Deserialize)]
struct Policy {
    session: Value,
}

/// Whether `record` tells of the boundary that every session of the run had. What it found.
///
/// # Errors
/// In words, in what they differ.
pub(crate) fn fits(record: &[u8], facts: &Facts, policy: &[u8]) -> Result<String, String> {
    let record: Record =
        serde_json::from_slice(record).map_err(|error| format!("it cannot be read: {error}"))?;
    let policy: Policy =
        serde_json::from_slice(policy).map_err(|error| format!("policy.json: {error}"))?;
    if walls(&record.session).is_none() || walls(&record.session) != walls(&policy.session) {
        return Err("it is about sessions by other rules".to_owned());
    }
    if facts.sessions.is_empty() {
        return Err("the run had no session".to_owned());
    }
    for opened in &facts.sessions {
        let report = &opened.report;
        if (&report.backend, report.rootless, &report.kernel)
            != (&record.backend, record.rootless, &record.kernel)
        {
            return Err("it is about sessions of another boundary, user or kernel".to_owned());
        }
    }
    let mut sums = BTreeMap::new();
    for probe in &record.probes {
        *sums.entry(&*probe.outcome).or_insert(0_usize) += 1;
    }
    let sums: Vec<_> = sums.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    Ok(format!(
        "{} attacks on sessions of {}: {}",
        record.probes.len(),
        record.binary,
        sums.join(", ")
    ))
}

fn walls(session: &Value) -> Option<BTreeMap<&String, &Value>> {
    let rules = session.as_object()?.iter();
    Some(rules.filter(|(name, _)| !NO_WALLS.contains(&name.as_str())).collect())
}
