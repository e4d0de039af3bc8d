//! Credentials in added lines: the shapes of known tokens, and high-entropy values given to names
//! that promise a secret.
//!
//! A finding tells the kind, the place and the beginning of the value's SHA-256, never the value.

use cofferdam_contract::digest::Digest;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;

use crate::formats::secrets::{Found, find};
use crate::text::added;
use crate::{FindingCode, Findings, GateInput, Looked};

/// Looks into every added line, of binary files too: a NUL must not be a place to hide behind.
pub fn look(input: &GateInput<'_>) -> Result<Looked, Problem> {
    const NAME: &str = "secrets";
    if !input.policy.tables().gate.secrets {
        return Ok(Looked::NotApplicable("the policy has it off"));
    }
    let files = &input.changeset.files;
    let mut findings = Findings::default();
    for change in files {
        let Some(added) = added(input.contents, change)? else { continue };
        let settings = is_settings(&change.path);
        for (number, line) in &added.lines {
            for Found { kind, value } in find(line, settings) {
                findings.add_at(FindingCode::SecretAdded, NAME, (&change.path, *number), || {
                    format!("{kind} (sha256 begins {})", &Digest::of(value).hex()[..8])
                });
            }
        }
    }
    Ok(Looked::At(files.len(), findings))
}

/// Files in which a value needs no quotes.
fn is_settings(path: &RepoPath) -> bool {
    const ENDINGS: &[&str] = &[
        ".env",
        ".ini",
        ".cfg",
        ".conf",
        ".properties",
        ".yml",
        ".yaml",
        ".toml",
        ".tfvars",
        ".npmrc",
        ".pypirc",
        ".netrc",
        ".envrc",
    ];
    let name = path.file_name().to_ascii_lowercase();
    name.starts_with(b".env") || ENDINGS.iter().any(|it| name.ends_with(it.as_bytes()))
}
