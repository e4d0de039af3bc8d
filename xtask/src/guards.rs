//! `cargo xtask guards`: every attack on an invariant with its guard off.
//!
//! An attack that its guard holds says little by itself: it might be no attack at all, or nobody
//! might look. So the guards that `guards.toml` names are taken out of a copy of the sources, one
//! at a time, and each of their attacks must then be seen to succeed: its test fails. The copy is
//! built once, with a switch in place of each guard, which only this command turns. The product has
//! no switch. Must never build into the directory that the product is built into.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::altered::{self, Site};
use crate::{Outcome, binaries, shell};

/// What is guarded by what.
const LIST: &str = "guards.toml";
/// The copy of the sources, and what is built of it.
const BUILT: &str = "target/guards";
/// Longest that an attack may take, as timeout(1) is told.
const LONGEST: [&str; 2] = ["--kill-after=5", "180"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    guard: Vec<Guard>,
}

/// One guard, wherever it stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guard {
    /// What it holds.
    name: String,
    /// Where it stands: all of it is off at once.
    sites: Vec<Site>,
    /// Tests that fail without it, as `CRATE/tests/it/MODULE.rs::TEST`.
    attacks: Vec<String>,
}

/// Builds the copy, makes every attack with every guard on, then with its own off.
pub(crate) fn main(root: &Path, args: &[String]) -> Outcome {
    let text = std::fs::read_to_string(root.join(LIST)).context(LIST)?;
    let List { guard: mut guards } = toml::from_str(&text).context(LIST)?;
    let (copy, switch) = (root.join(BUILT).join("src"), root.join(BUILT).join("off"));
    let sites = guards
        .iter()
        .flat_map(|guard| guard.sites.iter().map(|site| (site, switched(&switch, guard, site))));
    altered::copy(root, &copy, sites).context(LIST)?;
    if !args.is_empty() {
        guards.retain(|guard| args.contains(&guard.name));
        ensure!(guards.len() == args.len(), "{LIST} does not name all of: {}", args.join(", "));
    }
    let attacks = Attacks { binaries: build(&copy, &guards)?, copy };
    let off = |guard: &Guard| -> Outcome {
        std::fs::write(&switch, &guard.name).context("the switch could not be turned")?;
        let outcome = attacks.all_come_to(&guard.attacks, "FAILED. 0 passed; 1 failed");
        std::fs::remove_file(&switch).context("the switch could not be turned back")?;
        let seen = outcome?;
        let said = if seen { "seen" } else { "NOT SEEN" };
        println!("guards: {} off: {} of its attacks {said}", guard.name, guard.attacks.len());
        Ok(seen)
    };
    let all: Vec<_> = guards.iter().flat_map(|guard| guard.attacks.iter().cloned()).collect();
    let _ = std::fs::remove_file(&switch);
    let mut passed = attacks.all_come_to(&all, "ok. 1 passed")?;
    println!("guards: all on: {} attacks {}", all.len(), if passed { "held" } else { "NOT HELD" });
    for guard in &guards {
        passed &= off(guard)?;
    }
    Ok(passed)
}

/// What stands in place of a guard: the same, or nothing while the switch names it.
fn switched(switch: &Path, guard: &Guard, site: &Site) -> String {
    let (name, Site { on, off, .. }) = (&guard.name, site);
    let is_off = format!("::std::fs::read({switch:?}).is_ok_and(|it| it == b{name:?})");
    format!("match {is_off} {{ true => {off}, false => {on} }}")
}

/// Builds the tests of every crate whose tests attack, and says where they are.
fn build(copy: &Path, guards: &[Guard]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let attacks = guards.iter().flat_map(|guard| &guard.attacks);
    let crates: std::collections::BTreeSet<_> =
        attacks.filter_map(|attack| attack.split('/').next()).collect();
    let crates: Vec<_> = crates.into_iter().collect();
    binaries::of_tests(copy, &crates, &["--target-dir=../built"])
}

/// The tests of the copy.
struct Attacks {
    copy: PathBuf,
    /// By crate.
    binaries: BTreeMap<String, PathBuf>,
}

impl Attacks {
    /// Whether each of these tests comes to this; what another came to is printed.
    fn all_come_to(&self, attacks: &[String], expected: &str) -> Outcome {
        let mut all = true;
        for (attack, said) in attacks.iter().zip(shell::with_each(attacks, |it| self.make(it))?) {
            if !said.contains(&format!("test result: {expected}")) {
                println!("{attack} did not come to: {expected}\n{said}");
                all = false;
            }
        }
        Ok(all)
    }

    /// Makes one attack, in a process of its own, and gives what it said.
    fn make(&self, attack: &str) -> anyhow::Result<String> {
        let spelled = || format!("{LIST}: {attack} is not CRATE/tests/it/MODULE.rs::TEST");
        let (file, test) = attack.split_once(".rs::").with_context(spelled)?;
        let (name, module) = file.split_once("/tests/it/").with_context(spelled)?;
        let Some(binary) = self.binaries.get(name) else { bail!("{name} has no tests/it") };
        let output = Command::new("timeout")
            .args(LONGEST)
            .arg(binary)
            .args(["--exact", &format!("{}::{test}", module.replace('/', "::"))])
            .env("INSTA_UPDATE", "no")
            .current_dir(self.copy.join("crates").join(name))
            .stdin(Stdio::null())
            .output()
            .context("timeout")?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}
