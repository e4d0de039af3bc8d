//! Whether generated files are what the code makes.

use std::path::{Path, PathBuf};

use super::Offence;
use crate::generate;

const REMEDY: &str = "run cargo xtask generate and read the difference";

/// One offence a stale file, or one if they could not be made.
pub(crate) fn generated(root: &Path) -> Vec<Offence> {
    let stale = generate::make(root).and_then(|files| generate::stale(root, &files));
    match stale {
        Ok(stale) => stale
            .into_iter()
            .map(|path| offence(path, "it is not what the code makes".to_owned()))
            .collect(),
        Err(error) => {
            vec![offence(PathBuf::from("docs/reference"), format!("cannot be made: {error:#}"))]
        }
    }
}

fn offence(path: PathBuf, fault: String) -> Offence {
    Offence { path, line: 1, rule: "generated", name: String::new(), fault, remedy: REMEDY }
}
