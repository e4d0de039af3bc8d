//! Who may use whom: against `layers.toml`, in manifests and in sources.

use std::collections::BTreeMap;
use std::path::Path;

use super::Offence;
use super::project::{File, Project};

const REMEDY: &str = "take the way through a crate that may, or change layers.toml with the design";
/// The stages of a run are read by everyone, so each leans on little.
const STAGES: &str = "crates/engine/src/run";
const STAGE_CRATES_MAX: usize = 3;

/// What `Cargo.toml` files depend on.
pub(crate) fn manifests(project: &Project) -> Vec<Offence> {
    let mut offences = Vec::new();
    let mut seen = Vec::new();
    for file in project.files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        let Some(krate) = file.krate() else { continue };
        seen.push(krate);
        if !project.layers.knows(krate) {
            let fault = "the crate is not in layers.toml".to_owned();
            offences.push(offence(&file.path, 1, krate, fault));
            continue;
        }
        for (used, in_test) in dependencies(&file.text) {
            if !project.layers.allow(krate, &used, in_test) {
                let line = line_of(&file.text, &format!("cofferdam-{used}"));
                offences.push(offence(
                    &file.path,
                    line,
                    &used,
                    format!("{krate} depends on {used}"),
                ));
            }
        }
    }
    for listed in project.layers.names().filter(|name| !seen.contains(name)) {
        let fault = format!("there is no crate {listed}");
        offences.push(offence(Path::new("layers.toml"), 1, listed, fault));
    }
    offences
}

/// Our crates in a manifest, each with whether it is for tests alone.
fn dependencies(manifest: &str) -> Vec<(String, bool)> {
    // A manifest that is not TOML would not have built.
    let table = manifest.parse::<toml::Table>().unwrap_or_default();
    let mut tables = vec![table.clone()];
    if let Some(targets) = table.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(|target| target.as_table().cloned()));
    }
    let mut found = Vec::new();
    for table in &tables {
        for (section, in_test) in
            [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
        {
            let section = table.get(section).and_then(toml::Value::as_table);
            let names = section.into_iter().flat_map(toml::Table::keys);
            let ours = names.filter_map(|name| name.strip_prefix("cofferdam-"));
            found.extend(ours.map(|name| (name.to_owned(), in_test)));
        }
    }
    found
}

/// What sources name, paths in macros included.
pub(crate) fn sources(project: &Project) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (file, source) in project.sources() {
        let Some(krate) = file.krate() else { continue };
        for (used, line) in crates_named(project, file) {
            if !project.layers.allow(krate, &used, source.is_test(line)) {
                offences.push(offence(&file.path, line, &used, format!("{krate} names {used}")));
            }
        }
    }
    offences
}

/// How many of our crates a stage of the run uses.
pub(crate) fn stages(project: &Project) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (file, source) in project.sources().filter(|(file, _)| file.path.starts_with(STAGES)) {
        let mut used: BTreeMap<String, usize> = BTreeMap::new();
        for (name, line) in crates_named(project, file) {
            if !source.is_test(line) {
                used.entry(name).or_insert(line);
            }
        }
        if used.len() > STAGE_CRATES_MAX {
            let names: Vec<_> = used.keys().map(String::as_str).collect();
            offences.push(Offence {
                path: file.path.clone(),
                line: used.values().copied().max().unwrap_or(1),
                rule: "stage-arrows",
                name: String::new(),
                fault: format!("a stage uses {} of our crates: {}", used.len(), names.join(", ")),
                remedy: "leave three; the rest belongs behind a function of engine",
            });
        }
    }
    offences
}

fn crates_named(project: &Project, file: &File) -> Vec<(String, usize)> {
    let words = file.source.iter().flat_map(|source| &source.words);
    let named = words.filter_map(|word| Some((word.text.strip_prefix("cofferdam_")?, word.line)));
    named
        .filter(|(name, _)| project.layers.knows(name))
        .map(|(name, line)| (name.to_owned(), line))
        .collect()
}

fn line_of(text: &str, needle: &str) -> usize {
    text.lines().position(|line| line.contains(needle)).map_or(1, |at| at + 1)
}

fn offence(path: &Path, line: usize, name: &str, fault: String) -> Offence {
    let (path, name) = (path.to_owned(), name.to_owned());
    Offence { path, line, rule: "arrow", name, fault, remedy: REMEDY }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{faults, project};
    use super::*;

    #[test]
    fn a_dependency_that_is_not_listed_offends() {
        let manifest = "[dependencies]\ncofferdam-high = {}\n";
        let found = manifests(&project(&[
            ("crates/low/Cargo.toml", manifest),
            ("crates/high/Cargo.toml", "[dependencies]\ncofferdam-low = {}\n"),
            ("crates/kit/Cargo.toml", ""),
            ("crates/engine/Cargo.toml", ""),
        ]));
        assert_eq!(faults(&found), ["crates/low/Cargo.toml:2: low depends on high"]);
    }

    #[test]
    fn tests_may_use_what_tests_are_made_of_and_the_product_may_not() {
        let crates = |manifest| {
            manifests(&project(&[
                ("crates/low/Cargo.toml", manifest),
                ("crates/high/Cargo.toml", ""),
                ("crates/kit/Cargo.toml", ""),
                ("crates/engine/Cargo.toml", ""),
            ]))
        };
        assert_eq!(crates("[dev-dependencies]\ncofferdam-kit = {}\n"), []);
        assert_eq!(crates("[dependencies]\ncofferdam-kit = {}\n").len(), 1);
        assert_eq!(crates("[target.'cfg(unix)'.dependencies]\ncofferdam-kit = {}\n").len(), 1);
    }

    #[test]
    fn a_crate_that_is_not_listed_and_a_listed_one_that_is_not_there_offend() {
        let found = manifests(&project(&[("crates/new/Cargo.toml", "")]));
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[test]
    fn a_path_in_a_source_offends_in_macros_too() {
        let text = "//! Doc.\nuse cofferdam_low::A;\nfn f() { m!(cofferdam_high::B) }\n";
        let found = sources(&project(&[("crates/low/src/lib.rs", text)]));
        assert_eq!(faults(&found), ["crates/low/src/lib.rs:3: low names high"]);
        assert_eq!(sources(&project(&[("crates/high/src/lib.rs", text)])), []);
    }

    #[test]
    fn a_source_may_name_the_kit_in_tests_alone() {
        let text = "//! Doc.\n#[cfg(test)]\nmod tests {\n    use cofferdam_kit::A;\n}\n";
        assert_eq!(sources(&project(&[("crates/low/src/lib.rs", text)])), []);
        let text = "//! Doc.\nuse cofferdam_kit::A;\n";
        assert_eq!(sources(&project(&[("crates/low/src/lib.rs", text)])).len(), 1);
        assert_eq!(sources(&project(&[("crates/low/tests/it/main.rs", text)])), []);
    }

    #[test]
    fn a_stage_with_four_of_our_crates_offends_and_one_with_three_does_not() {
        let three = "use cofferdam_low::A; use cofferdam_high::B; use cofferdam_kit::C;";
        let four = format!("{three} use cofferdam_engine::D;");
        let path = "crates/engine/src/run/work.rs";
        assert_eq!(stages(&project(&[(path, three)])), []);
        assert_eq!(stages(&project(&[(path, &four)])).len(), 1);
        assert_eq!(stages(&project(&[("crates/engine/src/lib.rs", &four)])), []);
    }
}
