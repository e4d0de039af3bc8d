//! The page on the invariants names tests that exist, and at least ten for each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Attempts to break it that each invariant has at the least.
const ATTACKS_MIN: usize = 10;
const INVARIANTS: usize = 9;
/// Those whose attacks are also made with their guard off (`cargo xtask guards`).
const GUARDED: std::ops::RangeInclusive<usize> = 4..=7;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// One line of a table: the file and the test.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Attack {
    pub(crate) file: String,
    pub(crate) test: String,
}

/// The attacks of each section of the page, and rows that are none.
fn attacks(page: &str) -> (Vec<Vec<Attack>>, Vec<String>) {
    let (mut sections, mut malformed) = (vec![], vec![]);
    for line in page.lines() {
        if line.starts_with("## ") {
            sections.push(vec![]);
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let named = cells[0].strip_suffix('`').and_then(|cell| cell.split_once("::"));
        match (named, cells.get(1), sections.last_mut()) {
            (Some((file, test)), Some(control), Some(section)) if !control.is_empty() => {
                section.push(Attack { file: file.to_owned(), test: test.to_owned() });
            }
            _ => malformed.push(line.to_owned()),
        }
    }
    (sections, malformed)
}

/// Whether the file holds a test of that name: an attribute or a property, and the function.
pub(crate) fn exists(attack: &Attack) -> bool {
    let Ok(source) = std::fs::read_to_string(root().join("crates").join(&attack.file)) else {
        return false;
    };
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let opens = [format!("fn {}(", attack.test), format!("async fn {}(", attack.test)];
    lines.iter().enumerate().any(|(at, line)| {
        let is_it = opens.iter().any(|open| line.starts_with(open.as_str()));
        let before = lines[..at].iter().rev().take_while(|line| !line.is_empty() && **line != "}");
        is_it
            && before
                .take(6)
                .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

/// What is wrong with a page.
fn faults(page: &str) -> Vec<String> {
    let (sections, malformed) = attacks(page);
    let mut faults = malformed;
    if sections.len() != INVARIANTS {
        faults.push(format!("{} sections", sections.len()));
    }
    for (number, section) in (1..).zip(&sections) {
        let distinct: BTreeSet<_> = section.iter().collect();
        if distinct.len() != section.len() || distinct.len() < ATTACKS_MIN {
            let (all, distinct) = (section.len(), distinct.len());
            faults.push(format!("invariant {number}: {all} rows, {distinct} attacks"));
        }
        let absent = distinct.into_iter().filter(|attack| !exists(attack));
        faults.extend(absent.map(|it| format!("invariant {number}: no {}::{}", it.file, it.test)));
    }
    faults
}

#[test]
fn every_attack_on_the_page_exists_and_there_are_enough() {
    let page = std::fs::read_to_string(root().join("docs/reference/invariants.md")).unwrap();
    assert_eq!(faults(&page), Vec::<String>::new());
    // The controls: a name that is wrong, and a row too few, are seen.
    let wrong = page.replacen("::", "::not_", 1);
    assert_eq!(faults(&wrong).len(), 1);
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() >= INVARIANTS * ATTACKS_MIN);
    let first = page.find("\n## 1").unwrap()..page.find("\n## 2").unwrap();
    let fewer: String = page[first.clone()].lines().filter(|it| !it.starts_with("| `")).collect();
    assert_eq!(
        faults(&format!("{}\n{fewer}{}", &page[..first.start], &page[first.end..])).len(),
        1
    );
}

/// The attacks of `guards.toml`, as the page names them.
fn guarded() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("guards.toml")).unwrap();
    let list: toml::Table = text.parse().unwrap();
    let guards = list["guard"].as_array().unwrap().iter();
    let attacks = guards.flat_map(|guard| guard["attacks"].as_array().unwrap());
    attacks.map(|attack| attack.as_str().unwrap().to_owned()).collect()
}

#[test]
fn enough_attacks_are_made_with_their_guard_off_as_well() {
    let page = std::fs::read_to_string(root().join("docs/reference/invariants.md")).unwrap();
    let mut guarded = guarded();
    for (number, section) in (1..).zip(attacks(&page).0) {
        let here = section.iter().filter(|it| guarded.remove(&format!("{}::{}", it.file, it.test)));
        let count = here.count();
        assert!(count >= ATTACKS_MIN || !GUARDED.contains(&number), "invariant {number}: {count}");
    }
    assert!(guarded.is_empty(), "not on the page: {guarded:?}");
}
