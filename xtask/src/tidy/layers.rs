//! `layers.toml`: which crates there are, in which layer, and which others each may use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

/// The arrows there may be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layers {
    /// Names of the layers, the lowest first.
    order: Vec<String>,
    /// What tests and the project's own tools are made of; no product crate may use it.
    dev: BTreeSet<String>,
    #[serde(rename = "crate")]
    crates: BTreeMap<String, Krate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Krate {
    layer: String,
    uses: BTreeSet<String>,
}

impl Layers {
    /// Reads `layers.toml`.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(root.join("layers.toml")).context("reading layers.toml")?;
        Self::parse(&text).context("layers.toml")
    }

    /// Parses the file, and refuses arrows that do not go down.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let layers: Self = toml::from_str(text)?;
        for (name, krate) in &layers.crates {
            let above = layers.height(&krate.layer)?;
            for used in &krate.uses {
                let Some(below) = layers.crates.get(used) else {
                    bail!("{name} uses {used}, which is not listed");
                };
                if layers.dev.contains(used) && !layers.dev.contains(name) {
                    bail!("{name} uses {used}, which is for tests alone");
                }
                if layers.height(&below.layer)? >= above {
                    bail!("{name} uses {used}, which is not in a lower layer");
                }
            }
        }
        Ok(layers)
    }

    fn height(&self, layer: &str) -> anyhow::Result<usize> {
        let height = self.order.iter().position(|name| name == layer);
        height.with_context(|| format!("{layer} is not a layer"))
    }

    /// Every crate that is listed.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.crates.keys().map(String::as_str)
    }

    /// Whether a crate is listed.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.crates.contains_key(name)
    }

    /// Whether `user` may use `used`: as it is listed; itself; and in tests, what tests are made of.
    pub(crate) fn allow(&self, user: &str, used: &str, in_test: bool) -> bool {
        user == used
            || (in_test && self.dev.contains(used))
            || self.crates.get(user).is_some_and(|krate| krate.uses.contains(used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES: &str = r#"
order = ["low", "high"]
dev = ["kit"]
[crate]
a = { layer = "low", uses = [] }
b = { layer = "high", uses = ["a"] }
kit = { layer = "high", uses = ["a"] }
"#;

    #[test]
    fn arrows_are_as_listed() {
        let layers = Layers::parse(CRATES).unwrap();
        assert!(layers.allow("b", "a", false) && layers.allow("b", "b", false));
        assert!(!layers.allow("a", "b", false) && !layers.allow("b", "kit", false));
        assert!(layers.allow("b", "kit", true) && !layers.allow("a", "b", true));
    }

    #[test]
    fn arrows_that_do_not_go_down_are_refused() {
        for (wrong, says) in [
            ("c = { layer = \"high\", uses = [\"b\"] }", "not in a lower layer"),
            ("c = { layer = \"high\", uses = [\"d\"] }", "not listed"),
            ("c = { layer = \"attic\", uses = [] }", "not a layer"),
            ("c = { layer = \"high\", uses = [\"kit\"] }", "for tests alone"),
        ] {
            let error = Layers::parse(&format!("{CRATES}{wrong}\n")).err().unwrap();
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
