//! Packages that a change adds, where they come from, and lock files that must follow.
//!
//! Only what the change adds is judged: an entry that the base's version of the same file has is
//! not this change's doing.

use std::collections::BTreeSet;

use cofferdam_contract::change::FileChange;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_policy::Policy;
use cofferdam_policy::policy::Ecosystem;

use crate::formats::declared::{Declared, Package, Source, Unreadable};
use crate::formats::{cargo, npm, python};
use crate::ports::Side;
use crate::text::{Sides, sides};
use crate::{FindingCode, Findings, GateInput, Looked};

const NAME: &str = "dependencies";
/// Most names that a summary of a lock file shows.
const NAMES_SHOWN: usize = 12;

type Parse = fn(&[u8]) -> Result<Declared, Unreadable>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Manifest,
    Lock,
}

/// A format that is understood.
struct Format {
    rules: fn(&Policy) -> &Ecosystem,
    role: Role,
    parse: Parse,
    /// Lock files that follow this manifest, in its directory or one above.
    locks: &'static [&'static str],
    /// Whether a registry by name is defined in the same file, where its URL is judged.
    names_own_registries: bool,
}

const CARGO_LOCKS: &[&str] = &["Cargo.lock"];
const NPM_LOCKS: &[&str] =
    &["package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock"];
const PYTHON_LOCKS: &[&str] = &["poetry.lock", "uv.lock", "pdm.lock"];

/// Manifests and lock files that nothing here reads.
const NOT_UNDERSTOOD: &[&str] = &[
    "yarn.lock",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "bun.lock",
    "bun.lockb",
    "deno.json",
    "deno.lock",
    "Pipfile",
    "Pipfile.lock",
    "pdm.lock",
    "pylock.toml",
    "setup.cfg",
    "environment.yml",
    "environment.yaml",
    "go.mod",
    "go.sum",
    "Gemfile",
    "Gemfile.lock",
    "composer.json",
    "composer.lock",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "gradle.lockfile",
    "mix.exs",
    "mix.lock",
    "Package.swift",
    "Package.resolved",
    "flake.lock",
];

fn format_of(path: &RepoPath) -> Option<Format> {
    let of = |rules, role, parse: Parse, locks| {
        Some(Format { rules, role, parse, locks, names_own_registries: false })
    };
    let python = |role, parse: Parse, locks| {
        let rules = Policy::pypi as fn(&Policy) -> &Ecosystem;
        Some(Format { rules, role, parse, locks, names_own_registries: true })
    };
    match path.file_name() {
        b"Cargo.toml" => of(Policy::cargo, Role::Manifest, cargo::manifest, CARGO_LOCKS),
        b"Cargo.lock" => of(Policy::cargo, Role::Lock, cargo::lock, &[]),
        b"package.json" => of(Policy::npm, Role::Manifest, npm::manifest, NPM_LOCKS),
        b"package-lock.json" | b"npm-shrinkwrap.json" => {
            of(Policy::npm, Role::Lock, npm::lock, &[])
        }
        b"pyproject.toml" => python(Role::Manifest, python::pyproject, PYTHON_LOCKS),
        b"poetry.lock" | b"uv.lock" => python(Role::Lock, python::lock, &[]),
        _ if is_requirements(path) => python(Role::Manifest, python::requirements, &[]),
        _ => None,
    }
}

/// `requirements*.txt`, `*-requirements.txt`, `constraints*.txt`, and any `.txt` or `.in` in a
/// directory named `requirements`.
fn is_requirements(path: &RepoPath) -> bool {
    let name = path.file_name().to_ascii_lowercase();
    let listed = name.ends_with(b".txt") || name.ends_with(b".in");
    let inside = path.components().rev().nth(1) == Some(b"requirements");
    let has = |word: &[u8]| name.windows(word.len()).any(|it| it == word);
    listed && (inside || has(b"requirements") || has(b"constraints"))
}

/// Looks at every changed manifest and lock file.
pub fn look(input: &GateInput<'_>) -> Result<Looked, Problem> {
    let mut count = 0;
    let mut findings = Findings::default();
    let mut altered: Vec<(&RepoPath, &'static [&'static str])> = Vec::new();
    for change in &input.changeset.files {
        let path = &change.path;
        if NOT_UNDERSTOOD.iter().any(|it| path.file_name() == it.as_bytes()) {
            count += 1;
            let code = FindingCode::LockfileNotUnderstood;
            findings.add(code, || code.at(NAME, Some(path), None, format!("{path} is not read")));
        }
        let Some(format) = format_of(path) else { continue };
        count += 1;
        let Some((before, after, text)) = declared(input, change, &format, &mut findings)? else {
            continue;
        };
        if before.packages != after.packages && format.role == Role::Manifest {
            altered.push((path, format.locks));
        }
        let judge = Judge { input, path, format: &format, text: &text };
        judge.sources(&before, &after, &mut findings);
        judge.names(&before, &after, &mut findings);
    }
    lock_files(input, &altered, &mut findings)?;
    match count {
        0 => Ok(Looked::NotApplicable("no manifest and no lock file differs")),
        count => Ok(Looked::At(count, findings)),
    }
}

/// Both sides of one file; `None` if the result does not have it or cannot be read, which is then
/// among the findings.
fn declared(
    input: &GateInput<'_>,
    change: &FileChange,
    format: &Format,
    findings: &mut Findings,
) -> Result<Option<(Declared, Declared, Vec<u8>)>, Problem> {
    if change.after.is_none() {
        return Ok(None);
    }
    let path = &change.path;
    let mut unreadable = |why: String| {
        let message = format!("{path}: {why}");
        let code = FindingCode::ManifestUnreadable;
        findings.add(code, || code.at(NAME, Some(path), None, message));
    };
    let Sides { before, after } = sides(input.contents, change)?;
    let Some(text) = after else {
        unreadable("it is a link, or too large to be read".to_owned());
        return Ok(None);
    };
    match (format.parse)(&text) {
        Ok(after) => {
            // A base that cannot be read declares nothing: everything in the result is then new.
            let before = before.and_then(|it| (format.parse)(&it).ok()).unwrap_or_default();
            Ok(Some((before, after, text)))
        }
        Err(error) => {
            unreadable(error.to_string());
            Ok(None)
        }
    }
}

/// What one file adds, against the rules.
struct Judge<'a> {
    input: &'a GateInput<'a>,
    path: &'a RepoPath,
    format: &'a Format,
    text: &'a [u8],
}

impl Judge<'_> {
    fn rules(&self) -> &Ecosystem {
        (self.format.rules)(self.input.policy)
    }

    /// Adds a finding at the line where `needle` first is.
    fn note(
        &self,
        findings: &mut Findings,
        code: FindingCode,
        needle: &str,
        message: impl FnOnce() -> String,
    ) {
        findings.add(code, || {
            code.at(NAME, Some(self.path), line_of(self.text, needle.as_bytes()), message())
        });
    }

    /// Registries, indexes and files that are new in this file.
    fn sources(&self, before: &Declared, after: &Declared, findings: &mut Findings) {
        let code = FindingCode::RegistryNotAllowed;
        for package in after.packages.difference(&before.packages) {
            if let Some(why) = self.objection(package) {
                self.note(findings, code, &package.name, || {
                    format!("{} comes from {why}", shown(&package.name))
                });
            }
        }
        for url in after.indexes.difference(&before.indexes) {
            if !self.rules().allows_url(url) {
                self.note(findings, code, url, || {
                    format!("the index {url} is not an allowed registry")
                });
            }
        }
        for file in after.includes.difference(&before.includes) {
            let beside = sibling(self.path, file);
            if !beside.is_some_and(|it| is_requirements(&it)) {
                self.note(findings, FindingCode::LockfileNotUnderstood, file, || {
                    format!("it takes in {file}, which is not read")
                });
            }
        }
    }

    /// Why this package's source is not allowed.
    fn objection(&self, package: &Package) -> Option<String> {
        match &package.source {
            Source::Default => None,
            Source::Url(url) if self.rules().allows_url(url) => None,
            Source::Url(url) => Some(format!("{url}, which is not an allowed registry")),
            Source::Named(_) if self.format.names_own_registries => None,
            Source::Named(name) => Some(format!("the registry {name}, which is set elsewhere")),
            Source::Path(path) if sibling(self.path, path).is_some() => None,
            Source::Path(path) => Some(format!("{path}, which is outside the repository")),
            Source::Unknown(text) => Some(format!("somewhere that cannot be told: {text}")),
        }
    }

    /// Names that are new in this file: each on its own in a manifest, together in a lock file.
    fn names(&self, before: &Declared, after: &Declared, findings: &mut Findings) {
        fn foreign(declared: &Declared) -> BTreeSet<&str> {
            let foreign =
                declared.packages.iter().filter(|it| !matches!(it.source, Source::Path(_)));
            foreign.map(|it| it.name.as_str()).filter(|it| !it.is_empty()).collect()
        }
        let (known, now) = (foreign(before), foreign(after));
        let (allowed, denied): (Vec<&str>, Vec<&str>) =
            now.difference(&known).copied().partition(|it| self.rules().allows_name(it));
        for name in denied {
            self.note(findings, FindingCode::DependencyNotAllowed, name, || {
                format!("{} is not a dependency that may be added", shown(name))
            });
        }
        let code = FindingCode::DependencyAdded;
        match (self.format.role, allowed.as_slice()) {
            (_, []) => {}
            (Role::Manifest, names) => {
                for name in names {
                    self.note(findings, code, name, || format!("{} is added", shown(name)));
                }
            }
            (Role::Lock, names) => {
                let first: Vec<String> =
                    names.iter().take(NAMES_SHOWN).map(|it| shown(it)).collect();
                let message = format!("packages are added ({}): {}", names.len(), first.join(", "));
                findings.add(code, || code.at(NAME, Some(self.path), None, message));
            }
        }
    }
}

fn shown(name: &str) -> String {
    if name.is_empty() { "a package".to_owned() } else { name.chars().take(120).collect() }
}

/// The first line that has `needle`, from 1.
fn line_of(text: &[u8], needle: &[u8]) -> Option<u64> {
    if needle.is_empty() {
        return None;
    }
    let at = text.windows(needle.len()).position(|it| it == needle)?;
    Some(1 + text[..at].iter().filter(|b| **b == b'\n').count() as u64)
}

/// The path in the repository that `relative` means from the directory of `path`; `None` if it
/// leads out of the repository. The top itself is named by the file that asks.
fn sibling(path: &RepoPath, relative: &str) -> Option<RepoPath> {
    if relative.starts_with(['/', '~', '\\']) || relative.contains("://") {
        return None;
    }
    let mut parts: Vec<&[u8]> = path.components().collect();
    parts.pop();
    for part in relative.as_bytes().split(|b| matches!(b, b'/' | b'\\')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Some(path.clone());
    }
    RepoPath::new(parts.join(&b'/')).ok()
}

/// Lock files that are gone, and those that did not follow their manifest.
fn lock_files(
    input: &GateInput<'_>,
    altered: &[(&RepoPath, &'static [&'static str])],
    findings: &mut Findings,
) -> Result<(), Problem> {
    let is_lock = |path: &RepoPath| {
        let locks = [CARGO_LOCKS, NPM_LOCKS, PYTHON_LOCKS];
        locks.iter().copied().flatten().any(|it| path.file_name() == it.as_bytes())
    };
    let files = &input.changeset.files;
    for change in files.iter().filter(|it| it.after.is_none() && is_lock(&it.path)) {
        let code = FindingCode::LockfileRemoved;
        let path = &change.path;
        findings.add(code, || code.at(NAME, Some(path), None, format!("{path} is gone")));
    }
    if altered.is_empty() || !input.policy.tables().dependencies.lockfile_required {
        return Ok(());
    }
    let mut present = BTreeSet::new();
    input.contents.paths(Side::Result, &mut |path| {
        if is_lock(path) {
            present.insert(path.clone());
        }
    })?;
    for (manifest, names) in altered {
        let Some(lock) = nearest(manifest, names, &present) else { continue };
        if !files.iter().any(|it| it.path == lock) {
            let message = format!("{manifest} changed its dependencies and {lock} did not follow");
            let code = FindingCode::LockfileStale;
            findings.add(code, || code.at(NAME, Some(manifest), None, message));
        }
    }
    Ok(())
}

/// The lock file of a manifest: in its directory, or else the nearest above.
fn nearest(manifest: &RepoPath, names: &[&str], present: &BTreeSet<RepoPath>) -> Option<RepoPath> {
    let mut parts: Vec<&[u8]> = manifest.components().collect();
    while parts.pop().is_some() {
        for name in names {
            let whole: Vec<&[u8]> = parts.iter().copied().chain([name.as_bytes()]).collect();
            match RepoPath::new(whole.join(&b'/')) {
                Ok(path) if present.contains(&path) => return Some(path),
                _ => {}
            }
        }
    }
    None
}
