//! `Cargo.toml` and `Cargo.lock`.

use toml::{Table, Value};

use crate::formats::declared::{
    Declared, Source, Unreadable, git_url, string_at, table_at, toml_table,
};

/// Sections that hold dependencies; Cargo takes the underscores too.
const SECTIONS: &[&str] = &[
    "dependencies",
    "dev-dependencies",
    "dev_dependencies",
    "build-dependencies",
    "build_dependencies",
];

/// What a `Cargo.toml` declares.
///
/// # Errors
/// [`Unreadable`] says why its dependencies cannot be known.
pub fn manifest(bytes: &[u8]) -> Result<Declared, Unreadable> {
    let table = toml_table(bytes)?;
    let mut declared = Declared::default();
    sections(&table, &mut declared)?;
    if let Some(targets) = table.get("target") {
        for target in as_table(targets, "target")?.values() {
            sections(as_table(target, "target")?, &mut declared)?;
        }
    }
    if let Some(workspace) = table_at(&table, &["workspace"]) {
        sections(workspace, &mut declared)?;
    }
    if let Some(patches) = table.get("patch") {
        for (registry, patched) in as_table(patches, "patch")? {
            // The registry that is patched is a name or a URL; the patch decides what is taken.
            packages(as_table(patched, registry)?, &mut declared)?;
        }
    }
    if let Some(replaced) = table.get("replace") {
        for (spec, value) in as_table(replaced, "replace")? {
            let name = spec.rsplit('/').next().unwrap_or(spec).split([':', '@', '#']).next();
            one(name.unwrap_or(spec), value, &mut declared)?;
        }
    }
    declared.bounded()
}

fn as_table<'a>(value: &'a Value, name: &str) -> Result<&'a Table, Unreadable> {
    value.as_table().ok_or_else(|| Unreadable::Shape(name.to_owned()))
}

fn sections(table: &Table, declared: &mut Declared) -> Result<(), Unreadable> {
    for section in SECTIONS {
        if let Some(value) = table.get(*section) {
            packages(as_table(value, section)?, declared)?;
        }
    }
    Ok(())
}

fn packages(table: &Table, declared: &mut Declared) -> Result<(), Unreadable> {
    table.iter().try_for_each(|(name, value)| one(name, value, declared))
}

fn one(name: &str, value: &Value, declared: &mut Declared) -> Result<(), Unreadable> {
    let table = match value {
        Value::String(_) => {
            declared.add(name, Source::Default);
            return Ok(());
        }
        value => as_table(value, name)?,
    };
    let name = string_at(table, "package").unwrap_or(name);
    // More than one may be given (a path for the work tree, a registry for publishing): each counts.
    let mut sources = Vec::new();
    sources.extend(string_at(table, "git").map(|it| Source::Url(git_url(it))));
    sources.extend(string_at(table, "registry-index").map(|it| Source::Url(index_url(it))));
    sources.extend(string_at(table, "registry").map(|it| match it {
        "crates-io" => Source::Default,
        other => Source::Named(other.to_owned()),
    }));
    sources.extend(string_at(table, "path").map(|it| Source::Path(it.to_owned())));
    if sources.is_empty() {
        sources.push(Source::Default);
    }
    for source in sources {
        declared.add(name, source);
    }
    Ok(())
}

fn index_url(text: &str) -> String {
    let text = text.strip_prefix("registry+").unwrap_or(text);
    text.strip_prefix("sparse+").unwrap_or(text).to_owned()
}

/// What a `Cargo.lock` pins.
///
/// # Errors
/// [`Unreadable`] says why its dependencies cannot be known.
pub fn lock(bytes: &[u8]) -> Result<Declared, Unreadable> {
    let table = toml_table(bytes)?;
    let mut declared = Declared::default();
    let none = Vec::new();
    let packages = match table.get("package") {
        None => &none,
        Some(value) => value.as_array().ok_or_else(|| Unreadable::Shape("package".to_owned()))?,
    };
    for package in packages {
        let package = as_table(package, "package")?;
        let name =
            string_at(package, "name").ok_or_else(|| Unreadable::Shape("name".to_owned()))?;
        let source = match package.get("source") {
            // A member of the workspace, or a path that its manifest names.
            None => continue,
            Some(Value::String(text)) if text.starts_with("git+") => Source::Url(git_url(text)),
            Some(Value::String(text)) if text.contains('+') => Source::Url(index_url(text)),
            Some(other) => Source::Unknown(other.to_string()),
        };
        declared.add(name, source);
    }
    declared.bounded()
}
