//! Preparing the base of a commit whose parent is prepared, against preparing it from scratch.

use std::cell::Cell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use cofferdam_contract::events::BaseCommit;
use cofferdam_contract::request::RepositorySource;
use cofferdam_repository::{Broker, Repository, Retain};

use crate::measure::{Contender, Rounds, interleave, timed};
use crate::report::{Medians, Table};
use crate::repositories::{Generated, command};
use crate::world::World;

const NEXT: &str = "preparing commit N+1 with 10 changed files, N being prepared";
const SCRATCH: &str = "preparing the same commit from scratch";
/// How many files differ.
const CHANGED: usize = 10;

const ABOUT: &str = "A base is a checkout with a `.git` of its own, made once per commit. From \
    scratch it ends by waiting until its index is a second old, which is up to a second of it.";

/// Measures both, the slow one every n-th round.
///
/// # Errors
/// The first that fails.
pub(crate) fn table(
    world: &World,
    on: &Generated,
    rounds: Rounds,
    scratch_every: usize,
) -> anyhow::Result<Table> {
    let bases = Bases { world, on, number: Cell::new(0) };
    let (broker, repository) = bases.broker("next")?;
    let held = broker.prepare(&repository, &bases.commit(&repository, 0)?, &|_| {})?;
    let timings = interleave(
        rounds,
        vec![
            Contender::new(NEXT, || {
                let commit = bases.commit(&repository, CHANGED)?;
                let mut layers = 0;
                let took = timed(|| {
                    layers = broker.prepare(&repository, &commit, &|_| {})?.layers.len();
                    Ok(())
                })?;
                ensure!(layers == 2, "it stands on {layers} layers");
                Ok(took)
            }),
            Contender::new(SCRATCH, || {
                let (broker, repository) = bases.broker("scratch")?;
                let commit = bases.commit(&repository, CHANGED)?;
                // What was written before is not this one's.
                rustix::fs::sync();
                let took = timed(|| Ok(broker.prepare(&repository, &commit, &|_| {})?))?;
                broker.collect_garbage(&Retain { bases_max: 0, bytes_max: 0 })?;
                Ok(took)
            })
            .every(scratch_every),
        ],
    )?;
    drop(held);
    broker.collect_garbage(&Retain { bases_max: 0, bytes_max: 0 })?;
    let medians = Medians(&timings);
    let claims = vec![
        medians.ratio("from scratch, against N+1", (SCRATCH, NEXT), None),
        medians.median("preparing N+1", NEXT, None),
    ];
    Ok(Table { title: format!("Bases of {} files", on.files), about: ABOUT, claims, timings })
}

struct Bases<'a> {
    world: &'a World,
    on: &'a Generated,
    number: Cell<usize>,
}

impl Bases<'_> {
    fn broker(&self, name: &str) -> anyhow::Result<(Broker, Repository)> {
        let broker = self.world.broker_apart(&format!("bases-{name}-{}", self.on.files))?;
        let path = self.on.path.to_str().context("a path is not UTF-8")?;
        let repository = broker.locate(&RepositorySource::Path(path.to_owned()))?;
        Ok((broker, repository))
    }

    /// A commit on top of the repository's one, on no branch, in which so many files differ from
    /// it and from all others that were made.
    fn commit(&self, repository: &Repository, changed: usize) -> anyhow::Result<BaseCommit> {
        if changed == 0 {
            return Ok(BaseCommit { branch: None, ..repository.resolve("main")? });
        }
        self.number.set(self.number.get() + 1);
        let index = self.world.path(&format!("index-{}", self.on.files));
        let git = |args: &[&str], input: String| git(&self.on.path, &index, args, input);
        git(&["read-tree", "main"], String::new())?;
        let mut entries = String::new();
        for path in self.on.some_files(changed) {
            let content = format!("{} of {path}, {}\n", self.number.get(), std::process::id());
            let id = git(&["hash-object", "-w", "--stdin"], content)?;
            entries.push_str(&format!("100644 {id}\t{path}\n"));
        }
        git(&["update-index", "--index-info"], entries)?;
        let tree = git(&["write-tree"], String::new())?;
        let commit = git(&["commit-tree", "-p", "main", "-m", "next", &tree], String::new())?;
        Ok(repository.resolve(&commit)?)
    }
}

fn git(at: &Path, index: &PathBuf, args: &[&str], input: String) -> anyhow::Result<String> {
    let mut git = command(at, args);
    git.env("GIT_INDEX_FILE", index);
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "bench");
        git.env(format!("GIT_{who}_EMAIL"), "bench@example.invalid");
    }
    let mut child = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("git has no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "failed: git {}", args.join(" "));
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}
