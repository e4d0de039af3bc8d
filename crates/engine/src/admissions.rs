//! What a run was admitted with, as it came: the request and the compiled policy.
//!
//! The journal keeps redacted text only, and a redacted request cannot be carried out. So the
//! original lies in a file of its own, readable by the owner alone, and goes when the run is over.
//! The journal has the digests.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::RuntimeRequest;
use serde::{Deserialize, Serialize};

/// What is kept of one admission.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admission {
    /// As it came.
    pub(crate) request: RuntimeRequest,
    /// [`cofferdam_policy::Policy::to_bytes`], which is JSON.
    pub(crate) policy: String,
}

/// The directory of admissions.
pub struct Admissions {
    dir: PathBuf,
}

impl Admissions {
    /// Opens the directory, and makes it if it is not there.
    ///
    /// # Errors
    /// `storage_failed`.
    pub fn open(dir: &Path) -> Result<Self, Problem> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn path(&self, run: &RunId) -> PathBuf {
        self.dir.join(format!("{run}.json"))
    }

    /// Writes one; it is on disk when this returns.
    pub(crate) fn put(&self, run: &RunId, admission: &Admission) -> Result<(), Problem> {
        let bytes = serde_json::to_vec(admission)
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path(run))
            .map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Reads one.
    pub(crate) fn get(&self, run: &RunId) -> Result<Admission, Problem> {
        let bytes = fs::read(self.path(run)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let detail = "the run was pruned, and nothing can be done with it any more";
                Problem::new(Code::NotInState, detail)
            }
            _ => failed(error),
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Problem::new(Code::JournalCorrupt, format!("an admission: {error}")))
    }

    /// Removes one; that it is not there is no error.
    pub(crate) fn remove(&self, run: &RunId) {
        let _ = fs::remove_file(self.path(run));
    }
}

impl Admissions {
    /// Whose records are there.
    pub(crate) fn runs(&self) -> Result<Vec<RunId>, Problem> {
        let entries = fs::read_dir(&self.dir).map_err(failed)?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }
}

fn failed(error: std::io::Error) -> Problem {
    Problem::new(Code::StorageFailed, format!("the record of an admission: {error}"))
}
