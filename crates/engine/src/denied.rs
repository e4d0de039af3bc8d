//! Refusals as people ask for them: of one run or of all, one by one or grouped.
//!
//! Made from events alone. Must never know how they are shown.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_contract::denial::Denial;
use cofferdam_contract::events::{DenialEvent, EventBody, RunEvent};
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::refusals::Refusals;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::Engine;

/// What refusals are grouped by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DenialGrouping {
    /// The rule that refused.
    Rule,
    /// What was tried on.
    Target,
    /// The driver of the run.
    Driver,
}

/// Which refusals are wanted.
#[derive(Clone, Debug)]
pub struct DenialQuery {
    /// Of this run; none: of all.
    pub run: Option<RunId>,
    /// Grouped instead of one by one.
    pub by: Option<DenialGrouping>,
    /// At most this many records or groups.
    pub limit: usize,
}

/// Refusals that have something in common.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct DenialGroup {
    /// What they have in common.
    pub key: String,
    /// Refusals, coalesced ones counted each.
    pub denials: u64,
    /// Records of them.
    pub records: u64,
    /// Runs in which they happened.
    pub runs: u64,
    /// What may be done instead; of the last one.
    pub hint: String,
}

/// `denials --json`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct DenialsView {
    /// Runs that were looked at.
    pub runs: u64,
    /// Refusals in them, coalesced ones counted each.
    pub denials: u64,
    /// Records of them.
    pub records_total: u64,
    /// Refusals that were noticed and that no record tells of.
    pub denials_lost: u64,
    /// Refusals may be missing from the record.
    pub events_incomplete: bool,
    /// The runs whose record may miss some.
    pub incomplete_runs: Vec<RunId>,
    /// With `--by`: the groups, the largest first. Else empty.
    pub groups: Vec<DenialGroup>,
    /// Without `--by`: the records, the latest runs first and each run's in order. Else empty.
    pub records: Vec<Denial>,
    /// Groups or records that were left out by the limit.
    pub more: u64,
}

#[derive(Default)]
struct Gathered {
    view: DenialsView,
    groups: BTreeMap<String, (DenialGroup, BTreeSet<RunId>)>,
}

impl Engine {
    /// Refusals, as the journal has them. One run at a time is in memory.
    ///
    /// # Errors
    /// `run_unknown`, `journal_corrupt`.
    pub async fn denials(&self, query: &DenialQuery) -> Result<DenialsView, Problem> {
        let runs = match &query.run {
            Some(run) => vec![run.clone()],
            None => self.runs().await?.into_iter().map(|row| row.run).collect(),
        };
        let mut gathered = Gathered::default();
        for run in runs {
            let events = self.events(&run, 0).await?;
            gathered.add(&run, events.iter().map(|event| &event.body), query);
        }
        Ok(gathered.finish(query))
    }
}

impl Gathered {
    fn add<'a>(
        &mut self,
        run: &RunId,
        events: impl Iterator<Item = &'a EventBody>,
        query: &DenialQuery,
    ) {
        let (mut refusals, mut driver) = (Refusals::default(), String::new());
        for event in events {
            refusals.add(event);
            match event {
                EventBody::Run(RunEvent::Admitted(admitted)) => {
                    driver.clone_from(&admitted.driver);
                }
                EventBody::Denial(DenialEvent::Recorded(denial)) => {
                    self.add_denial(run, &driver, denial, query);
                }
                _ => {}
            }
        }
        let view = &mut self.view;
        view.runs += 1;
        view.denials = view.denials.saturating_add(refusals.denials());
        view.records_total += refusals.records();
        view.denials_lost = view.denials_lost.saturating_add(refusals.lost());
        if refusals.is_incomplete() {
            view.events_incomplete = true;
            view.incomplete_runs.push(run.clone());
        }
    }

    fn add_denial(&mut self, run: &RunId, driver: &str, denial: &Denial, query: &DenialQuery) {
        let key = match query.by {
            Some(DenialGrouping::Rule) => &denial.rule,
            Some(DenialGrouping::Target) => &denial.target,
            Some(DenialGrouping::Driver) => driver,
            None if self.view.records.len() < query.limit => {
                return self.view.records.push(denial.clone());
            }
            None => return self.view.more += 1,
        };
        let group = || DenialGroup {
            key: key.to_owned(),
            denials: 0,
            records: 0,
            runs: 0,
            hint: String::new(),
        };
        let (group, runs) =
            self.groups.entry(key.to_owned()).or_insert_with(|| (group(), BTreeSet::new()));
        group.denials = group.denials.saturating_add(denial.count);
        group.records += 1;
        group.hint.clone_from(&denial.hint);
        runs.insert(run.clone());
    }

    fn finish(self, query: &DenialQuery) -> DenialsView {
        let Self { mut view, groups } = self;
        let count = |(group, runs): (DenialGroup, BTreeSet<RunId>)| DenialGroup {
            runs: runs.len() as u64,
            ..group
        };
        view.groups = groups.into_values().map(count).collect();
        // Stable, so equal ones stay in the order of their keys.
        view.groups.sort_by_key(|group| std::cmp::Reverse(group.denials));
        view.more += view.groups.len().saturating_sub(query.limit) as u64;
        view.groups.truncate(query.limit);
        view
    }
}
