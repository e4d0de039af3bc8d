//! Measures the runtime beside what it is compared with, in turns, and prints the page.
//!
//! `cargo xtask bench` runs it and writes `docs/benchmarks.md`. It may see every crate; nothing may
//! need it. Must never judge: goals are printed beside the numbers, not enforced.

mod bases;
mod calls;
mod commands;
mod machine;
mod measure;
mod page;
mod plain;
mod report;
mod repositories;
mod runc;
mod runs;
mod sessions;
mod stops;
mod workspaces;
mod world;
mod writes;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use cofferdam_contract::capability::WorkspaceKind;

use crate::machine::Machine;
use crate::measure::Rounds;
use crate::report::Table;
use crate::repositories::Generated;
use crate::world::World;

/// What is asked for on the command line.
struct Asked {
    quick: bool,
    /// Tables to make; all of them if there is none.
    only: Vec<String>,
    dir: PathBuf,
    binary: PathBuf,
}

fn asked() -> anyhow::Result<Asked> {
    let mut args = std::env::args().skip(1);
    let mut quick = false;
    let mut only = vec![];
    let (mut dir, mut binary) = (None, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--only" => only.push(args.next().context("--only needs the name of a table")?),
            "--dir" => dir = args.next().map(PathBuf::from),
            "--program" => binary = args.next().map(PathBuf::from),
            _ => bail!("expected --dir DIR --program FILE [--quick] [--only TABLE]…, not {arg}"),
        }
    }
    let absolute = |path: Option<PathBuf>, name| {
        let path: PathBuf = path.with_context(|| format!("{name} is missing"))?;
        std::path::absolute(&path).with_context(|| format!("{name} {}", path.display()))
    };
    Ok(Asked { quick, only, dir: absolute(dir, "--dir")?, binary: absolute(binary, "--program")? })
}

fn main() -> anyhow::Result<()> {
    let Asked { quick, only, dir, binary } = asked()?;
    let found = std::process::Command::new("bwrap").arg("--version").output();
    ensure!(found.is_ok(), "bwrap is missing: apt-get install bubblewrap");
    std::fs::create_dir_all(&dir)?;
    let repositories = dir.join("repositories");
    let world = World::new(&dir, binary)?;
    let small = Generated::at(&repositories, 10_000)?;
    let wanted = |name: &str| only.is_empty() || only.iter().any(|it| it == name);
    let rounds = |full: usize, few: usize, warm: usize| Rounds {
        counted: if quick { few } else { full },
        warm,
    };
    let mut made = Made::default();
    if wanted("calls") {
        made.add("calls", calls::table(&world, &small, rounds(1000, 150, 20)));
    }
    if wanted("runs") {
        made.add("runs", runs::table(&world, &small, rounds(40, 6, 2)));
    }
    if wanted("stops") {
        made.add("stops", stops::table(&world, &small, rounds(100, 10, 2)));
    }
    if wanted("sessions") {
        made.add("sessions", sessions::table(&world, &small, rounds(100, 10, 3), quick));
    }
    if wanted("bases") {
        let large = Generated::at(&repositories, 200_000)?;
        for (repository, counted, every) in [(&small, 24, 4), (&large, 8, 4)] {
            made.add("bases", bases::table(&world, repository, rounds(counted, 4, 1), every));
        }
    }
    if wanted("commands") {
        let large = Generated::at(&repositories, 200_000)?;
        made.add("commands", commands::table(&world, &large, rounds(12, 3, 2)));
    }
    if wanted("writes") {
        made.add("writes", writes::table(&world, &small, rounds(40, 6, 2)));
    }
    if wanted("workspaces") {
        let every = if quick { 4 } else { 8 };
        let large = Generated::at(&repositories, 200_000)?;
        for kind in world.kinds() {
            for (repository, counted, few) in [(&small, 40, 6), (&large, 24, 4)] {
                let rounds = rounds(counted, few, 2);
                made.add("workspaces", workspaces::table(&world, repository, rounds, every, kind));
            }
        }
        let rounds = rounds(8, 2, 1);
        let copies = workspaces::table(&world, &small, rounds, every, WorkspaceKind::Copy);
        made.add("workspaces", copies);
    }
    print!("{}", page::render(&Machine::of_process(&dir), &made.tables));
    ensure!(made.failed.is_empty(), "not measured: {}", made.failed.join(", "));
    Ok(())
}

/// The tables so far. Each is shown when it is there: all of them take half an hour, and whoever
/// waits wants to know, also of those that came before one that failed.
#[derive(Default)]
struct Made {
    tables: Vec<Table>,
    failed: Vec<&'static str>,
}

impl Made {
    fn add(&mut self, name: &'static str, table: anyhow::Result<Table>) {
        match table {
            Ok(table) => {
                eprintln!("{}", page::claims(&table));
                self.tables.push(table);
            }
            Err(error) => {
                eprintln!("{name}: {error:#}");
                self.failed.push(name);
            }
        }
    }
}
