//! Finds a repository's own formatter, linter and tests.
//!
//! It looks at the base, never at the result: a change does not choose what it is checked with.
//! Tests are required; formatter and linter are not, since nobody said that they apply.

use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;
use cofferdam_policy::{CheckCommand, CommandKind};
use serde_json::Value;

use crate::GateInput;
use crate::ports::Side;

/// The commands that the base's top directory suggests, in the order in which they run.
///
/// # Errors
/// What the port says.
pub fn detect(input: &GateInput<'_>) -> Result<Vec<CheckCommand>, Problem> {
    let timeout_ms = input.policy.limits().call_timeout_ms;
    let command = |name: &str, kind: CommandKind, argv: &[&str]| CheckCommand {
        name: name.to_owned(),
        argv: argv.iter().map(|it| (*it).to_owned()).collect(),
        required: kind == CommandKind::Test,
        kind,
        timeout_ms,
    };
    let mut commands = Vec::new();
    if base_file(input, "Cargo.toml")?.is_some() {
        commands.extend([
            command("cargo-fmt", CommandKind::Formatter, &["cargo", "fmt", "--check"]),
            command("cargo-test", CommandKind::Test, &["cargo", "test", "--offline", "--quiet"]),
        ]);
    }
    if let Some(bytes) = base_file(input, "package.json")? {
        let scripts = scripts(&bytes);
        if scripts.iter().any(|it| it == "lint") {
            commands.push(command(
                "npm-lint",
                CommandKind::Linter,
                &["npm", "run", "--silent", "lint"],
            ));
        }
        if scripts.iter().any(|it| it == "test") {
            commands.push(command("npm-test", CommandKind::Test, &["npm", "test", "--silent"]));
        }
    }
    if is_python(input)? {
        commands.push(command("pytest", CommandKind::Test, &["python3", "-m", "pytest", "-q"]));
    }
    Ok(commands)
}

fn base_file(input: &GateInput<'_>, name: &str) -> Result<Option<Vec<u8>>, Problem> {
    match RepoPath::new(name.as_bytes()) {
        Ok(path) => input.contents.file(Side::Base, &path),
        Err(_) => Ok(None),
    }
}

/// The names of a `package.json`'s scripts. npm's own stand-in for tests always fails and is none.
fn scripts(bytes: &[u8]) -> Vec<String> {
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let table = value.get("scripts").and_then(Value::as_object);
    let real = |body: &Value| body.as_str().is_some_and(|it| !it.contains("no test specified"));
    table
        .into_iter()
        .flatten()
        .filter(|(_, body)| real(body))
        .map(|(name, _)| name.clone())
        .collect()
}

/// Whether the base is set up for pytest.
fn is_python(input: &GateInput<'_>) -> Result<bool, Problem> {
    for name in ["pytest.ini", "conftest.py", "tests/conftest.py", "tests/__init__.py"] {
        if base_file(input, name)?.is_some() {
            return Ok(true);
        }
    }
    for name in ["pyproject.toml", "setup.cfg", "tox.ini", "requirements-dev.txt"] {
        let names_pytest = |it: Vec<u8>| it.windows(6).any(|word| word == b"pytest");
        if base_file(input, name)?.is_some_and(names_pytest) {
            return Ok(true);
        }
    }
    Ok(false)
}
