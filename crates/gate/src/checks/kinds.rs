//! Links, executable bits, submodules, binaries, and names that clash or are dangerous on some
//! file systems.

use std::collections::HashMap;

use cofferdam_contract::change::{FileChange, FileKind, FileVersion};
use cofferdam_contract::check::Finding;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_policy::profile::ChangeKind;

use crate::ports::{SCAN_BYTES_MAX, Side};
use crate::text::{is_binary, is_readable};
use crate::{FindingCode, GateInput, Looked};

const NAME: &str = "kinds";

/// Looks at what each path became.
pub fn look(input: &GateInput<'_>) -> Result<Looked, Problem> {
    let files = &input.changeset.files;
    let mut findings = Vec::new();
    for change in files {
        for kind in kinds_of(input, change)? {
            if !input.policy.tables().change.kinds.contains(&kind) {
                let message = format!("{} is {kind:?}, which may not be added", change.path);
                let code = FindingCode::KindNotAllowed;
                findings.push(code.at(NAME, Some(&change.path), None, message.to_lowercase()));
            }
            findings.extend(notable(input, change, kind)?);
        }
        if is_submodule(change.before.as_ref()) && !is_submodule(change.after.as_ref()) {
            let message = format!("{} is no submodule any more", change.path);
            findings.push(FindingCode::SubmoduleChanged.at(
                NAME,
                Some(&change.path),
                None,
                message,
            ));
        }
        if change.after.is_some() && change.path.components().any(is_git_directory) {
            let message = format!("{} can be taken for git's own directory", change.path);
            findings.push(FindingCode::GitDirectoryPath.at(
                NAME,
                Some(&change.path),
                None,
                message,
            ));
        }
    }
    findings.extend(case_clashes(input)?);
    Ok(Looked::At(files.len(), findings.into()))
}

fn is_submodule(version: Option<&FileVersion>) -> bool {
    version.is_some_and(|it| it.kind == FileKind::Submodule)
}

/// What the change adds or alters at this path; nothing for a removal.
fn kinds_of(input: &GateInput<'_>, change: &FileChange) -> Result<Vec<ChangeKind>, Problem> {
    let Some(after) = &change.after else { return Ok(Vec::new()) };
    let mut kinds = Vec::new();
    match after.kind {
        FileKind::Symlink => kinds.push(ChangeKind::Symlink),
        FileKind::Submodule => kinds.push(ChangeKind::Submodule),
        FileKind::File | FileKind::Executable => {
            let unseen = !is_readable(after);
            let binary = unseen || is_binary(&input.contents.after(change)?);
            kinds.push(if binary { ChangeKind::Binary } else { ChangeKind::Text });
        }
    }
    let was = change.before.as_ref().map(|it| it.kind);
    if after.kind == FileKind::Executable && was != Some(FileKind::Executable) {
        kinds.push(ChangeKind::Executable);
    }
    Ok(kinds)
}

fn notable(
    input: &GateInput<'_>,
    change: &FileChange,
    kind: ChangeKind,
) -> Result<Option<Finding>, Problem> {
    let path = &change.path;
    let (code, message) = match kind {
        ChangeKind::Text => return Ok(None),
        ChangeKind::Binary => (FindingCode::BinaryChanged, format!("{path} is not text")),
        ChangeKind::Executable => {
            (FindingCode::ExecutableAdded, format!("{path} becomes executable"))
        }
        ChangeKind::Submodule => {
            (FindingCode::SubmoduleChanged, format!("{path} is a submodule at another commit"))
        }
        ChangeKind::Symlink => {
            let large = change.after.as_ref().is_some_and(|it| it.size_bytes > SCAN_BYTES_MAX);
            let target = if large { Vec::new() } else { input.contents.after(change)? };
            let shown = cofferdam_contract::text::escape_bytes(&target);
            match stays_inside(path, &target) {
                true => (FindingCode::SymlinkChanged, format!("{path} points to {shown}")),
                false => {
                    (FindingCode::SymlinkOutside, format!("{path} points out of the tree: {shown}"))
                }
            }
        }
    };
    Ok(Some(code.at(NAME, Some(path), None, message)))
}

/// Whether a link at `path` to `target` stays in the tree, judged by its text alone.
///
/// `..` is accepted at the start only: there it climbs real directories, since a path in a git tree
/// leads through no link. After a name it could climb from wherever another link leads. So each
/// link that stays inside by itself keeps every chain of them inside.
pub fn stays_inside(path: &RepoPath, target: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") || target.contains(&0) {
        return false;
    }
    let mut depth = path.components().count() - 1;
    let mut descended = false;
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if descended || depth == 0 => return false,
            b".." => depth -= 1,
            part if is_git_directory(part) => return false,
            _ => descended = true,
        }
    }
    true
}

/// Whether some file system takes this name for `.git`: case, trailing dots, spaces and streams
/// (NTFS), its short name, characters that HFS+ ignores (CVE-2014-9390, CVE-2019-1353).
pub fn is_git_directory(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    let visible = |c: &char| !cofferdam_contract::text::is_deceptive(*c);
    let folded: String = text.chars().filter(visible).collect::<String>().to_lowercase();
    let plain = folded.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
    matches!(plain, ".git" | "git~1")
}

/// Names that the change adds and that differ from another of the result by case alone.
fn case_clashes(input: &GateInput<'_>) -> Result<Vec<Finding>, Problem> {
    let mut added: HashMap<Vec<u8>, Vec<&[u8]>> = HashMap::new();
    let new = input.changeset.files.iter().filter(|it| it.before.is_none() && it.after.is_some());
    for change in new {
        for prefix in prefixes(change.path.as_bytes()) {
            let spellings = added.entry(folded(prefix)).or_default();
            if !spellings.contains(&prefix) {
                spellings.push(prefix);
            }
        }
    }
    if added.is_empty() {
        return Ok(Vec::new());
    }
    let mut clashes = std::collections::BTreeSet::new();
    input.contents.paths(Side::Result, &mut |path| {
        for prefix in prefixes(path.as_bytes()) {
            for spelling in added.get(&folded(prefix)).into_iter().flatten() {
                if *spelling != prefix && clashes.len() <= crate::FINDINGS_MAX {
                    clashes.insert((spelling.to_vec(), prefix.to_vec()));
                }
            }
        }
    })?;
    let finding = |(new, other): (Vec<u8>, Vec<u8>)| {
        let path = RepoPath::new(new).ok()?;
        let other = cofferdam_contract::text::escape_bytes(&other);
        let message = format!("{path} differs from {other} by case alone");
        Some(FindingCode::CaseClash.at(NAME, Some(&path), None, message))
    };
    Ok(clashes.into_iter().filter_map(finding).collect())
}

/// The path and each directory above it.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).map(|end| &path[..end])
}

fn folded(path: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(path) {
        Ok(text) if !text.is_ascii() => text.to_lowercase().into_bytes(),
        _ => path.to_ascii_lowercase(),
    }
}
