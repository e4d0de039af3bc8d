//! Coverage-guided fuzzing of whatever reads bytes from a session or a repository.
//!
//! `cargo xtask fuzz` builds and runs it; `cargo xtask test` does so for a bounded time. The
//! environment variable `COFFERDAM_FUZZ` names the target. A target is one function and one line in
//! [`TARGETS`]; it fails by panicking, so it may assert more than that nothing panics. Corpora are
//! in `fuzz/corpus/TARGET`.

#![no_main]

mod changeset;
mod formats;
mod shapes;
mod texts;
mod wires;

use std::sync::LazyLock;

/// A name and what is done with the bytes.
type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("address", wires::address),
    ("audit", wires::audit),
    ("cargo", formats::cargo),
    ("cargo-lock", formats::cargo_lock),
    ("changeset", changeset::scan),
    ("diff", wires::diff),
    ("ignored", changeset::ignored),
    ("init", wires::init),
    ("lines", formats::lines),
    ("narrowing", texts::narrowing),
    ("npm", formats::npm),
    ("npm-lock", formats::npm_lock),
    ("path", texts::path),
    ("pyproject", formats::pyproject),
    ("python-lock", formats::python_lock),
    ("request", texts::request),
    ("requirements", formats::requirements),
    ("sarif", formats::sarif),
    ("secrets", formats::secrets),
    ("shown", texts::shown),
    ("wish", texts::wish),
];

static CHOSEN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("COFFERDAM_FUZZ").unwrap_or_default();
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.map_or_else(|| panic!("COFFERDAM_FUZZ names no target: {name:?}"), |(_, run)| *run)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| CHOSEN(bytes));
