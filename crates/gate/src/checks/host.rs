//! Files that run something, or steer an agent, on the machine of whoever opens, installs or builds
//! the repository after this change: editor jobs, hooks, install scripts, tool configuration.

use cofferdam_contract::change::FileChange;
use cofferdam_contract::check::Finding;
use cofferdam_contract::problem::Problem;
use serde_json::Value;

use crate::text::{Sides, sides};
use crate::{FindingCode, GateInput, Looked};

const NAME: &str = "host";

/// Names, and the directories whose every file counts (ending in `/`). `*/` before a name means in
/// any directory; without it, the top only.
const RUNS: &[&str] = &[
    // Editors run these on opening a folder.
    ".vscode/",
    ".idea/",
    ".devcontainer/",
    ".devcontainer.json",
    ".zed/",
    ".fleet/",
    "*/.envrc",
    "*/.dir-locals.el",
    "*/.exrc",
    "*/.nvimrc",
    "*/.nvim.lua",
    "*/.vimrc",
    // Git hooks kept in the tree.
    ".husky/",
    ".githooks/",
    "lefthook.yml",
    "lefthook.yaml",
    ".lefthook.yml",
    ".pre-commit-config.yaml",
    ".pre-commit-hooks.yaml",
    // Build and package tools read these before anything else: runners, registries, wrappers.
    "*/.cargo/config",
    "*/.cargo/config.toml",
    "*/build.rs",
    "*/.npmrc",
    "*/.yarnrc",
    "*/.yarnrc.yml",
    "*/.pnpmfile.cjs",
    ".yarn/",
    "*/binding.gyp",
    "*/pip.conf",
    "*/uv.toml",
    "*/.pypirc",
    "*/setup.py",
    "*/sitecustomize.py",
    "*/usercustomize.py",
    "*/gradle-wrapper.properties",
    "*/gradle-wrapper.jar",
    ".mvn/",
    "*/rust-toolchain.toml",
    "*/rust-toolchain",
    "*/.tool-versions",
    "*/mise.toml",
    "*/.mise.toml",
    // Agents run these.
    ".claude/",
    ".codex/",
    ".cursor/",
    ".gemini/",
    ".opencode/",
    ".mcp.json",
    "*/.mcp.json",
    "opencode.json",
    "opencode.jsonc",
];

/// Text that agents take as instructions.
const STEERS: &[&str] = &[
    "*/agents.md",
    "*/claude.md",
    "*/gemini.md",
    "*/.cursorrules",
    "*/.windsurfrules",
    "*/.clinerules",
    "*/copilot-instructions.md",
];

/// Scripts that npm runs by itself on installing or publishing
/// (<https://docs.npmjs.com/cli/using-npm/scripts#life-cycle-scripts>).
const LIFECYCLE: &[&str] = &[
    "preinstall",
    "install",
    "postinstall",
    "prepublish",
    "preprepare",
    "prepare",
    "postprepare",
    "prepack",
    "postpack",
    "prepublishOnly",
    "publish",
    "postpublish",
    "dependencies",
];

/// Looks at names, and into `package.json`.
pub fn look(input: &GateInput<'_>) -> Result<Looked, Problem> {
    let files = &input.changeset.files;
    let mut findings = Vec::new();
    for change in files.iter().filter(|it| it.after.is_some()) {
        let path = change.path.as_bytes().to_ascii_lowercase();
        if RUNS.iter().any(|it| names(it, &path)) {
            let message = format!("{} runs or configures what runs", change.path);
            findings.push(FindingCode::RunsOnHost.at(NAME, Some(&change.path), None, message));
        } else if STEERS.iter().any(|it| names(it, &path)) {
            let message = format!("{} is read by agents", change.path);
            findings.push(FindingCode::SteersAgents.at(NAME, Some(&change.path), None, message));
        }
        if change.path.file_name() == b"package.json" {
            findings.extend(scripts(input, change)?);
        }
    }
    Ok(Looked::At(files.len(), findings.into()))
}

/// Whether the lower-case `path` is what `pattern` names.
fn names(pattern: &str, path: &[u8]) -> bool {
    let (anywhere, pattern) = match pattern.strip_prefix("*/") {
        Some(rest) => (true, rest.as_bytes()),
        None => (false, pattern.as_bytes()),
    };
    if pattern.ends_with(b"/") {
        // The directory itself may have been replaced by a link or a file.
        return path.starts_with(pattern) || path == &pattern[..pattern.len() - 1];
    }
    let ends = path.strip_suffix(pattern);
    path == pattern || (anywhere && ends.is_some_and(|rest| rest.ends_with(b"/")))
}

/// Life-cycle scripts that the change adds or alters. A `package.json` that cannot be read is the
/// dependency check's to report.
fn scripts(input: &GateInput<'_>, change: &FileChange) -> Result<Vec<Finding>, Problem> {
    let Sides { before, after } = sides(input.contents, change)?;
    let parse = |bytes: Option<Vec<u8>>| -> Value {
        bytes.and_then(|it| serde_json::from_slice(&it).ok()).unwrap_or_default()
    };
    let (before, after) = (parse(before), parse(after));
    let altered = LIFECYCLE.iter().filter(|name| {
        let of = |side: &Value| side.get("scripts").and_then(|it| it.get(**name)).cloned();
        of(&after).is_some() && of(&after) != of(&before)
    });
    Ok(altered
        .map(|name| {
            let message = format!("the script {name} runs by itself on installing or publishing");
            FindingCode::RunsOnHost.at(NAME, Some(&change.path), None, message)
        })
        .collect())
}
