//! Results of the attacks that ship, kept for evidence: one for each boundary that was attacked, the
//! newest. Must never know which run they fit.

use std::path::Path;

use cofferdam_contract::digest::Digest;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_redteam::Report;

use crate::dirs::{Dirs, shown};
use crate::wiring::OWN_EXECUTABLE;

/// The directory of the state that holds them.
const DIRECTORY: &str = "attacks";
/// Most results that are looked at, and most bytes of one.
const RESULTS_MAX: usize = 256;
const RESULT_BYTES_MAX: u64 = 4 << 20;

/// The digest of this program.
///
/// # Errors
/// `storage_failed` if it cannot be read.
pub(crate) fn own_digest() -> Result<Digest, Problem> {
    let bytes = std::fs::read(OWN_EXECUTABLE).map_err(failed(Path::new(OWN_EXECUTABLE)))?;
    Ok(Digest::of(&bytes))
}

/// A result as it is written: one line, always the same for the same result.
///
/// # Errors
/// `internal`.
pub(crate) fn bytes(report: &Report) -> Result<Vec<u8>, Problem> {
    let mut bytes = serde_json::to_vec(report).map_err(internal)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Keeps a result in the place of an older one about the same boundary.
///
/// # Errors
/// `storage_failed`.
pub(crate) fn keep(dirs: &Dirs, report: &Report) -> Result<(), Problem> {
    let Report { binary, backend, rootless, kernel, session, .. } = report;
    let about = serde_json::to_vec(&(binary, backend, rootless, kernel, session));
    let name = format!("{}.json", Digest::of(&about.map_err(internal)?).hex());
    dirs.prepare()?;
    let dir = dirs.state.join(DIRECTORY);
    std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
    let file = dir.join(name);
    let mut written = tempfile::NamedTempFile::new_in(&dir).map_err(failed(&dir))?;
    std::io::Write::write_all(&mut written, &bytes(report)?).map_err(failed(&file))?;
    written.persist(&file).map_err(|error| failed(&file)(error.error)).map(drop)
}

/// The results that are about this program, the newest first.
///
/// # Errors
/// `storage_failed` if this program cannot be read.
pub(crate) fn kept(state: &Path) -> Result<Vec<Vec<u8>>, Problem> {
    let Ok(entries) = std::fs::read_dir(state.join(DIRECTORY)) else { return Ok(Vec::new()) };
    let binary = own_digest()?;
    let mut found = Vec::new();
    for entry in entries.flatten().take(RESULTS_MAX) {
        if entry.metadata().is_ok_and(|it| it.is_file() && it.len() <= RESULT_BYTES_MAX)
            && let Ok(bytes) = std::fs::read(entry.path())
            && let Ok(report) = serde_json::from_slice::<Report>(&bytes)
            && report.binary == binary
        {
            found.push((report.at, bytes));
        }
    }
    found.sort_by(|one, other| other.cmp(one));
    Ok(found.into_iter().map(|(_, bytes)| bytes).collect())
}

fn internal(error: serde_json::Error) -> Problem {
    Problem::new(Code::Internal, error.to_string())
}

fn failed(at: &Path) -> impl FnOnce(std::io::Error) -> Problem + use<> {
    let at = shown(at);
    move |error| Problem::new(Code::StorageFailed, format!("{at}: {error}"))
}
