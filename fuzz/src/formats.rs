//! The gate's parsers of foreign files.

use cofferdam_gate::formats::{cargo as rust, npm as node, python, sarif as report, secrets as keys};
use cofferdam_gate::text::added_lines;

use crate::shapes::{Format, both};

type Shaped = (Format, &'static [&'static str]);

const CARGO: Shaped = (
    Format::Toml,
    &[
        "dependencies", "dev_dependencies", "target", "workspace", "patch", "replace", "package", "git",
        "registry", "registry-index", "path", "crates-io", "name", "source", "version", "a", "a:1", "é",
        "", "git+https://example.invalid/a?rev=1#2", "sparse+https://example.invalid/", "x+y",
    ],
);
const NPM: Shaped = (
    Format::Json,
    &[
        "dependencies", "peerDependencies", "overrides", "resolutions", "pnpm", "packages", "name",
        "version", "resolved", "link", "node_modules/a", "a/node_modules/@s/b", "a", "@s/b@1", "a>b",
        "**/c", "", ".", "é", "$a", "npm:", "npm:@s/d@1", "file:a", "workspace:*", "github:a/b", "a/b",
        "~/a", "git+ssh://git@example.invalid/a", "^1.0.0",
    ],
);
const PYTHON: Shaped = (
    Format::Toml,
    &[
        "build-system", "requires", "project", "dependencies", "optional-dependencies",
        "dependency-groups", "tool", "uv", "poetry", "pdm", "group", "dev", "dev-dependencies", "sources",
        "source", "index", "index-url", "find-links", "url", "git", "path", "editable", "registry",
        "package", "name", "sdist", "wheels", "python", "a", "a_b", "é", "", "a[b]>=1; x", "a @ file:///b",
        "git+https://example.invalid/a#egg=b", "./a.whl", "https://example.invalid/",
    ],
);
const SARIF: Shaped = (
    Format::Json,
    &[
        "version", "2.1.0", "runs", "results", "tool", "driver", "rules", "id", "defaultConfiguration",
        "level", "error", "note", "invocations", "executionSuccessful", "ruleId", "ruleIndex", "kind",
        "fail", "message", "text", "locations", "physicalLocation", "artifactLocation", "uri", "region",
        "startLine", "suppressions", "a", "", "é", "file:///workspace/a", "../a", "%2e%2e/%zz%", "/a",
    ],
);

/// `Cargo.toml`.
pub(crate) fn cargo(bytes: &[u8]) {
    both(bytes, CARGO, rust::manifest);
}

/// `Cargo.lock`.
pub(crate) fn cargo_lock(bytes: &[u8]) {
    both(bytes, CARGO, rust::lock);
}

/// `package.json`.
pub(crate) fn npm(bytes: &[u8]) {
    both(bytes, NPM, node::manifest);
}

/// `package-lock.json`.
pub(crate) fn npm_lock(bytes: &[u8]) {
    both(bytes, NPM, node::lock);
}

/// `requirements.txt`.
pub(crate) fn requirements(bytes: &[u8]) {
    drop(python::requirements(bytes));
}

/// `pyproject.toml`.
pub(crate) fn pyproject(bytes: &[u8]) {
    both(bytes, PYTHON, python::pyproject);
}

/// `poetry.lock` and `uv.lock`.
pub(crate) fn python_lock(bytes: &[u8]) {
    both(bytes, PYTHON, python::lock);
}

/// Lines that may hold a credential, of which every value is a part.
pub(crate) fn secrets(bytes: &[u8]) {
    for line in bytes.split(|b| *b == b'\n') {
        for found in keys::find(line, line.len() % 2 == 0) {
            let is_there = found.value.is_empty()
                || line.windows(found.value.len()).any(|part| part == found.value);
            assert!(is_there, "{found:?}");
        }
    }
}

/// What a file gained: no more than it has.
pub(crate) fn lines(bytes: &[u8]) {
    let (before, after) = bytes.split_at(bytes.len() / 2);
    let lines = after.split(|b| *b == b'\n').count();
    assert!(added_lines(before, after).len() <= lines);
}

/// The report of a scanner that ran in a session.
pub(crate) fn sarif(bytes: &[u8]) {
    both(bytes, SARIF, |bytes| report::parse(bytes, "/workspace"));
}
