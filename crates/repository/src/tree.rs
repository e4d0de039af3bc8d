//! Writes a result: a base's tree with changes put into it.
//!
//! One `git fast-import` takes everything as a stream, so that git never opens a path of a
//! session, memory stays bounded whatever the size of a file, and only directories that change are
//! read. Must never know where the bytes come from.

use std::fs;
use std::io::{BufWriter, Read, Write};
use std::process::{ChildStdin, Stdio};

use cofferdam_contract::change::{FileKind, TreeChange};
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;

use crate::error::RepositoryError;
use crate::locate::Repository;
use crate::names;
use crate::store::{Broker, parse_id, write_bare};

/// Changes with their content, in the order in which they are applied.
pub type Changes<'i, 'c> = dyn Iterator<Item = Result<TreeChange<'c>, Problem>> + 'i;

impl Broker {
    /// The tree that `base_tree` becomes when `changes` are applied in order; its objects are in
    /// the store afterwards. A removal takes everything beneath; a put replaces whatever is at the
    /// path or stands in its way. The same input gives the same tree.
    ///
    /// # Errors
    /// [`RepositoryError::PathRefused`], [`RepositoryError::ContentSize`],
    /// [`RepositoryError::Changes`] and failures of git. Nothing refers to what was written so far.
    pub fn write_tree(
        &self,
        repository: &Repository,
        base_tree: &ObjectId,
        changes: &mut Changes<'_, '_>,
    ) -> Result<ObjectId, RepositoryError> {
        let mut changes = changes.peekable();
        if changes.peek().is_none() {
            return Ok(base_tree.clone());
        }
        let store = self.inner.store_dir(repository.format);
        // A directory of its own for the refs and crash reports of this one import.
        let scratch = store.join(self.inner.scratch_name());
        let result = write_bare(&scratch, repository.format)
            .map_err(RepositoryError::io("a scratch directory could not be made"))
            .and_then(|()| import(repository, &scratch, base_tree, &mut changes));
        // What remains holds no objects and is swept by `collect_garbage`.
        let _ = fs::remove_dir_all(&scratch);
        result
    }
}

fn import(
    repository: &Repository,
    scratch: &std::path::Path,
    base_tree: &ObjectId,
    changes: &mut Changes<'_, '_>,
) -> Result<ObjectId, RepositoryError> {
    let objects = repository.inner.store_dir(repository.format).join("objects");
    let mut running = repository
        .objects_git_in(scratch, &[&repository.objects_dir()], "fast-import")
        .config("fastimport.unpackLimit=50")
        .args(["--quiet", "--done", "--date-format=raw"])
        .env("GIT_OBJECT_DIRECTORY", objects)
        .long()
        .start(Stdio::piped())?;
    let mut stdout = running.stdout()?;
    let stdin = running.stdin().ok_or(RepositoryError::Malformed("fast-import"))?;
    // If this fails git sees the end of its input too early and gives up by itself.
    let sent = send(stdin, base_tree, changes);
    let mut answer = Vec::new();
    let read = Read::by_ref(&mut stdout).take(4096).read_to_end(&mut answer);
    drop(stdout);
    let ended = running.succeed();
    match sent {
        Ok(()) => ended?,
        // Git's own words are better than "broken pipe".
        Err(Sent::Pipe(source)) => {
            ended?;
            return Err(RepositoryError::Io { what: "git stopped reading".to_owned(), source });
        }
        Err(Sent::Stopped(error)) => return Err(error),
    }
    read.map_err(RepositoryError::io("git's answer could not be read"))?;
    let id =
        answer.strip_prefix(b"040000 tree ").and_then(|rest| rest.split(|b| *b == b'\t').next());
    parse_id(id.ok_or(RepositoryError::Malformed("fast-import"))?, "fast-import")
}

enum Sent {
    Pipe(std::io::Error),
    Stopped(RepositoryError),
}

impl From<std::io::Error> for Sent {
    fn from(error: std::io::Error) -> Self {
        Self::Pipe(error)
    }
}

impl From<RepositoryError> for Sent {
    fn from(error: RepositoryError) -> Self {
        Self::Stopped(error)
    }
}

/// The stream of git-fast-import(1): a commit whose tree starts as the base's, the changes, and a
/// question for the tree that came of them.
fn send(stdin: ChildStdin, base: &ObjectId, changes: &mut Changes<'_, '_>) -> Result<(), Sent> {
    let mut out = BufWriter::with_capacity(64 << 10, stdin);
    write!(
        out,
        "commit refs/cofferdam/result\ncommitter Cofferdam <cofferdam@localhost> 0 +0000\n"
    )?;
    write!(out, "data 0\nM 040000 {base} \"\"\n")?;
    for change in changes {
        match change.map_err(RepositoryError::Changes)? {
            TreeChange::Remove { path } => {
                names::check(&path, None)?;
                writeln!(out, "D {}", quoted(&path))?;
            }
            TreeChange::Put { path, kind, size_bytes, content } => {
                names::check(&path, Some(kind))?;
                send_file(&mut out, &path, kind, size_bytes, content)?;
            }
        }
    }
    out.write_all(b"ls \"\"\ndone\n")?;
    out.flush()?;
    Ok(())
}

fn send_file(
    out: &mut impl Write,
    path: &RepoPath,
    kind: FileKind,
    announced_bytes: u64,
    mut content: Box<dyn Read + Send + '_>,
) -> Result<(), Sent> {
    writeln!(out, "M {} inline {}\ndata {announced_bytes}", kind.git_mode(), quoted(path))?;
    let unreadable = |source| {
        let what = format!("{path} could not be read");
        Sent::Stopped(RepositoryError::Io { what, source })
    };
    let wrong = || RepositoryError::ContentSize { path: path.clone(), announced_bytes };
    let mut chunk = vec![0_u8; 64 << 10];
    let mut left = announced_bytes;
    loop {
        let count = match content.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        left = left.checked_sub(count as u64).ok_or_else(wrong)?;
        out.write_all(&chunk[..count])?;
    }
    if left > 0 {
        return Err(wrong().into());
    }
    out.write_all(b"\n")?;
    Ok(())
}

/// A path as fast-import takes it whatever bytes it has.
fn quoted(path: &RepoPath) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("\"");
    for &byte in path.as_bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\') {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\{byte:03o}");
        }
    }
    text.push('"');
    text
}
