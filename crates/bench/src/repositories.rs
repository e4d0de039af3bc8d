//! Repositories to measure on: generated once, reused, and always the same.
//!
//! Must never touch a repository that it did not make.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

/// Marks a repository whose making was not interrupted.
const COMPLETE: &str = "bench-complete";

/// A generated repository.
pub(crate) struct Generated {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// How many files its one commit has.
    pub(crate) files: usize,
}

impl Generated {
    /// The repository of so many files below `dir`, made if it is not there.
    ///
    /// # Errors
    /// What git says.
    pub(crate) fn at(dir: &Path, files: usize) -> anyhow::Result<Self> {
        let path = dir.join(files.to_string());
        let made = Self { path, files };
        if !made.path.join(".git").join(COMPLETE).exists() {
            made.make()?;
        }
        Ok(made)
    }

    fn make(&self) -> anyhow::Result<()> {
        let _ = std::fs::remove_dir_all(&self.path);
        std::fs::create_dir_all(&self.path)?;
        git(&self.path, &["init", "--quiet", "--initial-branch=main"])?;
        let mut import = command(&self.path, &["fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .context("git fast-import")?;
        let stdin = import.stdin.take().context("git fast-import has no input")?;
        write_history(std::io::BufWriter::new(stdin), self.files)?;
        ensure!(import.wait()?.success(), "git fast-import failed");
        std::fs::write(self.path.join(".git").join(COMPLETE), "")?;
        Ok(())
    }

    /// A linked worktree at `path`, with every file in it.
    ///
    /// # Errors
    /// What git says.
    pub(crate) fn add_worktree(&self, path: &Path) -> anyhow::Result<()> {
        let path = path.to_str().context("a path is not UTF-8")?;
        git(&self.path, &["worktree", "add", "--quiet", "--detach", path, "main"])
    }

    /// Takes a linked worktree away.
    ///
    /// # Errors
    /// What git says.
    pub(crate) fn remove_worktree(&self, path: &Path) -> anyhow::Result<()> {
        let path = path.to_str().context("a path is not UTF-8")?;
        git(&self.path, &["worktree", "remove", "--force", path])
    }

    /// The paths of the first `count` files of as many directories.
    pub(crate) fn some_files(&self, count: usize) -> Vec<String> {
        (0..count).map(|at| path_of(at * (self.files / count))).collect()
    }
}

fn path_of(number: usize) -> String {
    format!("part{:03}/group{:02}/file{number:06}.txt", number / 1000, number / 50 % 20)
}

fn write_history(mut to: impl std::io::Write, files: usize) -> std::io::Result<()> {
    let message = "generated\n";
    writeln!(to, "commit refs/heads/main")?;
    writeln!(to, "committer bench <bench@example.invalid> 1767225600 +0000")?;
    writeln!(to, "data {}\n{message}", message.len())?;
    for number in 0..files {
        let path = path_of(number);
        let mut text = String::new();
        for line in 0..24 {
            text.push_str(&format!("{path} line {line}: {}\n", number * 31 + line * 7));
        }
        writeln!(to, "M 100644 inline {path}\ndata {}\n{text}", text.len())?;
    }
    to.flush()
}

/// git on a repository of ours, without anybody's configuration.
pub(crate) fn command(repository: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .args(args)
        .current_dir(repository)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

/// Runs git and lets it say what is wrong.
///
/// # Errors
/// If it fails.
pub(crate) fn git(repository: &Path, args: &[&str]) -> anyhow::Result<()> {
    let status = command(repository, args).stdout(Stdio::null()).status()?;
    if !status.success() {
        bail!("failed ({status}): git {}", args.join(" "));
    }
    Ok(())
}
