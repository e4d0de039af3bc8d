//! `cargo xtask generate`: writes the files that are made from code; `--check` only compares.
//!
//! The schemas come from `contract`, the pages of the reference from the program itself: a page is
//! one line in [`PAGES`]. Must never be the only place where something is said.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cofferdam_contract::schema::published;

use crate::{Outcome, shell};

/// Folders in which every file is generated.
const FOLDERS: &[&str] = &["schemas/v1", "docs/reference"];

/// Parts of the reference that the program prints (`cofferdam __reference PART`), and their files
/// under `docs/reference/`.
const PAGES: &[(&str, &str)] = &[
    ("commands", "commands.md"),
    ("exit", "errors.md"),
    ("objects", "objects.md"),
    ("configuration", "configuration.md"),
    ("redteam", "redteam.md"),
];

/// Files in those folders that a test makes, or reads and holds to what there is.
const BY_TESTS: &[&str] = &[
    "docs/reference/contracts.md",
    "docs/reference/denials-flat.md",
    "docs/reference/denials.md",
    "docs/reference/invariants.md",
];

/// Precedes every generated page.
const NOTICE: &str = "<!-- Made by `cargo xtask generate`: do not edit. -->\n\n";

/// A file as it should be.
pub(crate) struct Generated {
    /// Where, relative to the project.
    pub(crate) path: PathBuf,
    /// All of it.
    pub(crate) text: String,
}

/// Writes the files, or with `--check` says which are not as they should be.
pub(crate) fn main(root: &Path, args: &[String]) -> Outcome {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("the only argument is --check"),
    };
    let files = make(root)?;
    let stale = stale(root, &files)?;
    if check {
        stale.iter().for_each(|path| println!("stale: {}", path.display()));
        return Ok(stale.is_empty());
    }
    let mut nothing_left = true;
    for path in &stale {
        match files.iter().find(|file| file.path == *path) {
            Some(file) => {
                println!("writing {}", path.display());
                write(&root.join(path), &file.text)?;
            }
            None => {
                println!("nothing makes {}: remove it, or move it", path.display());
                nothing_left = false;
            }
        }
    }
    Ok(nothing_left)
}

/// Every generated file.
pub(crate) fn make(root: &Path) -> anyhow::Result<Vec<Generated>> {
    let mut files: Vec<_> = published()
        .iter()
        .map(|schema| Generated {
            path: PathBuf::from(format!("schemas/v1/{}.json", schema.name)),
            text: schema.to_json(),
        })
        .collect();
    for (part, file) in PAGES {
        let command = ["run", "--quiet", "--package", "cofferdam", "--", "__reference", part];
        let text = shell::output(root, env!("CARGO"), &command)?;
        let path = PathBuf::from(format!("docs/reference/{file}"));
        files.push(Generated { path, text: format!("{NOTICE}{text}") });
    }
    Ok(files)
}

/// The generated files that are missing or different, and those that nothing makes any more.
pub(crate) fn stale(root: &Path, files: &[Generated]) -> anyhow::Result<Vec<PathBuf>> {
    let mut stale: Vec<PathBuf> = files
        .iter()
        .filter(|file| fs::read_to_string(root.join(&file.path)).ok().as_ref() != Some(&file.text))
        .map(|file| file.path.clone())
        .collect();
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        for entry in entries {
            let path = Path::new(folder).join(entry?.file_name());
            let by_test = BY_TESTS.iter().any(|other| path == Path::new(other));
            if !by_test && !files.iter().any(|file| file.path == path) {
                stale.push(path);
            }
        }
    }
    stale.sort();
    Ok(stale)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_a_changed_and_a_left_over_file_are_stale_and_an_equal_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join("schemas/v1").join(name);
        for (name, text) in [("equal.json", "1"), ("changed.json", "2"), ("left-over.json", "3")] {
            write(&at(name), text).unwrap();
        }
        let file = |name: &str| Generated {
            path: Path::new("schemas/v1").join(name),
            text: "1".to_owned(),
        };
        let files = [file("equal.json"), file("changed.json"), file("missing.json")];
        let stale = stale(root.path(), &files).unwrap();
        let names: Vec<_> = stale.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["changed.json", "left-over.json", "missing.json"]);
    }
}
