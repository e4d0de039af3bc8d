//! What agents really run, bare and in a session: search, status, compiler, test runners.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_engine::sessions::OpenSession;

use crate::calls::carry_out;
use crate::measure::{Contender, Rounds, Timing, interleave, timed};
use crate::plain::PlainOverlay;
use crate::report::{Claim, Goal, Medians, Table};
use crate::repositories::{Generated, git};
use crate::workspaces::{Opener, name};
use crate::world::{World, path_variable};

/// What is run, and in which directory of the project; none: in the large repository.
struct Real {
    name: &'static str,
    project: Option<&'static str>,
    script: &'static str,
}

/// Each prints little, leaves what it found, and does its work every time.
const REAL: &[Real] = &[
    Real { name: "git status", project: None, script: "git status --porcelain" },
    Real { name: "ripgrep", project: None, script: "rg 'what no file has' . || true" },
    Real {
        name: "cargo check",
        project: Some("crate"),
        script: "touch src/lib.rs && cargo check --quiet --offline",
    },
    Real { name: "pytest", project: Some("python"), script: "python3 -m pytest -q" },
    Real {
        name: "npm test",
        project: Some("node"),
        script: "npm test --silent --no-update-notifier",
    },
];

/// Measures them on the large repository and on a small project.
///
/// # Errors
/// The first that fails.
pub(crate) fn table(world: &World, large: &Generated, rounds: Rounds) -> anyhow::Result<Table> {
    for tool in ["rg", "cargo", "npm"] {
        let found = Command::new(tool).arg("--version").output();
        ensure!(found.is_ok(), "{tool} is missing (as Debian packages: ripgrep, cargo, npm)");
    }
    let pytest = Command::new("python3").args(["-m", "pytest", "--version"]).output()?;
    ensure!(pytest.status.success(), "pytest is missing: pip install pytest");
    let project = project(world)?;
    let bare = Bare::new(world, large, &project)?;
    let mut timings = vec![];
    let mut claims = vec![];
    let mut ratios: Vec<(WorkspaceKind, f64)> = vec![];
    let kinds: Vec<_> = world.kinds().into_iter().chain([WorkspaceKind::Copy]).collect();
    for real in REAL {
        let on = if real.project.is_some() { &project } else { large };
        let (mut openers, mut sessions) = (vec![], vec![]);
        for kind in &kinds {
            let opener = Opener::of_kind(world, on, world.sessions_of(*kind, false)?, *kind)?;
            let session = opener.open()?;
            // With its opener goes the launcher, and the session with that.
            openers.push(opener);
            sessions.push((*kind, session));
        }
        // As root alone, like the pool.
        let plain = match (&real.project, kinds.contains(&WorkspaceKind::Btrfs)) {
            (None, true) => Some(plain(world, real, &openers)?),
            _ => None,
        };
        let measured = measure(world, real, rounds, (&bare, plain.as_ref()), &sessions)?;
        sessions.iter().for_each(|(_, session)| session.discard());
        let medians = Medians(&measured);
        for (kind, _) in &sessions {
            let ratio = medians.ratio_of(&in_session(real, *kind), &bare_name(real));
            ratios.push((*kind, ratio));
            let what = format!("{} in {}, against bare", real.name, name(*kind));
            claims.push(Claim::new(&what, ratio, "×"));
        }
        if plain.is_some() {
            let what = format!("{} in a plain overlay, against bare", real.name);
            claims.push(medians.ratio(&what, (&in_plain(real), &bare_name(real)), None));
        }
        timings.extend(measured);
    }
    claims.extend(kinds.into_iter().map(|kind| mean(kind, &ratios)));
    bare.remove(large)?;
    Ok(Table {
        title: "Real commands in a session, against the same command bare".to_owned(),
        about: ABOUT,
        claims,
        timings,
    })
}

const ABOUT: &str = "`git status` and `ripgrep` go over 200,000 files; `cargo check`, `pytest` and \
    `npm test` are of small projects without dependencies, so that what is measured is mostly \
    files and processes. Bare, they run in a linked worktree with what a session's environment has. \
    The plain overlay is mounted over the same base by hand, without a session: what it costs is the \
    kernel's own. In a profile (`perf record -a -g` around five \
    searches each) the 39 % more processor time of `ripgrep` in a session's overlay was made of: asking \
    both layers whether each directory of a path may be searched, a third; opening a second file for \
    each, a quarter and more; Landlock, which looks at every directory above an opened file, a fifth; \
    reading and closing through two files, a fifth; the system-call filter, 3 %. The copy, plain files \
    like the bare ones, shows what the last and Landlock take alone. Programs that compute, or start \
    others, pay nothing that can be measured. A pool (`cofferdam pool create`) spares all of it that is \
    the overlay's.";

const WHERE: &str = "opening files: ripgrep opens 200,000, and each open goes by the system-call filter \
    and by Landlock, as in the profile above.";

/// The geometric mean over everything that was run in a kind.
fn mean(kind: WorkspaceKind, ratios: &[(WorkspaceKind, f64)]) -> Claim {
    let own = || ratios.iter().filter(|(of, _)| *of == kind).map(|(_, ratio)| ratio.ln());
    let mean = (own().sum::<f64>() / own().count() as f64).exp();
    let claim = Claim::new(&format!("geometric mean, {}", name(kind)), mean, "×").goes(WHERE);
    if kind == WorkspaceKind::Btrfs { claim.with_goal(Goal::AtMost(1.05)) } else { claim }
}

fn bare_name(real: &Real) -> String {
    format!("{}, bare", real.name)
}

fn in_plain(real: &Real) -> String {
    format!("{}, plain overlay", real.name)
}

/// Over the same base.
fn plain(world: &World, real: &Real, openers: &[Opener]) -> anyhow::Result<PlainOverlay> {
    let opener = openers.first().context("there is no overlay to compare with")?;
    let dir = world.path(&format!("plain-{}", real.name.replace(' ', "-")));
    PlainOverlay::mount(&opener.layers()?, &dir)
}

fn in_session(real: &Real, kind: WorkspaceKind) -> String {
    format!("{}, {}", real.name, name(kind))
}

fn measure(
    world: &World,
    real: &Real,
    rounds: Rounds,
    (bare, plain): (&Bare, Option<&PlainOverlay>),
    sessions: &[(WorkspaceKind, Arc<dyn OpenSession>)],
) -> anyhow::Result<Vec<Timing>> {
    let mut contenders =
        vec![Contender::new(&bare_name(real), || run(real, &bare.directory(real)))];
    if let Some(plain) = plain {
        contenders.push(Contender::new(&in_plain(real), || run(real, plain.tree())));
    }
    for (kind, session) in sessions {
        let directory = real.project.unwrap_or(".");
        let script = format!("cd {directory} && {}", real.script);
        contenders.push(Contender::new(&in_session(real, *kind), move || {
            carry_out(world, session, "/bin/sh", &["-c", &script])
        }));
    }
    interleave(rounds, contenders)
}

/// Where the bare commands run.
struct Bare {
    large: PathBuf,
    project: PathBuf,
}

impl Bare {
    fn new(world: &World, large: &Generated, project: &Generated) -> anyhow::Result<Self> {
        let (at, of) = (world.path("commands-large"), world.path("commands-project"));
        large.add_worktree(&at)?;
        project.add_worktree(&of)?;
        Ok(Self { large: at, project: of })
    }

    fn directory(&self, real: &Real) -> PathBuf {
        match real.project {
            Some(name) => self.project.join(name),
            None => self.large.clone(),
        }
    }

    fn remove(&self, large: &Generated) -> anyhow::Result<()> {
        large.remove_worktree(&self.large)
    }
}

/// Runs one bare.
fn run(real: &Real, directory: &Path) -> anyhow::Result<Duration> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", real.script]).current_dir(directory).stdin(Stdio::null());
    // Of the caller's environment it has no more than a session: certificates that node reads at
    // each start are not what is compared.
    let kept = ["HOME", "RUSTUP_HOME", "CARGO_HOME"].map(|name| (name, std::env::var_os(name)));
    command.env_clear().env("PATH", path_variable()).env("npm_config_update_notifier", "false");
    command.envs(kept.into_iter().filter_map(|(name, value)| Some((name, value?))));
    timed(|| {
        let output = command.output()?;
        ensure!(output.status.success(), "{} failed: {output:?}", real.name);
        Ok(())
    })
}

/// A repository with a crate, a Python package and an npm package.
fn project(world: &World) -> anyhow::Result<Generated> {
    let path = world.path("project");
    for (name, text) in [
        ("crate/Cargo.toml", CARGO_TOML.to_owned()),
        ("crate/.gitignore", "target\nCargo.lock\n".to_owned()),
        ("crate/src/lib.rs", rust()),
        ("python/test_sums.py", python()),
        ("node/package.json", PACKAGE_JSON.to_owned()),
        ("node/sums.test.js", NODE.to_owned()),
    ] {
        write(&path.join(name), &text)?;
    }
    git(&path, &["init", "--quiet", "--initial-branch=main"])?;
    git(&path, &["add", "."])?;
    let author = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"];
    let commit: Vec<&str> =
        author.into_iter().chain(["commit", "--quiet", "--message=project"]).collect();
    git(&path, &commit)?;
    Ok(Generated { path, files: 0 })
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(path.parent().context("a file is in no directory")?)?;
    Ok(std::fs::write(path, text)?)
}

const CARGO_TOML: &str =
    "[package]\nname = \"sums\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n";
const PACKAGE_JSON: &str =
    "{\"name\":\"sums\",\"version\":\"1.0.0\",\"scripts\":{\"test\":\"node --test\"}}\n";
const NODE: &str = "const test = require('node:test');\nconst assert = require('node:assert');\n\
    for (let n = 0; n < 50; n++) test('sum ' + n, () => assert.equal(n + n, 2 * n));\n";

fn rust() -> String {
    let one = |at: usize| {
        format!(
            "/// Adds.\npub fn sum{at}(of: &[u64]) -> u64 {{\n    of.iter().map(|it| it + {at}).sum()\n}}\n"
        )
    };
    (0..200).map(one).collect()
}

fn python() -> String {
    let one = |at: usize| format!("def test_sum_{at}():\n    assert {at} + {at} == 2 * {at}\n\n");
    (0..100).map(one).collect()
}
