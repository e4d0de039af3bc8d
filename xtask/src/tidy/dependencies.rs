//! Licences, banned crates and sources of everything that is linked, held to `deny.toml`.
//!
//! The file is cargo-deny's, so whoever has that program can use it; this needs no other program
//! than cargo, and so is never left out. What the program knows beyond it (advisories) is not here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use super::Offence;
use crate::shell;

const RULE: &str = "dependencies";

/// What of `deny.toml` is held here; cargo-deny knows more keys.
#[derive(Deserialize)]
struct Deny {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// What cargo says is linked.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None for a package of this project.
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<PathBuf>,
}

/// One offence a package and fault, or one if it cannot be told.
pub(crate) fn linked(root: &Path) -> Vec<Offence> {
    match read(root) {
        Ok((deny, metadata)) => metadata.packages.iter().flat_map(|it| faults(&deny, it)).collect(),
        Err(error) => vec![offence("deny.toml", format!("it cannot be held: {error:#}"))],
    }
}

fn read(root: &Path) -> anyhow::Result<(Deny, Metadata)> {
    let text = fs::read_to_string(root.join("deny.toml")).context("reading deny.toml")?;
    let deny: Deny = toml::from_str(&text)?;
    let mut args = vec!["metadata", "--locked", "--all-features", "--format-version", "1"];
    for target in &deny.graph.targets {
        args.extend(["--filter-platform", target]);
    }
    let said = shell::output(root, env!("CARGO"), &args)?;
    Ok((deny, serde_json::from_str(&said).context("what cargo metadata says")?))
}

fn faults(deny: &Deny, package: &Package) -> Vec<Offence> {
    let Package { name, version, .. } = package;
    let mut found = vec![];
    for wild in package.dependencies.iter().filter(|it| it.req == "*" && it.path.is_none()) {
        // Others' manifests are theirs; the lock file says what is used of them.
        if package.source.is_none() {
            found.push(offence(name, format!("{} has no version", wild.name)));
        }
    }
    let Some(source) = &package.source else { return found };
    if let Some(ban) = deny.bans.deny.iter().find(|ban| ban.name == *name) {
        found.push(offence(name, format!("{name} {version} is banned: {}", ban.reason)));
    }
    let known = |registry: &String| source.strip_prefix("registry+") == Some(registry);
    if !deny.sources.allow_registry.iter().any(known) {
        found.push(offence(name, format!("{name} {version} comes from {source}")));
    }
    let license = package.license.as_deref().unwrap_or("nothing");
    if !is_allowed(license, &deny.licenses.allow) {
        found.push(offence(name, format!("{name} {version} is licensed under {license}")));
    }
    found
}

fn offence(name: &str, fault: String) -> Offence {
    Offence {
        path: PathBuf::from("Cargo.lock"),
        line: 1,
        rule: RULE,
        name: name.to_owned(),
        fault,
        remedy: "use another crate, or say in deny.toml why this one is right",
    }
}

/// Whether an SPDX expression can be met with the allowed licences alone. `AND` binds closer than
/// `OR`; the slash is how crates wrote `OR` before. What cannot be read is not allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = Words { words: spaced.split_whitespace().collect(), at: 0, allowed };
    let met = words.either();
    met && words.at == words.words.len()
}

struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
    allowed: &'a BTreeSet<String>,
}

impl Words<'_> {
    fn skip(&mut self, word: &str) -> bool {
        let there = self.words.get(self.at) == Some(&word);
        self.at += usize::from(there);
        there
    }

    fn either(&mut self) -> bool {
        let mut met = self.both();
        while self.skip("OR") {
            met |= self.both();
        }
        met
    }

    fn both(&mut self) -> bool {
        let mut met = self.one();
        while self.skip("AND") {
            met &= self.one();
        }
        met
    }

    fn one(&mut self) -> bool {
        if self.skip("(") {
            let met = self.either();
            return self.skip(")") && met;
        }
        let mut license = self.words.get(self.at).copied().unwrap_or_default().to_owned();
        self.at += 1;
        // An exception is a licence of its own.
        if self.skip("WITH") {
            license = format!("{license} WITH {}", self.words.get(self.at).unwrap_or(&""));
            self.at += 1;
        }
        self.allowed.contains(&license)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES_IO: &str = "https://github.com/rust-lang/crates.io-index";

    fn deny() -> Deny {
        toml::from_str(include_str!("../../../deny.toml")).unwrap()
    }

    fn package(name: &str, license: Option<&str>, source: Option<String>) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source,
            dependencies: vec![],
        }
    }

    fn found(package: &Package) -> Vec<String> {
        faults(&deny(), package).into_iter().map(|offence| offence.fault).collect()
    }

    fn crates_io() -> Option<String> {
        Some(format!("registry+{CRATES_IO}"))
    }

    #[test]
    fn a_licence_is_allowed_or_not_as_its_expression_says() {
        let allowed = BTreeSet::from(["MIT".to_owned(), "Zlib".to_owned()]);
        let met = [
            "MIT",
            "GPL-3.0 OR MIT",
            "GPL-3.0/MIT",
            "MIT AND Zlib",
            "(GPL-3.0 OR MIT) AND Zlib",
            "GPL-3.0 WITH x OR MIT",
        ];
        let unmet = [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "Zlib OR GPL-3.0 AND",
            "(MIT",
            "MIT)",
            "MIT GPL-3.0",
            "MIT WITH exception",
            "",
            "GPL-3.0 OR MIT AND GPL-2.0",
        ];
        assert!(met.iter().all(|it| is_allowed(it, &allowed)));
        assert!(!unmet.iter().any(|it| is_allowed(it, &allowed)));
    }

    #[test]
    fn it_fires_for_licences_bans_sources_and_wildcards() {
        assert!(found(&package("good", Some("MIT OR Apache-2.0"), crates_io())).is_empty());
        let gpl = found(&package("copyleft", Some("GPL-3.0"), crates_io()));
        assert_eq!(gpl, ["copyleft 1.0.0 is licensed under GPL-3.0"]);
        assert_eq!(found(&package("none", None, crates_io())).len(), 1);
        for banned in ["ring", "openssl", "git2", "rusqlite"] {
            assert_eq!(found(&package(banned, Some("MIT"), crates_io())).len(), 1, "{banned}");
        }
        for source in ["git+https://example.invalid/x", "registry+https://example.invalid/index"] {
            assert_eq!(found(&package("x", Some("MIT"), Some(source.to_owned()))).len(), 1);
        }
        let mut ours = package("ours", None, None);
        assert!(found(&ours).is_empty());
        let wild = |path| Dependency { name: "wild".to_owned(), req: "*".to_owned(), path };
        ours.dependencies = vec![wild(Some(PathBuf::from("../wild")))];
        assert!(found(&ours).is_empty());
        ours.dependencies = vec![wild(None)];
        assert_eq!(found(&ours), ["wild has no version"]);
    }

    #[test]
    fn this_project_is_in_order_and_everything_is_seen() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let (deny, metadata) = read(root).unwrap();
        assert!(metadata.packages.iter().any(|it| it.name == "sqlx"));
        assert!(metadata.packages.iter().flat_map(|it| faults(&deny, it)).next().is_none());
    }
}
