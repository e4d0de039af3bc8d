//! Random operations give the same changeset whatever driver they are done in.

use std::sync::{Arc, OnceLock};

use cofferdam_sandbox::Launcher;
use proptest::prelude::*;

use super::{BTRFS, COPY, OVERLAY};
use crate::conformance::site::{self, Site};

const PATHS: &[&str] =
    &["a", "b.txt", "run", "d", "d/x", "d/to", "d/e", "d/e/z", "d/e/deep/f", "n", "n/m", "n/m/o"];

fn operation() -> impl Strategy<Value = String> {
    let path = || prop::sample::select(PATHS);
    prop_oneof![
        3 => (path(), "[a-c]{0,3}").prop_map(|(path, text)| format!("printf '{text}' > {path}")),
        2 => path().prop_map(|path| format!("rm -rf {path}")),
        2 => path().prop_map(|path| format!("mkdir -p {path}")),
        2 => (path(), path()).prop_map(|(one, two)| format!("mv -T {one} {two}")),
        1 => (path(), path()).prop_map(|(one, two)| format!("ln -fT {one} {two}")),
        1 => (path(), path()).prop_map(|(one, two)| format!("ln -sfT {one} {two}")),
        1 => path().prop_map(|path| format!("chmod +x {path}")),
        1 => path().prop_map(|path| format!("truncate -s 2 {path}")),
        1 => path().prop_map(|path| format!("rm -rf {path} && mkdir {path}")),
        // By all that git knows of a file: by size and second alone, one that was moved over another
        // is the same or not as the clock will have it.
        1 => path()
            .prop_map(|path| format!("git -c core.checkStat=default checkout -q -- {path}")),
        1 => (path(), path())
            // What comes of copying something into itself depends on the order of its names.
            .prop_filter("into itself", |(one, two)| !two.starts_with(one))
            .prop_map(|(one, two)| format!("cp -aT {one} {two}")),
    ]
}

/// One for all cases.
fn launcher() -> &'static Arc<Launcher> {
    static LAUNCHER: OnceLock<Arc<Launcher>> = OnceLock::new();
    LAUNCHER.get_or_init(|| Arc::new(site::launcher()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_same_operations_give_the_same_changeset(
        operations in prop::collection::vec(operation(), 1..12),
    ) {
        let script: String =
            operations.iter().map(|it| format!("{{ {it}; }} 2>/dev/null || :\n")).collect();
        let drivers = [OVERLAY, COPY, BTRFS];
        let drivers = drivers.into_iter().filter(|driver| crate::pool::can_hold(driver.kind));
        let results: Vec<_> = drivers.map(|driver| {
            let site = Site::filled(launcher(), driver.kind, Vec::new());
            site.sh(&format!("{script}true"));
            site.result()
        }).collect();
        for result in &results[1..] {
            prop_assert_eq!(&results[0], result, "{}", script);
        }
    }
}
