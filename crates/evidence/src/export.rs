//! Writing a bundle: made in memory, written beside its place, moved there whole.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cofferdam_contract::text::escape_bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::os::unix::ffi::OsStrExt as _;

use crate::error::EvidenceError;
use crate::facts::Facts;
use crate::parts::{self, Files};
use crate::{ExportInput, Patch, attacked, dsse};

/// Every file of the bundle.
pub(crate) fn files(input: &ExportInput<'_>) -> Result<Files, EvidenceError> {
    let stored = input.events.iter().map(Vec::as_slice);
    let facts = Facts::read(Some(input.run), stored).map_err(EvidenceError::Events)?;
    if facts.head != input.head {
        return Err(EvidenceError::Events("their chain does not lead to the head".to_owned()));
    }
    if input.events.iter().any(|event| event.contains(&b'\n')) {
        return Err(EvidenceError::Events("an event is more than one line".to_owned()));
    }
    let mut files = parts::derived(&facts)?;
    let mut put = |name: &str, bytes: Vec<u8>| drop(files.insert(name.to_owned(), bytes));
    put(
        parts::EVENTS,
        input.events.iter().flat_map(|event| [event, &b"\n"[..]].concat()).collect(),
    );
    put(parts::POLICY, input.policy.to_vec());
    put(parts::KEY, dsse::to_pem(&input.signer.public_key())?.into_bytes());
    match input.patch {
        Some(Patch::Full(patch)) => put(parts::PATCH, patch.to_vec()),
        Some(Patch::DigestOnly(digest)) => {
            put(parts::PATCH_DIGEST, format!("{}  {}\n", digest.hex(), parts::PATCH).into_bytes());
        }
        None => {}
    }
    if let Some(statement) = input.head_statement {
        put(parts::HEAD, statement.to_vec());
    }
    let fits = |record: &&Vec<u8>| attacked::fits(record, &facts, input.policy).is_ok();
    if let Some(record) = input.attacks.iter().find(fits) {
        put(parts::ATTACKS, record.clone());
    }
    for (digest, output) in input.check_outputs {
        put(&parts::output_name(digest), output.clone());
    }
    let manifest = parts::manifest(&files)?;
    let statement = parts::statement(&facts, &manifest)?;
    files.insert(parts::MANIFEST.to_owned(), manifest);
    files.insert(parts::ATTESTATION.to_owned(), dsse::seal(&statement, input.signer)?);
    Ok(files)
}

/// Puts the files at `dir`, all of them or none.
pub(crate) fn write(files: &Files, dir: &Path) -> Result<(), EvidenceError> {
    if fs::symlink_metadata(dir).is_ok() {
        return Err(EvidenceError::Exists(shown(dir)));
    }
    let partial = partial(dir);
    let written = write_all(files, &partial).and_then(|()| {
        match renameat_with(CWD, &partial, CWD, dir, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => Err(EvidenceError::Exists(shown(dir))),
            other => other.map_err(|errno| io("name", dir)(errno.into())),
        }
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

fn write_all(files: &Files, partial: &Path) -> Result<(), EvidenceError> {
    fs::create_dir(partial).map_err(io("make", partial))?;
    let checks = partial.join(parts::CHECKS);
    fs::create_dir(&checks).map_err(io("make", &checks))?;
    for (name, bytes) in files {
        let path = partial.join(name);
        let write = || {
            let mut file = File::create_new(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(io("write", &path))?;
    }
    Ok(())
}

/// Beside the bundle's place, and of this process alone.
fn partial(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    dir.with_file_name(name)
}

fn shown(path: &Path) -> String {
    escape_bytes(path.as_os_str().as_bytes())
}

fn io(action: &'static str, at: &Path) -> impl FnOnce(std::io::Error) -> EvidenceError + use<> {
    let at = shown(at);
    move |source| EvidenceError::Io { action, at, source }
}
