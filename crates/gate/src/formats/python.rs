//! `requirements*.txt`, `pyproject.toml`, `poetry.lock` and `uv.lock`.

use toml::{Table, Value};

use crate::formats::declared::{
    Declared, Source, Unreadable, git_url, string_at, table_at, toml_table,
};

/// A name as PEP 503 normalises it.
pub fn normalised(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.trim().chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.push(c.to_ascii_lowercase()),
        }
    }
    out
}

/// What a `requirements.txt` declares
/// (<https://pip.pypa.io/en/stable/reference/requirements-file-format/>).
///
/// # Errors
/// [`Unreadable`] says why its dependencies cannot be known.
pub fn requirements(bytes: &[u8]) -> Result<Declared, Unreadable> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::NotText)?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut declared = Declared::default();
    let mut logical = String::new();
    for line in text.lines().chain([""]) {
        // A comment ends the line before a continuation is looked for.
        let line = if line.trim_start().starts_with('#') { "" } else { line };
        let line = line.find(" #").map_or(line, |at| &line[..at]);
        match line.strip_suffix('\\') {
            Some(part) => logical.push_str(part),
            None => {
                logical.push_str(line);
                requirement_line(logical.trim(), &mut declared);
                logical.clear();
            }
        }
    }
    declared.bounded()
}

fn requirement_line(line: &str, declared: &mut Declared) {
    if !line.starts_with('-') {
        if !line.is_empty() {
            requirement(line, declared);
        }
        return;
    }
    let at = line.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(line.len());
    let (mut option, mut value) = (&line[..at], line[at..].trim_start_matches(['=', ' ', '\t']));
    // The value may follow a short option directly: `-ihttps://…`.
    if !option.starts_with("--") && option.len() > 2 && option.is_char_boundary(2) {
        (option, value) = (&line[..2], line[2..].trim_start());
    }
    let value = value.trim().trim_matches(['"', '\'']);
    match option {
        "-i" | "--index-url" | "--pypi-url" | "--extra-index-url" | "-f" | "--find-links" => {
            declared.indexes.insert(value.to_owned());
        }
        "--trusted-host" => {
            declared.indexes.insert(format!("http://{value}"));
        }
        "-r" | "--requirement" | "-c" | "--constraint" => {
            declared.includes.insert(value.to_owned());
        }
        "-e" | "--editable" => requirement(value, declared),
        "--no-binary" | "--only-binary" | "--prefer-binary" | "--require-hashes" | "--pre"
        | "--no-index" | "--use-feature" | "--hash" => {}
        other => declared.add(other, Source::Unknown(line.to_owned())),
    }
}

/// One requirement as PEP 508 writes it, or the URL or path that pip takes in its place.
fn requirement(text: &str, declared: &mut Declared) {
    let text = text.trim();
    let head = text.split(';').next().unwrap_or(text).trim();
    let name_end = head
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .unwrap_or(head.len());
    let (name, rest) = head.split_at(name_end);
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(extras) => extras.split_once(']').map_or("", |(_, rest)| rest).trim_start(),
        None => rest,
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let versioned = rest.is_empty() || rest.starts_with(['=', '<', '>', '!', '~', '(', '-']);
    match rest.strip_prefix('@') {
        Some(url) if is_name => {
            declared.add(normalised(name), from_url(url.trim()));
        }
        _ if is_name && versioned && !is_archive(head) => {
            declared.add(normalised(name), Source::Default);
        }
        _ => {
            // Without a name the URL stands for it, so that a list of names is not gone round.
            let egg = head.split_once("#egg=").map(|(_, name)| name.split(['&', '[']).next());
            let name = egg.flatten().map_or_else(|| head.to_owned(), normalised);
            declared.add(name, from_url(head));
        }
    }
}

fn is_archive(text: &str) -> bool {
    [".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2"].iter().any(|it| text.ends_with(it))
}

fn from_url(text: &str) -> Source {
    let text = text.split_whitespace().next().unwrap_or_default();
    let plain = ["git+", "hg+", "svn+", "bzr+"].iter().find_map(|it| text.strip_prefix(it));
    let plain = plain.unwrap_or(text);
    match plain.split_once("://") {
        Some(("file", path)) => Source::Path(path.to_owned()),
        Some(_) => Source::Url(git_url(plain)),
        None if plain.is_empty() => Source::Unknown(text.to_owned()),
        None if plain.len() < text.len() => Source::Unknown(text.to_owned()),
        None => Source::Path(plain.to_owned()),
    }
}

fn strings<'a>(value: &'a Value, name: &str) -> Result<Vec<&'a str>, Unreadable> {
    let shape = || Unreadable::Shape(name.to_owned());
    let array = value.as_array().ok_or_else(shape)?;
    // Dependency groups (PEP 735) may include another group by a table.
    Ok(array.iter().filter_map(Value::as_str).collect())
}

/// What a `pyproject.toml` declares (PEP 518, 621, 735; Poetry's, uv's and PDM's own tables).
///
/// # Errors
/// [`Unreadable`] says why its dependencies cannot be known.
pub fn pyproject(bytes: &[u8]) -> Result<Declared, Unreadable> {
    let table = toml_table(bytes)?;
    let mut declared = Declared::default();
    let listed = [
        (["build-system"].as_slice(), "requires"),
        (&["project"], "dependencies"),
        (&["tool", "uv"], "dev-dependencies"),
        (&["tool", "uv"], "override-dependencies"),
        (&["tool", "uv"], "constraint-dependencies"),
    ];
    for (path, key) in listed {
        if let Some(value) = table_at(&table, path).and_then(|it| it.get(key)) {
            strings(value, key)?.into_iter().for_each(|it| requirement(it, &mut declared));
        }
    }
    let grouped: [&[&str]; 3] = [
        &["project", "optional-dependencies"],
        &["dependency-groups"],
        &["tool", "pdm", "dev-dependencies"],
    ];
    for path in grouped {
        for (name, value) in table_at(&table, path).into_iter().flatten() {
            strings(value, name)?.into_iter().for_each(|it| requirement(it, &mut declared));
        }
    }
    poetry(&table, &mut declared)?;
    indexes(&table, &mut declared);
    for (name, value) in table_at(&table, &["tool", "uv", "sources"]).into_iter().flatten() {
        for one in tables(value) {
            declared.add(normalised(name), table_source(one));
        }
    }
    declared.bounded()
}

/// A table, or a list of tables for several platforms.
fn tables(value: &Value) -> Vec<&Table> {
    match value {
        Value::Table(table) => vec![table],
        Value::Array(list) => list.iter().filter_map(Value::as_table).collect(),
        _ => Vec::new(),
    }
}

fn poetry(table: &Table, declared: &mut Declared) -> Result<(), Unreadable> {
    let Some(poetry) = table_at(table, &["tool", "poetry"]) else { return Ok(()) };
    let mut groups: Vec<&Table> = Vec::new();
    groups.extend(table_at(poetry, &["dependencies"]));
    groups.extend(table_at(poetry, &["dev-dependencies"]));
    let named = table_at(poetry, &["group"]).into_iter().flat_map(Table::values);
    groups.extend(named.filter_map(|it| it.get("dependencies")?.as_table()));
    for (name, value) in groups.into_iter().flatten() {
        match value {
            Value::String(_) if name.eq_ignore_ascii_case("python") => {}
            Value::String(_) => declared.add(normalised(name), Source::Default),
            Value::Table(_) | Value::Array(_) => {
                for one in tables(value) {
                    declared.add(normalised(name), table_source(one));
                }
            }
            _ => return Err(Unreadable::Shape(name.clone())),
        }
    }
    Ok(())
}

/// Where `{ git = … }` and the like take a package from.
fn table_source(table: &Table) -> Source {
    let url = |key| string_at(table, key).map(|it| Source::Url(git_url(it)));
    let path = |key| string_at(table, key).map(|it| Source::Path(it.to_owned()));
    let named = |key| string_at(table, key).map(|it| Source::Named(it.to_owned()));
    url("git")
        .or_else(|| url("url"))
        .or_else(|| path("path"))
        .or_else(|| path("file"))
        .or_else(|| path("editable"))
        .or_else(|| path("directory"))
        .or_else(|| path("virtual"))
        .or_else(|| named("index"))
        .or_else(|| named("source"))
        .or_else(|| string_at(table, "registry").map(registry))
        .unwrap_or(Source::Default)
}

/// uv writes a URL, or a directory, as a registry.
fn registry(text: &str) -> Source {
    match text.contains("://") {
        true => Source::Url(text.to_owned()),
        false => Source::Path(text.to_owned()),
    }
}

fn indexes(table: &Table, declared: &mut Declared) {
    for path in [["tool", "poetry"], ["tool", "uv"], ["tool", "pdm"]] {
        let Some(tool) = table_at(table, &path) else { continue };
        for key in ["index-url", "extra-index-url", "find-links"] {
            match tool.get(key) {
                Some(Value::String(url)) => {
                    declared.indexes.insert(url.clone());
                }
                Some(Value::Array(urls)) => {
                    declared
                        .indexes
                        .extend(urls.iter().filter_map(Value::as_str).map(str::to_owned));
                }
                _ => {}
            }
        }
        for key in ["source", "index"] {
            let listed = tool.get(key).map(tables).unwrap_or_default();
            declared.indexes.extend(
                listed.into_iter().filter_map(|it| string_at(it, "url")).map(str::to_owned),
            );
        }
    }
}

/// What a `poetry.lock` or `uv.lock` pins.
///
/// # Errors
/// [`Unreadable`] says why its dependencies cannot be known.
pub fn lock(bytes: &[u8]) -> Result<Declared, Unreadable> {
    let table = toml_table(bytes)?;
    let mut declared = Declared::default();
    let shape = |name: &str| Unreadable::Shape(name.to_owned());
    let packages = match table.get("package") {
        None => return Ok(declared),
        Some(value) => value.as_array().ok_or_else(|| shape("package"))?,
    };
    for package in packages {
        let package = package.as_table().ok_or_else(|| shape("package"))?;
        let name = normalised(string_at(package, "name").ok_or_else(|| shape("name"))?);
        let source = package.get("source").and_then(Value::as_table);
        declared.add(name.clone(), source.map_or(Source::Default, table_source));
        let sdist = package.get("sdist").map(tables).unwrap_or_default();
        let wheels = package.get("wheels").map(tables).unwrap_or_default();
        for url in sdist.into_iter().chain(wheels).filter_map(|it| string_at(it, "url")) {
            declared.add(name.clone(), Source::Url(git_url(url)));
        }
    }
    declared.bounded()
}
