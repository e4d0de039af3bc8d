//! What is reported: tables of times, and the claims that are read from them.

use crate::measure::Timing;

/// Contenders that were measured in turns, and what follows.
pub(crate) struct Table {
    pub(crate) title: String,
    /// What is measured, where a name cannot say it.
    pub(crate) about: &'static str,
    pub(crate) claims: Vec<Claim>,
    pub(crate) timings: Vec<Timing>,
}

/// One number that has a goal, or that explains one that has.
pub(crate) struct Claim {
    pub(crate) what: String,
    pub(crate) value: f64,
    /// `×`, `ms` and the like.
    pub(crate) unit: &'static str,
    pub(crate) goal: Option<Goal>,
    /// Where the time goes; read where the goal is missed.
    pub(crate) where_it_goes: &'static str,
}

impl Claim {
    /// A number without a goal.
    pub(crate) fn new(what: &str, value: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), value, unit, goal: None, where_it_goes: "" }
    }

    /// What it should be.
    pub(crate) fn with_goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Says where the time goes, in case the goal is missed.
    pub(crate) fn goes(self, where_it_goes: &'static str) -> Self {
        Self { where_it_goes, ..self }
    }
}

/// What the number should be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// The medians of one table, for claims.
pub(crate) struct Medians<'a>(pub(crate) &'a [Timing]);

impl Medians<'_> {
    /// A median in microseconds; not a number for a contender that did not take part.
    fn of(&self, name: &str) -> f64 {
        self.0.iter().find(|timing| timing.name == name).map_or(f64::NAN, |it| it.p50_us)
    }

    /// How many times as long `what` takes as `against`.
    pub(crate) fn ratio(
        &self,
        what: &str,
        (name, against): (&str, &str),
        goal: Option<Goal>,
    ) -> Claim {
        Claim { goal, ..Claim::new(what, self.ratio_of(name, against), "×") }
    }

    /// The same as a number.
    pub(crate) fn ratio_of(&self, name: &str, against: &str) -> f64 {
        self.of(name) / self.of(against)
    }

    /// How many in a second, one after the other.
    pub(crate) fn rate(&self, what: &str, name: &str) -> Claim {
        Claim::new(what, 1e6 / self.of(name), "a second")
    }

    /// How much longer `what` takes than `without`.
    pub(crate) fn added(
        &self,
        what: &str,
        (name, without): (&str, &str),
        goal: Option<Goal>,
    ) -> Claim {
        Claim { goal, ..Claim::new(what, (self.of(name) - self.of(without)) / 1000.0, "ms") }
    }

    /// How long it takes at the worst, one in a hundred left out.
    pub(crate) fn slowest(&self, what: &str, name: &str, goal: Option<Goal>) -> Claim {
        let timing = self.0.iter().find(|timing| timing.name == name);
        let value = timing.map_or(f64::NAN, |it| it.p99_us) / 1000.0;
        Claim { goal, ..Claim::new(what, value, "ms") }
    }

    /// How long it takes.
    pub(crate) fn median(&self, what: &str, name: &str, goal: Option<Goal>) -> Claim {
        Claim { goal, ..Claim::new(what, self.of(name) / 1000.0, "ms") }
    }
}
