//! The page that people read: ratios first, absolute times second, goals beside them.
//!
//! Must never hold a date: the page changes when the numbers do.

use std::fmt::Write as _;

use crate::machine::Machine;
use crate::measure::Timing;
use crate::report::{Claim, Goal, Table};

/// The whole page as Markdown.
pub(crate) fn render(machine: &Machine, tables: &[Table]) -> String {
    let mut page = String::from(INTRODUCTION);
    let Machine { processor, cores, memory_gib, kernel, file_system, git, bubblewrap } = machine;
    let _ = write!(
        page,
        "\nMeasured on {cores} cores of {processor}, {memory_gib} GiB, Linux {kernel}, \
         {file_system}, {git}, {bubblewrap}.\n\n## Ratios\n"
    );
    for table in tables {
        page.push_str(&claims(table));
    }
    page.push_str("\n## Absolute times\n");
    for table in tables {
        let _ = write!(page, "\n### {}\n\n", table.title);
        page.push_str("| what | p50 | p99 | samples |\n|---|---|---|---|\n");
        table.timings.iter().for_each(|timing| page.push_str(&timing_row(timing)));
    }
    page
}

/// What follows from one table.
pub(crate) fn claims(table: &Table) -> String {
    let mut page = format!("\n### {}\n\n{}\n\n", table.title, table.about);
    page.push_str("| what | measured | goal | |\n|---|---|---|---|\n");
    table.claims.iter().for_each(|claim| page.push_str(&claim_row(claim)));
    let missed = table.claims.iter().filter(|claim| is_missed(claim));
    for claim in missed.filter(|claim| !claim.where_it_goes.is_empty()) {
        let _ = write!(page, "\n*{}*: {}\n", claim.what, claim.where_it_goes);
    }
    page
}

const INTRODUCTION: &str = "<!-- Made by `cargo xtask bench`: do not edit. -->\n
# Benchmarks\n
Everything in one table was measured in one run of one program, in turns, so that whatever else
the machine did hit all alike. Read the ratios: absolute times are of one machine. The command is
`cargo xtask bench` (it needs `bwrap`, `rg`, `cargo`, `npm` and pytest, and half an hour the first
time); `cargo xtask bench boundary` prints the tables of the boundary alone, and `--quick` fewer rounds.
";

fn claim_row(claim: &Claim) -> String {
    let Claim { what, value, unit, goal, .. } = claim;
    let value = format!("{} {unit}", number(*value));
    match goal {
        None => format!("| {what} | {value} | | |\n"),
        Some(Goal::AtMost(most)) => {
            format!("| {what} | {value} | ≤ {} {unit} | {} |\n", number(*most), word(claim))
        }
        Some(Goal::AtLeast(least)) => {
            format!("| {what} | {value} | ≥ {} {unit} | {} |\n", number(*least), word(claim))
        }
    }
}

fn word(claim: &Claim) -> &'static str {
    if is_missed(claim) { "missed" } else { "met" }
}

fn is_missed(claim: &Claim) -> bool {
    match claim.goal {
        None => false,
        Some(Goal::AtMost(most)) => claim.value > most,
        Some(Goal::AtLeast(least)) => claim.value < least,
    }
}

fn timing_row(timing: &Timing) -> String {
    let Timing { name, samples, p50_us, p99_us } = timing;
    format!("| {name} | {} | {} | {samples} |\n", time(*p50_us), time(*p99_us))
}

/// Three figures are more than a shared machine can promise.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", number(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", number(us / 1e3)),
        us => format!("{us:.0} µs"),
    }
}
