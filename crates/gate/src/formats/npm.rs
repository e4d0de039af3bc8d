//! `package.json`, `package-lock.json` and `npm-shrinkwrap.json` (lock file versions 1 to 3).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::formats::declared::{Declared, Source, Unreadable, git_url};

/// Deepest nesting of a version 1 lock file that is followed.
const DEPTH_MAX: usize = 64;

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Unreadable> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|error| Unreadable::Syntax(error.to_string()))
}

/// What a `package.json` declares.
///
/// # Errors
/// [`Unreadable`] says why its dependencies cannot be known.
pub fn manifest(bytes: &[u8]) -> Result<Declared, Unreadable> {
    const SECTIONS: &[&str] =
        &["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
    let value: Value = parse(bytes)?;
    let top = value.as_object().ok_or_else(|| Unreadable::Shape("the file".to_owned()))?;
    let mut declared = Declared::default();
    for section in SECTIONS {
        let Some(value) = top.get(*section) else { continue };
        let table = value.as_object().ok_or_else(|| Unreadable::Shape((*section).to_owned()))?;
        for (name, spec) in table {
            let spec = spec.as_str().ok_or_else(|| Unreadable::Shape(name.clone()))?;
            specified(name, spec, &mut declared);
        }
    }
    for section in ["overrides", "resolutions"] {
        if let Some(value) = top.get(section) {
            overridden(value, section, &mut declared, 0)?;
        }
    }
    if let Some(value) = top.get("pnpm").and_then(|it| it.get("overrides")) {
        overridden(value, "overrides", &mut declared, 0)?;
    }
    declared.bounded()
}

/// Overrides nest; every string in them says where some package comes from.
fn overridden(
    value: &Value,
    name: &str,
    declared: &mut Declared,
    depth: usize,
) -> Result<(), Unreadable> {
    match value {
        Value::Object(table) if depth < DEPTH_MAX => table.iter().try_for_each(|(key, inner)| {
            let key = if key == "." { name } else { package_of(key) };
            overridden(inner, key, declared, depth + 1)
        }),
        // `$name` takes the specification of a direct dependency, which is looked at there.
        Value::String(spec) if spec.starts_with('$') => Ok(()),
        Value::String(spec) => {
            specified(name, spec, declared);
            Ok(())
        }
        _ => Err(Unreadable::Shape(name.to_owned())),
    }
}

/// `name@range`, `parent>name`, `**/name`: the package that an override's key names.
fn package_of(key: &str) -> &str {
    let key = key.rsplit('>').next().unwrap_or(key);
    let key = key.strip_prefix("**/").unwrap_or(key);
    match key.get(1..).and_then(|rest| rest.find('@')) {
        Some(at) => &key[..at + 1],
        None => key,
    }
}

/// Reads a specification as npm does
/// (<https://docs.npmjs.com/cli/configuring-npm/package-json#dependencies>).
fn specified(name: &str, spec: &str, declared: &mut Declared) {
    let spec = spec.trim();
    let (scheme, rest) = spec.split_once(':').unwrap_or(("", spec));
    let source = match scheme {
        "npm" => {
            // An alias: the package that is taken is named in the specification.
            declared.add(package_of(rest), Source::Default);
            return;
        }
        "file" | "link" | "portal" => Source::Path(rest.to_owned()),
        "workspace" | "catalog" => Source::Path(".".to_owned()),
        "github" => Source::Url(format!("https://github.com/{rest}")),
        "gitlab" => Source::Url(format!("https://gitlab.com/{rest}")),
        "bitbucket" => Source::Url(format!("https://bitbucket.org/{rest}")),
        "gist" => Source::Url(format!("https://gist.github.com/{rest}")),
        "" if spec.starts_with(['.', '/', '~']) && spec.contains('/') => {
            Source::Path(spec.to_owned())
        }
        "" if spec.contains('/') => Source::Url(format!("https://github.com/{spec}")),
        "" => Source::Default,
        _ => Source::Url(git_url(spec)),
    };
    declared.add(name, source);
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    packages: BTreeMap<String, Locked>,
    #[serde(default)]
    dependencies: BTreeMap<String, Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: Option<String>,
    version: Option<String>,
    resolved: Option<Value>,
    #[serde(default)]
    link: bool,
    #[serde(default)]
    dependencies: BTreeMap<String, Value>,
}

/// What a `package-lock.json` pins.
///
/// # Errors
/// [`Unreadable`] says why its dependencies cannot be known.
pub fn lock(bytes: &[u8]) -> Result<Declared, Unreadable> {
    let lock: Lock = parse(bytes)?;
    let mut declared = Declared::default();
    for (place, locked) in &lock.packages {
        // Places outside `node_modules` are the project's own workspaces.
        let Some((_, name)) = place.rsplit_once("node_modules/") else { continue };
        locked_one(locked.name.as_deref().unwrap_or(name), locked, &mut declared);
    }
    for (name, locked) in lock.dependencies {
        nested(&name, locked, &mut declared, 0)?;
    }
    declared.bounded()
}

fn locked_one(name: &str, locked: &Locked, declared: &mut Declared) {
    let version = locked.version.as_deref().unwrap_or_default();
    match &locked.resolved {
        _ if locked.link => {}
        Some(Value::String(url)) => match url.strip_prefix("file:") {
            Some(path) => declared.add(name, Source::Path(path.to_owned())),
            None => declared.add(name, Source::Url(git_url(url))),
        },
        // Bundled, optional for another platform, or version 1 with its source in the version.
        _ => specified(name, version, declared),
    }
}

fn nested(
    name: &str,
    locked: Locked,
    declared: &mut Declared,
    depth: usize,
) -> Result<(), Unreadable> {
    locked_one(name, &locked, declared);
    if depth >= DEPTH_MAX {
        return Err(Unreadable::Shape(name.to_owned()));
    }
    for (name, value) in locked.dependencies {
        // Version 1 nests objects here; later versions write ranges, which pin nothing.
        if value.is_object() {
            let inner: Locked = serde_json::from_value(value)
                .map_err(|error| Unreadable::Syntax(error.to_string()))?;
            nested(&name, inner, declared, depth + 1)?;
        }
    }
    Ok(())
}
